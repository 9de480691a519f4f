/** Answers a question about one pod from the maps that the programs read. */
import { type Address, formatAddress, isLoopback, parseAddress } from '../address.ts'
import type { CompiledPod } from '../compile/compile.ts'
import { endpointText } from '../compile/targets.ts'
import { Limit, Lookup, RouteKind } from '../contract.ts'
import { MerbridgeError } from '../errors.ts'
import { type Connection, evaluate, type MapReader, type Policy, policyOf, routeOf } from './evaluate.ts'
import { identify } from './identity.ts'
import { notesOn } from './notes.ts'
import { outcomeOf, type Surroundings } from './outcome.ts'
import type { Question } from './question.ts'
import type { ExplainView } from './view.ts'
import { factsInWords, failedBy, matchedBy, type RuleInWords, rulesInWords } from './words.ts'

export interface Subject {
  /** "default/web" */
  readonly name: string
  readonly netns: bigint
  readonly addresses: readonly string[]
  /** What the agent compiled for the pod last. */
  readonly compiled: CompiledPod | undefined
}

export type Kernel = Pick<Surroundings, 'read' | 'listens' | 'anyErrno'>

const asked = ({ who, protocol, family, to, source }: Question): ExplainView['connection'] => ({
  who,
  protocol,
  family: `ipv${family}`,
  to: endpointText(to.text, to.port),
  ...(source === undefined ? {} : { source: source.port === undefined ? source.text : endpointText(source.text, source.port) }),
})

/** Why no rule is asked; undefined: they are. */
function unseen({ protocol, who }: Question, { record }: Policy): string | undefined {
  if (protocol === 'tcp') return undefined
  if (who === 'inbound') return 'inbound rules see TCP only'
  return (record.lookups & Lookup.UDP) === 0
    ? 'the outbound rules of the pod do nothing with UDP but let it pass, so the datapath does not look at it'
    : undefined
}

function notAsked(pod: string, question: Question, reason: string): ExplainView {
  const { to } = question
  return {
    pod,
    connection: asked(question),
    assumed: [],
    intercepted: false,
    matched: [],
    earlier: [],
    facts: [],
    verdict: 'pass',
    result: `passes as it is: ${reason}`,
    to: endpointText(to.text, to.port),
    notes: [],
  }
}

const wrong = (message: string, hint: string) => new MerbridgeError('USAGE', message, hint)

/** Addresses for documentation, which no pod should have. */
const outsiders: Readonly<Record<4 | 6, readonly string[]>> = {
  4: ['192.0.2.1', '198.51.100.1', '203.0.113.1'],
  6: ['2001:db8::1', '2001:db8:ffff::1', '3fff::1'],
}

const isOwn = (read: MapReader, netns: bigint, address: Address): boolean =>
  isLoopback(address) || routeOf(read, netns, address)?.kind === RouteKind.LOCAL

function outsider(read: MapReader, netns: bigint, family: 4 | 6): Address {
  const candidates = outsiders[family].flatMap((text) => parseAddress(text) ?? [])
  const [first] = candidates.filter((address) => !isOwn(read, netns, address))
  if (first !== undefined) return first
  throw wrong('every address is local to the pod, so there is none that a caller has for sure', 'Say who calls: --source ADDRESS.')
}

const interfacesOf = ({ compiled }: Subject): Pick<Connection, 'interfaces'> =>
  compiled?.source === undefined ? {} : { interfaces: compiled.source.locality.interfaces }

/** A packet from outside has a destination of the pod and a source that is none. */
function inboundConnection(question: Question, subject: Subject, read: MapReader) {
  const { netns, addresses } = subject
  const { to, source, protocol, family } = question
  const dest = { family, words: to.words }
  if (isLoopback(dest)) {
    throw wrong(`nobody outside can connect to ${formatAddress(dest)}`, 'Leave out "inbound" to ask what the pod itself gets there.')
  }
  if (!isOwn(read, netns, dest)) {
    throw wrong(
      `${formatAddress(dest)} is not an address of the pod, so no connection from outside reaches the pod there`,
      `Its addresses: ${addresses.join(', ') || 'none'}.`,
    )
  }
  const from = source === undefined ? outsider(read, netns, family) : { family, words: source.words }
  if (isOwn(read, netns, from)) {
    throw wrong(
      `${formatAddress(from)} is the pod's own: connections from inside are decided when they are made`,
      'Leave out "inbound" to ask about them.',
    )
  }
  const assumed = source === undefined ? [`source ${formatAddress(from)}, some address outside of the pod`] : []
  const ends = { family, dest: dest.words, port: to.port, source: from.words }
  const connection: Connection = { netns, direction: 'inbound', protocol, ...ends, uid: 0, gid: 0, mark: 0, ...interfacesOf(subject) }
  return { connection, assumed }
}

