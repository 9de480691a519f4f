/** Answers a question about one pod from the maps that the programs read. */
import type { CompiledPod } from '../compile/compile.ts'
import { Limit, Lookup, RouteKind } from '../contract.ts'
import { MerbridgeError } from '../errors.ts'
import { type Connection, type Evaluation, evaluate, isLoopback, type MapReader, type Policy, policyOf, routeOf } from './evaluate.ts'
import { identify } from './identity.ts'
import { ipv4, type Outcome, outcomeOf } from './outcome.ts'
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

export interface Kernel {
  readonly read: MapReader
  /** Somebody listens on the port for the datapath. */
  readonly listens: (port: number) => boolean
  /** bpf_set_retval */
  readonly anyErrno: boolean
}

const endpoint = (text: string, port: number) => (text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`)

const asked = ({ who, protocol, to, source }: Question): ExplainView['connection'] => ({
  who,
  protocol,
  to: endpoint(to.text, to.port),
  ...(source === undefined ? {} : { source: source.port === undefined ? source.text : endpoint(source.text, source.port) }),
})

/** Connections that no program of this build decides; undefined: one does. */
function unseen({ protocol, to, who }: Question): string | undefined {
  if (protocol === 'udp') return 'UDP is not intercepted in this build'
  if (to.family === 6) return 'IPv6 is not intercepted in this build'
  return to.socket6 && who !== 'inbound' ? 'an IPv4 address on an IPv6 socket is not intercepted in this build' : undefined
}

function notIntercepted(pod: string, question: Question, reason: string): ExplainView {
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
    to: endpoint(to.text, to.port),
    notes: [],
  }
}

const wrong = (message: string, hint: string) => new MerbridgeError('USAGE', message, hint)

const outsiders = ['192.0.2.1', '198.51.100.1', '203.0.113.1']
const numberOf = (text: string): number => text.split('.').reduce((word, octet) => word * 256 + Number(octet), 0)

const isOwn = (read: MapReader, netns: bigint, address: number): boolean =>
  isLoopback(address) || routeOf(read, netns, address)?.kind === RouteKind.LOCAL

const interfacesOf = ({ compiled }: Subject): Pick<Connection, 'interfaces'> =>
  compiled?.source === undefined ? {} : { interfaces: compiled.source.locality.interfaces }

/** A packet from outside has a destination of the pod and a source that is none. */
function inboundConnection({ to, source }: Question, subject: Subject, read: MapReader) {
  const { netns, addresses } = subject
  const [dest] = to.words
  if (isLoopback(dest)) throw wrong(`nobody outside can connect to ${ipv4(dest)}`, 'Leave out "inbound" to ask what the pod itself gets there.')
  if (!isOwn(read, netns, dest)) {
    throw wrong(
      `${ipv4(dest)} is not an address of the pod, so no connection from outside reaches the pod there`,
      `Its addresses: ${addresses.join(', ') || 'none'}.`,
    )
  }
  const from = source?.words[0] ?? outsiders.map(numberOf).find((address) => !isOwn(read, netns, address)) ?? 0
  if (isOwn(read, netns, from)) {
    throw wrong(`${ipv4(from)} is the pod's own: connections from inside are decided when they are made`, 'Leave out "inbound" to ask about them.')
  }
  const assumed = source === undefined ? [`source ${ipv4(from)}, some address outside of the pod`] : []
  const connection = { netns, direction: 'inbound', dest, port: to.port, source: from, uid: 0, gid: 0, mark: 0, ...interfacesOf(subject) } as const
  return { connection, assumed }
}

function outboundConnection(question: Question, subject: Subject, policy: Policy, read: MapReader) {
  const { to, source } = question
  const { assumed, ...identity } = identify(question, read, policy, subject.compiled?.source)
  const connection: Connection = {
    netns: subject.netns,
    direction: 'outbound',
    dest: to.words[0],
    port: to.port,
    source: source?.words[0] ?? 0,
    ...identity,
    ...interfacesOf(subject),
  }
  return { connection, assumed: source === undefined ? [...assumed, 'the socket is not bound to a source'] : assumed }
}

function notesOn(
  policy: Policy,
  connection: Connection,
  { dest }: Evaluation,
  outcome: Outcome,
  { read, listens }: Kernel,
  known: boolean,
): string[] {
  const { netns, source, direction } = connection
  const outbound = direction === 'outbound'
  const [, port = ''] = outcome.to?.split(':') ?? []
  return [
    ...(known ? [] : ['the names of the rules are not known: the policy in the kernel is not the one that the agent compiled last']),
    ...(outbound && connection.dest === 0 ? [`0.0.0.0 is the pod itself: ${ipv4(dest)}`] : []),
    ...(outbound && source !== 0 && !isOwn(read, netns, source)
      ? [`${ipv4(source)} is not an address of the pod: bind() fails there (EADDRNOTAVAIL)`]
      : []),
    ...(outbound && (policy.record.lookups & Lookup.CGROUPS) !== 0 ? ['sets of cgroups are taken as not matching'] : []),
    ...(outbound && outcome.verdict === 'redirect' && isLoopback(numberOf(outcome.to?.split(':')[0] ?? '')) && !listens(Number(port))
      ? [`nobody is known to listen on port ${port} of the pod: unless somebody does, connect() fails with ECONNREFUSED`]
      : []),
  ]
}

const plain = ({ direction, index, name, condition, then }: RuleInWords) => ({ direction, index, name, condition, then })

/** `subject` is in the kernel's pods. Throws DATAPATH_FAILED when its policy is not there, USAGE when the question makes no sense for the pod. */
export function answer(question: Question, subject: Subject, kernel: Kernel): ExplainView {
  const { read, listens, anyErrno } = kernel
  const policy = policyOf(read, subject.netns)
  if (policy === undefined) {
    const what = `pod ${subject.name} names a policy that the kernel does not have: every connection of it is refused (no policy)`
    throw new MerbridgeError('DATAPATH_FAILED', what, "Look into the agent's log; a restart of the agent writes it again.")
  }
  const reason = unseen(question)
  if (reason !== undefined) return notIntercepted(subject.name, question, reason)
  const inbound = question.who === 'inbound'
  const { connection, assumed } = inbound ? inboundConnection(question, subject, read) : outboundConnection(question, subject, policy, read)
  const evaluation = evaluate(read, policy, connection)
  const compiled = subject.compiled?.policy === policy.id && subject.compiled.source !== undefined ? subject.compiled : undefined
  const rules = rulesInWords(policy.record, connection.direction, compiled)
  const outcome = outcomeOf(policy, connection, evaluation, { read, anyErrno, listens, portBound: (question.source?.port ?? 0) !== 0 })
  const rule = evaluation.rule === undefined ? undefined : rules[evaluation.rule]
  const { uid, gid, mark } = connection
  const { text, ...result } = outcome
  return {
    pod: subject.name,
    connection: { ...asked(question), ...(inbound ? { source: ipv4(connection.source) } : { uid, gid, mark }) },
    assumed,
    intercepted: true,
    policy: policy.id.toString(16).padStart(16, '0'),
    ...(rule === undefined ? {} : { rule: plain(rule) }),
    matched: rule === undefined ? [] : matchedBy(rule, connection, evaluation),
    earlier: rules.slice(0, evaluation.rule ?? Limit.RULES).map((each) => ({ ...plain(each), failed: failedBy(each, connection, evaluation) })),
    facts: factsInWords(evaluation, rules),
    ...result,
    result: text,
    notes: notesOn(policy, connection, evaluation, outcome, kernel, compiled !== undefined),
  }
}
