/**
 * What the programs do with a connection or a datagram, from the maps that they read: the fact word as bpf/attempt.bpf.h and bpf/inbound.bpf.c make it, and
 * the first rule that matches. A lookup in a trie with a key of full length is the kernel's own longest-prefix match.
 */
import { type Address, addressBits, isLocalhost, isLoopback, isPassthrough, isZero, localhost, type Words, zeroWords } from '../address.ts'
import { u64Codec } from '../codec.ts'
import type { MapName } from '../compile/maps.ts'
import {
  CidrKind,
  cidrKeyCodec,
  Fact,
  Lookup,
  membersCodec,
  OwnerKind,
  ownerKeyCodec,
  type PolicyRecord,
  podCodec,
  policyCodec,
  portKeyCodec,
  RouteKind,
  type RouteRecord,
  routeCodec,
  routeKeyCodec,
} from '../contract.ts'

export type MapReader = (map: MapName, key: Buffer) => Uint8Array | undefined

export interface Connection {
  readonly netns: bigint
  readonly direction: 'outbound' | 'inbound'
  readonly protocol: 'tcp' | 'udp'
  /** As it is decided: that of an IPv4-mapped address is 4. */
  readonly family: 4 | 6
  readonly dest: Words
  readonly port: number
  /** Outbound: what the socket is bound to, zero for nothing. Inbound: the peer. */
  readonly source: Words
  /** Outbound only: uid and gid as the pod has them. */
  readonly uid: number
  readonly gid: number
  readonly mark: number
  /** What the programs see of uid and gid when the pod has a user namespace of its own: ids of the initial one; -1: there is none. */
  readonly owner?: { readonly uid: number; readonly gid: number }
  /** The pod's, for words. */
  readonly interfaces?: readonly { readonly index: number; readonly name: string }[]
}

export interface Policy {
  readonly id: bigint
  readonly record: PolicyRecord
}

export interface Evaluation {
  readonly facts: bigint
  /** The destination as routing sees it: 0.0.0.0 and :: are the pod itself. */
  readonly dest: Words
  /** The source that the sets are asked about; outbound and not bound: the one that routing chooses. */
  readonly source: Words
  readonly route: RouteRecord | undefined
  /** The destination is the pod's own. */
  readonly local: boolean
  /** Index of the interface by which it leaves, or came in; 0: none. */
  readonly interface: number
  /** Index of the first rule that matches; undefined: none does. */
  readonly rule: number | undefined
}

/** The loopback device is number 1 everywhere. */
const loopbackDevice = 1
/** The 96 bits of kind and policy (or pod), and all of what follows. */
const fixedBits = 96

const bit = (fact: Fact, on: boolean): bigint => (on ? 1n << BigInt(fact) : 0n)

const members = (read: MapReader, map: MapName, key: Buffer): bigint => {
  const value = read(map, key)
  return value === undefined ? 0n : membersCodec.decode(value).sets
}

const portMembers = (read: MapReader, policy: bigint, port: number): bigint =>
  members(read, 'port_sets', portKeyCodec.encode({ prefixlen: fixedBits + 16, policy, port }))

const cidrMembers = (read: MapReader, policy: bigint, kind: CidrKind, { family, words }: Address): bigint =>
  members(read, 'cidr_sets', cidrKeyCodec.encode({ prefixlen: fixedBits + addressBits(family), kind, policy, addr: words }))

const destMembers = (read: MapReader, policy: bigint, dest: Address): bigint =>
  cidrMembers(read, policy, dest.family === 6 ? CidrKind.DEST6 : CidrKind.DEST4, dest)

const sourceMembers = (read: MapReader, policy: bigint, source: Address): bigint =>
  cidrMembers(read, policy, source.family === 6 ? CidrKind.SOURCE6 : CidrKind.SOURCE4, source)

export const ownerMembers = (read: MapReader, policy: bigint, kind: OwnerKind, id: number): bigint =>
  id < 0 ? 0n : members(read, 'owner_sets', ownerKeyCodec.encode({ prefixlen: fixedBits + 32, kind, policy, id: [id, 0] }))

export const markMembers = ({ marks, marksUsed }: PolicyRecord, mark: number): bigint =>
  marks.slice(0, marksUsed).reduce((sets, row) => ((mark & row.mask) >>> 0 === row.value ? sets | row.sets : sets), 0n)

