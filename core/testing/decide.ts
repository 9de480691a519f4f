/** What the rules do with one connection, read straight from them: for a plugin author's own tests. */
import { type Address, formatAddress, isLocalhost, isLoopback, isPassthrough, isZero, localhost, parseAddress } from '../address.ts'
import { isNamed } from '../compile/localize.ts'
import { asList } from '../compile/rules.ts'
import type { Interception, Match } from '../plugin.ts'
import { containsAddress, containsValue, membersOf, type Use } from './members.ts'

export interface Connection {
  /** Default: outbound */
  readonly direction?: 'outbound' | 'inbound'
  /** Default: tcp */
  readonly proto?: 'tcp' | 'udp'
  /** Destination: an address of either family; an IPv4-mapped one ('::ffff:10.1.2.3') is decided as IPv4. */
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
  /** The target has no address of the connection's family, which is refused. */
  readonly refused?: true
}

/** The text as an address; throws where it is none: a name would be in no set and on no side, and tests would pass for the wrong reason. */
function addressOf(text: string, what: string): Address {
  const address = parseAddress(text)
  if (address === undefined) throw new TypeError(`${what}: expected an IPv4 or IPv6 address without a zone, got '${text}'`)
  return address
}

const isSame = (a: Address, b: Address): boolean => a.family === b.family && a.words.every((word, index) => word === b.words[index])

/** Addresses of the pod: its own, and those that its lo has while it is enrolled, which are no usual sources. */
interface Own {
  readonly usual: readonly string[]
  readonly all: readonly string[]
}

function isLocal({ direction, to, interface: by }: Connection, own: Own): boolean {
  const dest = addressOf(to, 'to')
  const isOwn = own.all.some((text) => isSame(dest, addressOf(text, "the pod's address")))
  return direction === 'inbound' || by === 'lo' || isLoopback(dest) || isOwn
}

function inFact(use: Use, name: string, connection: Connection, own: Own): boolean | undefined {
  const { to, from, direction } = connection
  if (use === 'to' && name === 'pod') return isLocal(connection, own)
  if (use === 'to' && name === 'loopback') return isLocalhost(addressOf(to, 'to'))
  if (use !== 'from' || (name !== 'passthrough' && name !== 'loopback')) return undefined
  if (from === undefined || direction === 'inbound') return false
  const source = addressOf(from, 'from')
  return name === 'passthrough' ? isPassthrough(source) : isLoopback(source) && !isPassthrough(source)
}

function inSet(use: Use, name: string, interception: Interception, connection: Connection, own: Own): boolean {
  const { direction, to, port, from, uid = 0, gid = 0, mark = 0 } = connection
  const spec = interception.sets?.[name] ?? {}
  const members = membersOf(use, spec)
  if (use === 'port') return containsValue(members, 'port', BigInt(port))
  const by = connection.interface ?? (direction !== 'inbound' && isLocal(connection, own) ? 'lo' : undefined)
  const way = by !== undefined && (use === 'from') === (direction === 'inbound') && (spec.interfaces ?? []).some((pattern) => isNamed(pattern, by))
  if (use === 'to') return way || containsAddress(members, to)
  const { family } = addressOf(to, 'to')
  const source = from ?? own.usual.find((address) => parseAddress(address)?.family === family) ?? ''
  if (way || containsAddress(members, source)) return true
  if (direction === 'inbound') return false
  const marked = (spec.mark ?? []).some(({ value, mask }) => (mark & mask) >>> 0 === value)
  return marked || containsValue(members, 'uid', BigInt(uid)) || containsValue(members, 'gid', BigInt(gid))
}

/** The truth of each condition of the match. */
function conditions(match: Match, interception: Interception, connection: Connection, own: Own): boolean[] {
  const { proto = 'tcp', to } = connection
  const family = `ipv${addressOf(to, 'to').family}`
  const sets = (['port', 'to', 'from'] as const).flatMap((use) =>
    asList(match[use]).map((name) => inFact(use, name, connection, own) ?? inSet(use, name, interception, connection, own)),
  )
  return [...(match.proto === undefined ? [] : [match.proto === proto]), ...(match.family === undefined ? [] : [match.family === family]), ...sets]
}

/** As the kernel programs see it: IPv4 for a mapped address, and what 0.0.0.0 and :: stand for. */
function resolved(connection: Connection): Connection {
  const dest = addressOf(connection.to, 'to')
  const from = connection.from === undefined ? {} : { from: formatAddress(addressOf(connection.from, 'from')) }
  if (!isZero(dest) || connection.direction === 'inbound') return { ...connection, ...from, to: formatAddress(dest) }
  const own = formatAddress({ family: dest.family, words: localhost[dest.family] })
  return { ...connection, ...from, to: dest.family === 4 ? (from.from ?? own) : own }
}

function lacksFamily({ targets = {} }: Interception, then: string, to: string): boolean {
  const target = Object.hasOwn(targets, then) ? targets[then] : undefined
  return target?.[addressOf(to, 'to').family === 6 ? 'ipv6' : 'ipv4'] === false
}

/** `addresses`: the pod's; those of lo that the rules want (`loopbackAddresses`) count as its own besides. Sets of cgroups match nothing here. Inbound rules see TCP only: UDP passes. */
export function decide(interception: Interception, asked: Connection, addresses: readonly string[] = []): Decision {
  const own = { usual: addresses, all: [...addresses, ...(interception.loopbackAddresses ?? [])] }
  const connection = resolved(asked)
  const { direction = 'outbound', proto, to } = connection
  const rules = direction === 'inbound' && proto === 'udp' ? [] : interception[direction]
  const rule = rules.find(
    ({ when = {}, unless = {} }) =>
      conditions(when, interception, connection, own).every((holds) => holds) &&
      !conditions(unless, interception, connection, own).some((holds) => holds),
  )
  if (rule === undefined) return { rule: undefined, then: 'pass' }
  const refused = direction === 'outbound' && lacksFamily(interception, rule.then, to)
  return { rule: rule.name, then: rule.then, ...(refused ? { refused } : {}) }
}