function outboundConnection(question: Question, subject: Subject, policy: Policy, read: MapReader) {
  const { to, source, protocol, family } = question
  const { assumed, ...identity } = identify(question, read, policy, subject.compiled?.source)
  const connection: Connection = {
    netns: subject.netns,
    direction: 'outbound',
    protocol,
    family,
    dest: to.words,
    port: to.port,
    source: source?.words ?? [0, 0, 0, 0],
    ...identity,
    ...interfacesOf(subject),
  }
  const unbound = source === undefined ? ['the socket is not bound to a source'] : []
  const mapped = family === 4 && to.socket6 ? ['the socket takes IPv4 as well (IPV6_V6ONLY is off)'] : []
  return { connection, assumed: [...assumed, ...unbound, ...mapped] }
}

const plain = ({ direction, index, name, condition, then }: RuleInWords) => ({ direction, index, name, condition, then })

/** What the words for the rules lack. */
function onNames(compiled: CompiledPod | undefined): string[] {
  if (compiled === undefined) return ['the names of the rules are not known: the policy in the kernel is not the one that the agent compiled last']
  return compiled.source === undefined
    ? ['the pod keeps rules of before: what their sets contain is not known, and their names only if the agent has seen them since it started']
    : []
}

/** `subject` is in the kernel's pods. Throws DATAPATH_FAILED when its policy is not there, USAGE when the question makes no sense for the pod. */
export function answer(question: Question, subject: Subject, kernel: Kernel): ExplainView {
  const { read } = kernel
  const policy = policyOf(read, subject.netns)
  if (policy === undefined) {
    const what = `pod ${subject.name} names a policy that the kernel does not have: every connection of it is refused (no policy)`
    throw new MerbridgeError('DATAPATH_FAILED', what, "Look into the agent's log; a restart of the agent writes it again.")
  }
  const reason = unseen(question, policy)
  if (reason !== undefined) return notAsked(subject.name, question, reason)
  const inbound = question.who === 'inbound'
  const { connection, assumed } = inbound ? inboundConnection(question, subject, read) : outboundConnection(question, subject, policy, read)
  const evaluation = evaluate(read, policy, connection)
  const compiled = subject.compiled?.policy === policy.id ? subject.compiled : undefined
  const rules = rulesInWords(policy.record, connection.direction, compiled)
  const outcome = outcomeOf(policy, connection, evaluation, { ...kernel, portBound: (question.source?.port ?? 0) !== 0 })
  const rule = evaluation.rule === undefined ? undefined : rules[evaluation.rule]
  const { uid, gid, mark } = connection
  const { text, ...result } = outcome
  return {
    pod: subject.name,
    connection: {
      ...asked(question),
      ...(inbound ? { source: formatAddress({ family: question.family, words: connection.source }) } : { uid, gid, mark }),
    },
    assumed,
    intercepted: true,
    policy: policy.id.toString(16).padStart(16, '0'),
    ...(rule === undefined ? {} : { rule: plain(rule) }),
    matched: rule === undefined ? [] : matchedBy(rule, connection, evaluation),
    earlier: rules.slice(0, evaluation.rule ?? Limit.RULES).map((each) => ({ ...plain(each), failed: failedBy(each, connection, evaluation) })),
    facts: factsInWords(evaluation, rules),
    ...result,
    result: text,
    notes: [
      ...onNames(compiled),
      ...notesOn({ question, policy, connection, evaluation, outcome, kernel, isOwn: (address) => isOwn(read, subject.netns, address) }),
    ],
  }
}
