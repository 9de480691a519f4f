/** What the rules do with one connection, read straight from them: for a plugin author's own tests. */
import { parseAddress } from '../address.ts'
import { isNamed } from '../compile/localize.ts'
import { asList } from '../compile/rules.ts'
import type { Interception, Match } from '../plugin.ts'
import { containsAddress, containsValue, membersOf, type Use } from './members.ts'

export interface Connection {
  /** Default: outbound */
  readonly direction?: 'outbound' | 'inbound'
  /** Default: tcp */
  readonly proto?: 'tcp' | 'udp'
  /** Destination: an address of either family. */
  readonly to: string
  readonly port: number
  /** Outbound: the address that the socket is bound to, if it is. Inbound: the peer. */
  readonly from?: string
  /** Who calls; default 0. */
  readonly uid?: number
  readonly gid?: number
  readonly mark?: number
  /** Outbound: the interface of the route to the destination; default: 'lo' for the pod's own addresses, else none. Inbound: the one that it came in by. */
  readonly interface?: string
}

export interface Decision {
  /** Name of the rule; undefined: none matched, the connection passes. */
  readonly rule: string | undefined
  /** 'pass', 'drop' or the name of a target */
  readonly then: string
}

const isLoopback = (text: string) => text.startsWith('127.') || text === '::1'
const isPassthrough = (text: string | undefined) => text === '127.0.0.6' || text === '::6'

const isLocal = ({ direction, to, interface: by }: Connection, own: readonly string[]): boolean =>
  direction === 'inbound' || by === 'lo' || isLoopback(to) || to === '0.0.0.0' || to === '::' || own.includes(to)

function inFact(use: Use, name: string, connection: Connection, own: readonly string[]): boolean | undefined {
  const { to, from } = connection
  if (use === 'to' && name === 'pod') return isLocal(connection, own)
  if (use === 'to' && name === 'loopback') return to === '127.0.0.1' || to === '::1'
  if (use === 'from' && name === 'passthrough') return isPassthrough(from)
  if (use === 'from' && name === 'loopback') return from !== undefined && isLoopback(from) && !isPassthrough(from)
  return undefined
}

function inSet(use: Use, name: string, interception: Interception, connection: Connection, own: readonly string[]): boolean {
  const { direction, to, port, from, uid = 0, gid = 0, mark = 0 } = connection
  const spec = interception.sets?.[name] ?? {}
  const members = membersOf(use, spec)
  if (use === 'port') return containsValue(members, 'port', BigInt(port))
  const by = connection.interface ?? (direction !== 'inbound' && isLocal(connection, own) ? 'lo' : undefined)
  const way = by !== undefined && (use === 'from') === (direction === 'inbound') && (spec.interfaces ?? []).some((pattern) => isNamed(pattern, by))
  if (use === 'to') return way || containsAddress(members, to)
  const family = parseAddress(to)?.family
  const source = from ?? own.find((address) => parseAddress(address)?.family === family) ?? ''
  if (way || containsAddress(members, source)) return true
  if (direction === 'inbound') return false
  const marked = (spec.mark ?? []).some(({ value, mask }) => (mark & mask) >>> 0 === value)
  return marked || containsValue(members, 'uid', BigInt(uid)) || containsValue(members, 'gid', BigInt(gid))
}

/** The truth of each condition of the match. */
function conditions(match: Match, interception: Interception, connection: Connection, own: readonly string[]): boolean[] {
  const { proto = 'tcp', to } = connection
  const family = parseAddress(to)?.family === 6 ? 'ipv6' : 'ipv4'
  const sets = (['port', 'to', 'from'] as const).flatMap((use) =>
    asList(match[use]).map((name) => inFact(use, name, connection, own) ?? inSet(use, name, interception, connection, own)),
  )
  return [...(match.proto === undefined ? [] : [match.proto === proto]), ...(match.family === undefined ? [] : [match.family === family]), ...sets]
}

/** `own`: the pod's addresses. Sets of cgroups match nothing here. */
export function decide(interception: Interception, connection: Connection, own: readonly string[] = []): Decision {
  const rule = interception[connection.direction ?? 'outbound'].find(
    ({ when = {}, unless = {} }) =>
      conditions(when, interception, connection, own).every((holds) => holds) &&
      !conditions(unless, interception, connection, own).some((holds) => holds),
  )
  return rule === undefined ? { rule: undefined, then: 'pass' } : { rule: rule.name, then: rule.then }
}
