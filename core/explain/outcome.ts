/**
 * What a verdict means for the connection, or for a datagram: where it goes, with which source, or how it fails; as bpf/connect.bpf.c, bpf/inbound.bpf.c and
 * the hooks for datagrams do it.
 */
import { getSystemErrorName } from 'node:util'
import { type Address, formatAddress, isLinkLocal, isLocalhost, isLoopback, isMulticast, isZero, localhost, type Words } from '../address.ts'
import { endpointText } from '../compile/targets.ts'
import { RouteKind, TargetFamily, type TargetRecord, Verdict } from '../contract.ts'
import { type Connection, type Evaluation, type MapReader, type Policy, routeOf, sourceOf } from './evaluate.ts'

export interface Outcome {
  readonly verdict: 'pass' | 'redirect' | 'refused'
  /** A sentence without its subject: "goes to 127.0.0.1:15001". */
  readonly text: string
  /** Where it ends up; absent: nowhere. */
  readonly to?: string
  /** The source address that the other end sees; absent: it is not known here. */
  readonly source?: string
  /** What connect() fails with, or what sends the datagram. */
  readonly errno?: string
  /** Name of the counter of refusals. */
  readonly reason?: string
}

/** 'other family': somebody listens there, but takes no connections of this family. */
export type Listens = 'yes' | 'no' | 'other family'

export interface Surroundings {
  readonly read: MapReader
  /** The kernel lets programs refuse with any errno (bpf_set_retval). */
  readonly anyErrno: boolean
  /** The pod's source port is bound, with the address left open. */
  readonly portBound: boolean
  /** Somebody listens there for the datapath. */
  readonly listens: (port: number, family: 4 | 6) => Listens
}

const EPERM = 1
const EINVAL = 22
const ENETUNREACH = 101
const ECONNREFUSED = 111

const named = (error: number): string => getSystemErrorName(-error)

/** Without bpf_set_retval only these two are told apart, and only for TCP. */
const told = (error: number, { protocol }: Connection, anyErrno: boolean): number =>
  anyErrno || (protocol === 'tcp' && (error === ENETUNREACH || error === ECONNREFUSED)) ? error : EPERM

/** Why the kernel sends nothing there. */
interface Problem {
  readonly error: number
  readonly why: string
}

function routingProblem({ local, route, dest }: Evaluation, { family, source }: Connection): Problem | undefined {
  const noWay = (error: number): Problem => ({ error, why: `routing has no way to ${textOf(family, dest)}` })
  if (route?.kind === RouteKind.UNREACHABLE) return noWay(route.error)
  if (local) return undefined
  if (route === undefined) return noWay(ENETUNREACH)
  const isStuck = family === 4 && isLoopback({ family, words: source })
  return isStuck ? { error: EINVAL, why: `a loopback source (${textOf(family, source)}) cannot leave the pod` } : undefined
}

/** The call that fails. */
const call = ({ protocol }: Connection): string => (protocol === 'udp' ? 'connect() or sendto()' : 'connect()')

function refused(reason: string, error: number, why: string, connection: Connection, anyErrno: boolean): Outcome {
  const errno = named(told(error, connection, anyErrno))
  return { verdict: 'refused', reason, errno, text: `is refused: ${why}; ${call(connection)} fails with ${errno}` }
}

const textOf = (family: 4 | 6, words: Words): string => formatAddress({ family, words })

const withSource = (text: string, family: 4 | 6, source: Words): Pick<Outcome, 'text' | 'source'> =>
  isZero({ words: source }) ? { text } : { text: `${text}, with source ${textOf(family, source)}`, source: textOf(family, source) }

/** The source that routing, or the datapath in its place, gives an unbound socket; zero: not known. */
function chosenSource({ route, local, dest }: Evaluation): Words {
  const source = sourceOf(route)
  return isZero({ words: source }) && local ? dest : source
}

/** TCP cannot connect there, which the mirror of the routes is made for; UDP can send there. */
const isOnlyForUdp = ({ protocol, family }: Connection, { dest, route }: Evaluation): boolean =>
  protocol === 'udp' && (isMulticast({ family, words: dest }) || (route?.kind === RouteKind.UNREACHABLE && route.error === ENETUNREACH))

