/**
 * What the programs do with a connection, from the maps that they read: the fact word as bpf/connect.bpf.c and bpf/inbound.bpf.c make it, and the first
 * rule that matches. A lookup in a trie with a key of full length is the kernel's own longest-prefix match. IPv4 and TCP, as the programs.
 */
import { u64Codec } from '../codec.ts'
import type { MapName } from '../compile/maps.ts'
import {
  CidrKind,
  cidrKeyCodec,
  Fact,
  Family,
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

/** Addresses are numbers: 127.0.0.1 is 0x7f000001. */
export interface Connection {
  readonly netns: bigint
  readonly direction: 'outbound' | 'inbound'
  readonly dest: number
  readonly port: number
  /** Outbound: what the socket is bound to, 0 for nothing. Inbound: the peer. */
  readonly source: number
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
  /** The destination as routing sees it: 0.0.0.0 is the pod itself. */
  readonly dest: number
  /** The source that the sets are asked about; outbound and not bound: the one that routing chooses. */
  readonly source: number
  readonly route: RouteRecord | undefined
  /** The destination is the pod's own. */
  readonly local: boolean
  /** Index of the interface by which it leaves, or came in; 0: none. */
  readonly interface: number
  /** Index of the first rule that matches; undefined: none does. */
  readonly rule: number | undefined
}

const loopback = 0x7f000001
const passthrough = 0x7f000006
/** The loopback device is number 1 everywhere. */
const loopbackDevice = 1
/** The 96 bits of kind and policy (or pod), and all of what follows. */
const fixedBits = 96
const noWords = [0, 0, 0] as const

export const isLoopback = (address: number): boolean => address >>> 24 === 127

const bit = (fact: Fact, on: boolean): bigint => (on ? 1n << BigInt(fact) : 0n)

const members = (read: MapReader, map: MapName, key: Buffer): bigint => {
  const value = read(map, key)
  return value === undefined ? 0n : membersCodec.decode(value).sets
}

const portMembers = (read: MapReader, policy: bigint, port: number): bigint =>
  members(read, 'port_sets', portKeyCodec.encode({ prefixlen: fixedBits + 16, policy, port }))

const cidrMembers = (read: MapReader, policy: bigint, kind: CidrKind, address: number): bigint =>
  members(read, 'cidr_sets', cidrKeyCodec.encode({ prefixlen: fixedBits + 32, kind, policy, addr: [address, ...noWords] }))

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
export function routeOf(read: MapReader, netns: bigint, address: number): RouteRecord | undefined {
  const value = read('routes', routeKeyCodec.encode({ prefixlen: fixedBits + 32, family: Family.IPV4, netns, addr: [address, ...noWords] }))
  return value === undefined ? undefined : routeCodec.decode(value)
}

function outboundFacts(read: MapReader, { id, record }: Policy, connection: Connection, seen: Omit<Evaluation, 'facts' | 'rule'>) {
  const { dest, source, local } = seen
  const { port, source: bound, mark } = connection
  const { uid, gid } = connection.owner ?? connection
  const has = (lookup: number): boolean => (record.lookups & lookup) !== 0
  return (
    bit(Fact.TCP, true) |
    bit(Fact.TO_POD, local) |
    bit(Fact.TO_LOOPBACK, dest === loopback) |
    bit(Fact.FROM_PASSTHROUGH, bound === passthrough) |
    bit(Fact.FROM_LOOPBACK, bound !== passthrough && isLoopback(bound)) |
    (has(Lookup.PORTS) ? portMembers(read, id, port) : 0n) |
    (has(Lookup.DEST) ? cidrMembers(read, id, CidrKind.DEST4, dest) : 0n) |
    (has(Lookup.SOURCE) ? cidrMembers(read, id, CidrKind.SOURCE4, source) : 0n) |
    (has(Lookup.UIDS | Lookup.GIDS) ? ownerMembers(read, id, OwnerKind.UID, uid) | ownerMembers(read, id, OwnerKind.GID, gid) : 0n) |
    (has(Lookup.LEAVES) ? ownerMembers(read, id, OwnerKind.LEAVES, seen.interface) : 0n) |
    markMembers(record, mark)
  )
}

function inboundFacts(read: MapReader, { id, record }: Policy, { dest, port, source }: Connection, arrival: number): bigint {
  const has = (lookup: number): boolean => (record.lookups & lookup) !== 0
  return (
    bit(Fact.TCP, true) |
    bit(Fact.TO_POD, true) |
    (has(Lookup.PORTS) ? portMembers(read, id, port) : 0n) |
    (has(Lookup.DEST) ? cidrMembers(read, id, CidrKind.DEST4, dest) : 0n) |
    (has(Lookup.SOURCE) ? cidrMembers(read, id, CidrKind.SOURCE4, source) : 0n) |
    (has(Lookup.ARRIVES) ? ownerMembers(read, id, OwnerKind.ARRIVES, arrival) : 0n)
  )
}

export function evaluate(read: MapReader, policy: Policy, connection: Connection): Evaluation {
  const { netns, direction } = connection
  const outbound = direction === 'outbound'
  const dest = connection.dest !== 0 ? connection.dest : connection.source || loopback
  const route = routeOf(read, netns, dest)
  const source = connection.source !== 0 || !outbound ? connection.source : (route?.source[0] ?? 0)
  const local = !outbound || isLoopback(dest) || route?.kind === RouteKind.LOCAL
  // A packet from outside comes in by the interface that has the address, unless somebody routes it otherwise.
  const way = outbound && local ? loopbackDevice : (route?.interface ?? 0)
  const seen = { dest, source, route, local, interface: way }
  const facts = outbound ? outboundFacts(read, policy, connection, seen) : inboundFacts(read, policy, connection, way)
  const { record } = policy
  const rules = outbound ? record.outbound.slice(0, record.outboundRules) : record.inbound.slice(0, record.inboundRules)
  const index = rules.findIndex(({ mask, value }) => (facts & mask) === value)
  return { ...seen, facts, rule: index === -1 ? undefined : index }
}
