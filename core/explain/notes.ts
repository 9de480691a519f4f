/** What else should be known of an answer, a sentence each. Pure. */
import { type Address, formatAddress, isLinkLocal, isLoopback, isMulticast, isZero, parseAddress } from '../address.ts'
import { AskerNetwork, Lookup, RouteKind } from '../contract.ts'
import type { Connection, Evaluation, Policy } from './evaluate.ts'
import type { Outcome, Surroundings } from './outcome.ts'
import type { Question } from './question.ts'

export interface Answered {
  readonly question: Question
  readonly policy: Policy
  readonly connection: Connection
  readonly evaluation: Evaluation
  readonly outcome: Outcome
  readonly kernel: Pick<Surroundings, 'listens'>
  readonly isOwn: (address: Address) => boolean
}

/** Networks of the sources that tell a socket's servers apart (bpf/contract-udp.h). */
const ids: Readonly<Record<4 | 6, string>> = {
  4: `${formatAddress({ family: 4, words: [AskerNetwork.NETWORK4, 0, 0, 0] })}/10`,
  6: `${formatAddress({ family: 6, words: [AskerNetwork.NETWORK6_0, AskerNetwork.NETWORK6_1, 0, 0] })}/96`,
}

/** How the destination was read. */
function onDestination({ question, connection, evaluation, outcome }: Answered): string[] {
  const { to, who, family } = question
  const dest = formatAddress({ family, words: evaluation.dest })
  if (isZero(to)) return who === 'inbound' ? [] : [`${to.text} is the pod itself: ${dest}`]
  if (to.socket6 && family === 4) {
    const form = who === 'inbound' ? 'what comes in is IPv4, whatever socket takes it' : 'the app sees the form that it used'
    return [`${to.text} is an IPv4 address on an IPv6 socket: it is decided as ${dest}, and ${form}`]
  }
  const zoneless = outcome.verdict === 'pass' && connection.direction === 'outbound' && isLinkLocal({ family, words: evaluation.dest })
  return zoneless ? [`${dest} is link-local: without a zone, or a device that the socket is bound to, connect() fails with EINVAL`] : []
}

function onSource({ connection, isOwn }: Answered): string[] {
  const source = { family: connection.family, words: connection.source }
  if (connection.direction === 'inbound' || isZero(source) || isOwn(source)) return []
  return [`${formatAddress(source)} is not an address of the pod: bind() fails there (EADDRNOTAVAIL)`]
}

/** Where it was sent, when that is known to be in the pod. */
function redirectedTo({ to = '', verdict }: Outcome): { readonly address: Address; readonly port: number } | undefined {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(to) ?? []
  const address = parseAddress(host)
  return verdict !== 'redirect' || address === undefined ? undefined : { address, port: Number(port) }
}

/** What the kernel refuses, whatever the rules say. */
function onSending({ connection: { family, port }, evaluation: { dest: words, route }, outcome }: Answered): string[] {
  const dest = { family, words }
  // For TCP a broadcast address is one without a route, and so the mirror of the routes has it.
  const isBroadcast = words[0] === 0xffffffff || (!isMulticast(dest) && route?.kind === RouteKind.UNREACHABLE)
  return [
    ...(port === 0 ? ['port 0: connect() takes it, but sendto() fails with EINVAL before any rule is asked'] : []),
    ...(family === 4 && isBroadcast && outcome.verdict === 'pass' && outcome.errno === undefined
      ? [`${formatAddress(dest)} is taken for a broadcast address: a socket without SO_BROADCAST gets EACCES there`]
      : []),
  ]
}

function onDatagrams(answered: Answered): string[] {
  const { question, connection, outcome, isOwn } = answered
  const { family } = connection
  const sent = redirectedTo(outcome)
  if (sent === undefined) return onSending(answered)
  const port = question.source?.port ?? 0
  const anyAddress = question.source === undefined || isZero(question.source)
  return [
    ...onSending(answered),
    isOwn(sent.address)
      ? `so it is for the first server that a socket asks; on the way to each further one an id (${ids[family]}) stands for the socket or for the proxy, so that every answer comes from the server that was asked`
      : `so it is for the first server that a socket asks; ${formatAddress(sent.address)} is outside of the pod, and a UDP socket may ask one server only through it: a second one gets EINVAL`,
    ...(port !== 0 && anyAddress
      ? ['connect() of a socket with a bound port cannot give it a source: the proxy sees loopback, the app its own address']
      : []),
    ...(isLoopback(sent.address) ? [`who has UDP port ${sent.port} in the pod is not looked at: if nobody has, the app gets ECONNREFUSED`] : []),
  ]
}

function onListeners({ connection: { family }, outcome, kernel }: Answered): string[] {
  const sent = redirectedTo(outcome)
  if (sent === undefined || !isLoopback(sent.address)) return []
  const found = kernel.listens(sent.port, family)
  if (found === 'yes') return []
  const who = found === 'no' ? 'nobody is known to listen' : `somebody is known to listen, but not for IPv${family},`
  return [`${who} on port ${sent.port} of the pod: unless somebody does, connect() fails with ECONNREFUSED`]
}

export function notesOn(answered: Answered): string[] {
  const { policy, connection } = answered
  if (connection.direction === 'inbound') return onDestination(answered)
  return [
    ...onDestination(answered),
    ...onSource(answered),
    ...((policy.record.lookups & Lookup.CGROUPS) !== 0 ? ['sets of cgroups are taken as not matching'] : []),
    ...(connection.protocol === 'udp' ? onDatagrams(answered) : onListeners(answered)),
  ]
}
