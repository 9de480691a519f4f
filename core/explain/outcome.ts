/** What a verdict means for the connection: where it goes, with which source, or how it fails; as bpf/connect.bpf.c and bpf/inbound.bpf.c do it. */
import { getSystemErrorName } from 'node:util'
import { formatAddress } from '../address.ts'
import { RouteKind, TargetFamily, type TargetRecord, Verdict } from '../contract.ts'
import { type Connection, type Evaluation, isLoopback, type MapReader, type Policy, routeOf } from './evaluate.ts'

export interface Outcome {
  readonly verdict: 'pass' | 'redirect' | 'refused'
  /** A sentence without its subject: "goes to 127.0.0.1:15001". */
  readonly text: string
  /** Where it ends up; absent: nowhere. */
  readonly to?: string
  /** The source address that the other end sees; absent: it is not known here. */
  readonly source?: string
  /** What connect() fails with. */
  readonly errno?: string
  /** Name of the counter of refusals. */
  readonly reason?: string
}

export interface Surroundings {
  readonly read: MapReader
  /** The kernel lets programs refuse with any errno (bpf_set_retval). */
  readonly anyErrno: boolean
  /** The pod's source port is bound, with the address left open. */
  readonly portBound: boolean
  /** Somebody listens there for the datapath. */
  readonly listens: (port: number) => boolean
}

const EPERM = 1
const EINVAL = 22
const ENETUNREACH = 101
const ECONNREFUSED = 111
const loopback = 0x7f000001

export const ipv4 = (address: number): string => formatAddress({ family: 4, words: [address, 0, 0, 0] })

const named = (error: number): string => getSystemErrorName(-error)

/** Without bpf_set_retval only these two are told apart. */
const told = (error: number, anyErrno: boolean): number => (anyErrno || error === ENETUNREACH || error === ECONNREFUSED ? error : EPERM)

function routingError({ local, route }: Evaluation, source: number): number {
  if (route?.kind === RouteKind.UNREACHABLE) return route.error
  if (local) return 0
  if (route === undefined) return ENETUNREACH
  return isLoopback(source) ? EINVAL : 0
}

const refused = (reason: string, error: number, why: string, { anyErrno }: Surroundings): Outcome => {
  const errno = named(told(error, anyErrno))
  return { verdict: 'refused', reason, errno, text: `is refused: ${why}; connect() fails with ${errno}` }
}

const withSource = (text: string, source: number): Pick<Outcome, 'text' | 'source'> =>
  source === 0 ? { text } : { text: `${text}, with source ${ipv4(source)}`, source: ipv4(source) }

/** The source that routing, or the datapath in its place, gives an unbound socket; 0: not known. */
const chosenSource = ({ route, local, dest }: Evaluation): number => route?.source[0] || (local ? dest : 0)

function passes(connection: Connection, evaluation: Evaluation): Outcome {
  const to = `${ipv4(evaluation.dest)}:${connection.port}`
  const error = routingError(evaluation, connection.source)
  if (error !== 0) {
    const errno = named(error)
    return { verdict: 'pass', errno, text: `is left as it is; routing then has no way to ${to}, and connect() fails with ${errno}` }
  }
  return { verdict: 'pass', to, ...withSource(`passes to ${to} as it is`, connection.source || chosenSource(evaluation)) }
}

function redirects(target: TargetRecord, connection: Connection, evaluation: Evaluation, around: Surroundings): Outcome {
  const error = routingError(evaluation, connection.source)
  if (error !== 0) return refused('no route', error, `routing has no way to ${ipv4(evaluation.dest)}`, around)
  if ((target.families & TargetFamily.IPV4) === 0) return refused('no family', ECONNREFUSED, 'the target has no IPv4 address', around)
  const port = target.port || connection.port
  const at = (address: number, source: number): Outcome => {
    const to = `${ipv4(address)}:${port}`
    return { verdict: 'redirect', to, ...withSource(`goes to ${to}`, source) }
  }
  if (connection.source !== 0) return at(target.addr4, connection.source)
  if (!isLoopback(target.addr4)) return at(target.addr4, routeOf(around.read, connection.netns, target.addr4)?.source[0] ?? 0)
  const source = chosenSource(evaluation)
  if (source === 0) return refused('no source', ECONNREFUSED, 'no source address is known for the route', around)
  // A socket that was bound to 0.0.0.0:PORT cannot be bound again: it goes to the pod's own address, where the proxy takes it too.
  return at(around.portBound && source !== loopback ? source : target.addr4, source)
}

function inboundOutcome(target: TargetRecord | undefined, connection: Connection, { listens }: Surroundings): Outcome {
  const { port, dest, source } = connection
  const reset = (reason: string, why: string): Outcome => ({
    verdict: 'refused',
    reason,
    errno: named(ECONNREFUSED),
    text: `is refused: ${why}; the caller gets a reset (ECONNREFUSED)`,
  })
  const from = { source: ipv4(source) }
  if (target === undefined)
    return { verdict: 'pass', to: `${ipv4(dest)}:${port}`, text: `passes to whoever listens on port ${port} of the pod`, ...from }
  if (!listens(target.port)) return reset('no listener', `nobody listens on the proxy's port ${target.port}`)
  return { verdict: 'redirect', to: `port ${target.port}`, text: `is handed to the proxy's listener on port ${target.port}`, ...from }
}

export function outcomeOf({ record }: Policy, connection: Connection, evaluation: Evaluation, around: Surroundings): Outcome {
  const outbound = connection.direction === 'outbound'
  const rule = evaluation.rule === undefined ? undefined : (outbound ? record.outbound : record.inbound)[evaluation.rule]
  const passing = () => (outbound ? passes(connection, evaluation) : inboundOutcome(undefined, connection, around))
  if (rule === undefined || rule.verdict === Verdict.PASS) return passing()
  if (rule.verdict === Verdict.DROP) return refused('rule', ECONNREFUSED, 'the rule says so', outbound ? around : { ...around, anyErrno: true })
  const target = record.targets[rule.target]
  if (target === undefined) return refused('bad rule', ECONNREFUSED, 'the rule names a target that does not exist', around)
  return outbound ? redirects(target, connection, evaluation, around) : inboundOutcome(target, connection, around)
}