/** undefined: the pod is not enrolled. */
export function policyOf(read: MapReader, netns: bigint): Policy | undefined {
  const pod = read('pods', u64Codec.encode(netns))
  if (pod === undefined) return undefined
  const { policy: id } = podCodec.decode(pod)
  const record = read('policies', u64Codec.encode(id))
  return record === undefined ? undefined : { id, record: policyCodec.decode(record) }
}

/** undefined: routing fails with ENETUNREACH. */
export function routeOf(read: MapReader, netns: bigint, { family, words }: Address): RouteRecord | undefined {
  const value = read('routes', routeKeyCodec.encode({ prefixlen: fixedBits + addressBits(family), family, netns, addr: words }))
  return value === undefined ? undefined : routeCodec.decode(value)
}

/** The source that the route has for sockets that are not bound; zero: none is known. */
export const sourceOf = (route: RouteRecord | undefined): Words => (route?.source as Words | undefined) ?? zeroWords

/** What both directions ask alike. */
function commonFacts(read: MapReader, { id, record }: Policy, { protocol, family, port }: Connection, dest: Words, source: Words): bigint {
  const has = (lookup: number): boolean => (record.lookups & lookup) !== 0
  return (
    bit(protocol === 'udp' ? Fact.UDP : Fact.TCP, true) |
    bit(Fact.IPV6, family === 6) |
    (has(Lookup.PORTS) ? portMembers(read, id, port) : 0n) |
    (has(Lookup.DEST) ? destMembers(read, id, { family, words: dest }) : 0n) |
    (has(Lookup.SOURCE) ? sourceMembers(read, id, { family, words: source }) : 0n)
  )
}

function outboundFacts(read: MapReader, { id, record }: Policy, connection: Connection, seen: Omit<Evaluation, 'facts' | 'rule'>) {
  const { family, mark } = connection
  const { uid, gid } = connection.owner ?? connection
  const has = (lookup: number): boolean => (record.lookups & lookup) !== 0
  const bound = { family, words: connection.source }
  return (
    bit(Fact.TO_POD, seen.local) |
    bit(Fact.TO_LOOPBACK, isLocalhost({ family, words: seen.dest })) |
    bit(Fact.FROM_PASSTHROUGH, isPassthrough(bound)) |
    bit(Fact.FROM_LOOPBACK, !isPassthrough(bound) && isLoopback(bound)) |
    (has(Lookup.UIDS | Lookup.GIDS) ? ownerMembers(read, id, OwnerKind.UID, uid) | ownerMembers(read, id, OwnerKind.GID, gid) : 0n) |
    (has(Lookup.LEAVES) ? ownerMembers(read, id, OwnerKind.LEAVES, seen.interface) : 0n) |
    markMembers(record, mark)
  )
}

function inboundFacts(read: MapReader, { id, record }: Policy, arrival: number): bigint {
  return bit(Fact.TO_POD, true) | ((record.lookups & Lookup.ARRIVES) !== 0 ? ownerMembers(read, id, OwnerKind.ARRIVES, arrival) : 0n)
}

/** What 0.0.0.0 and :: mean: 0.0.0.0 the address that the socket is bound to, else loopback; :: always loopback. */
function resolved({ family, dest, source }: Connection): Words {
  if (!isZero({ words: dest })) return dest
  return family === 4 && !isZero({ words: source }) ? source : localhost[family]
}

export function evaluate(read: MapReader, policy: Policy, connection: Connection): Evaluation {
  const { netns, direction, family } = connection
  const outbound = direction === 'outbound'
  const dest = resolved(connection)
  const route = routeOf(read, netns, { family, words: dest })
  const source = isZero({ words: connection.source }) && outbound ? sourceOf(route) : connection.source
  const local = !outbound || isLoopback({ family, words: dest }) || route?.kind === RouteKind.LOCAL
  // A packet from outside comes in by the interface that has the address, unless somebody routes it otherwise.
  const way = outbound && local ? loopbackDevice : (route?.interface ?? 0)
  const seen = { dest, source, route, local, interface: way }
  const own = outbound ? outboundFacts(read, policy, connection, seen) : inboundFacts(read, policy, way)
  const facts = own | commonFacts(read, policy, connection, dest, source)
  const { record } = policy
  const rules = outbound ? record.outbound.slice(0, record.outboundRules) : record.inbound.slice(0, record.inboundRules)
  const index = rules.findIndex(({ mask, value }) => (facts & mask) === value)
  return { ...seen, facts, rule: index === -1 ? undefined : index }
}