function passes(connection: Connection, evaluation: Evaluation): Outcome {
  const { family, port, source } = connection
  const to = endpointText(textOf(family, evaluation.dest), port)
  const problem = isOnlyForUdp(connection, evaluation) ? undefined : routingProblem(evaluation, connection)
  if (problem !== undefined) {
    const errno = named(problem.error)
    return { verdict: 'pass', errno, text: `is left as it is; but ${problem.why}, and ${call(connection)} fails with ${errno}` }
  }
  return { verdict: 'pass', to, ...withSource(`passes to ${to} as it is`, family, isZero({ words: source }) ? chosenSource(evaluation) : source) }
}

function addressOf({ families, addr4, addr6 }: TargetRecord, family: 4 | 6): Address | undefined {
  if ((families & (family === 6 ? TargetFamily.IPV6 : TargetFamily.IPV4)) === 0) return undefined
  return { family, words: family === 6 ? (addr6 as unknown as Words) : [addr4, 0, 0, 0] }
}

function redirects(target: TargetRecord, connection: Connection, evaluation: Evaluation, around: Surroundings): Outcome {
  const { family, protocol, netns } = connection
  const refuse = (reason: string, error: number, why: string) => refused(reason, error, why, connection, around.anyErrno)
  const problem = routingProblem(evaluation, connection)
  if (problem !== undefined) return refuse('no route', problem.error, problem.why)
  const address = addressOf(target, family)
  if (address === undefined) return refuse('no family', ECONNREFUSED, `the target has no IPv${family} address`)
  const at = (words: Words, source: Words): Outcome => {
    const to = endpointText(textOf(family, words), target.port || connection.port)
    return { verdict: 'redirect', to, ...withSource(`goes to ${to}`, family, source) }
  }
  if (!isZero({ words: connection.source })) return at(address.words, connection.source)
  if (protocol === 'tcp' && !isLoopback(address)) return at(address.words, sourceOf(routeOf(around.read, netns, address)))
  const source = chosenSource(evaluation)
  if (isZero({ words: source })) return refuse('no source', ECONNREFUSED, 'no source address is known for the route')
  // Not bound there: loopback is what it gets anyway, and a link-local address would bind the device as well.
  if (isLocalhost({ family, words: source }) || isLinkLocal({ family, words: source })) return at(address.words, localhost[family])
  // A socket that was bound to 0.0.0.0:PORT cannot be bound again: it goes to the pod's own address, where the proxy takes it too.
  return at(protocol === 'tcp' && around.portBound ? source : address.words, source)
}

function inboundOutcome(target: TargetRecord | undefined, connection: Connection, { listens }: Surroundings): Outcome {
  const { port, dest, source, family } = connection
  const from = { source: textOf(family, source) }
  if (target === undefined) {
    const to = endpointText(textOf(family, dest), port)
    return { verdict: 'pass', to, text: `passes to whoever listens on port ${port} of the pod`, ...from }
  }
  const found = listens(target.port, family)
  if (found === 'yes')
    return { verdict: 'redirect', to: `port ${target.port}`, text: `is handed to the proxy's listener on port ${target.port}`, ...from }
  if (found === 'no') return reset('no listener', `nobody listens on the proxy's port ${target.port}`)
  return reset('assign', `the proxy listens on port ${target.port}, but not for IPv${family}`)
}

const reset = (reason: string, why: string): Outcome => ({
  verdict: 'refused',
  reason,
  errno: named(ECONNREFUSED),
  text: `is refused: ${why}; the caller gets a reset (ECONNREFUSED)`,
})

export function outcomeOf({ record }: Policy, connection: Connection, evaluation: Evaluation, around: Surroundings): Outcome {
  const outbound = connection.direction === 'outbound'
  const rule = evaluation.rule === undefined ? undefined : (outbound ? record.outbound : record.inbound)[evaluation.rule]
  if (rule === undefined || rule.verdict === Verdict.PASS)
    return outbound ? passes(connection, evaluation) : inboundOutcome(undefined, connection, around)
  if (rule.verdict === Verdict.DROP)
    return outbound ? refused('rule', ECONNREFUSED, 'the rule says so', connection, around.anyErrno) : reset('rule', 'the rule says so')
  const target = record.targets[rule.target]
  if (target === undefined) return refused('bad rule', ECONNREFUSED, 'the rule names a target that does not exist', connection, around.anyErrno)
  return outbound ? redirects(target, connection, evaluation, around) : inboundOutcome(target, connection, around)
}
