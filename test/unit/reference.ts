/**
 * The contract evaluated in plain TypeScript: what the programs of bpf/ do with the maps, written for obviousness and used as the judge in
 * tests. Reads nothing but the compiled bytes.
 */

import { formatAddress, isLoopback, network, parseAddress, type Words } from '../../core/address.ts'
import { u64Codec } from '../../core/codec.ts'
import type { Desired } from '../../core/compile/compile.ts'
import {
  CidrKind,
  Fact,
  Family,
  Lookup,
  membersCodec,
  OwnerKind,
  type PolicyRecord,
  podCodec,
  policyCodec,
  RouteKind,
  routeCodec,
  TargetFamily,
  Verdict,
} from '../../core/contract.ts'
import type { Entry } from '../../core/native/api.ts'
import { cidrPrefix, prefixValue } from '../../core/prefix.ts'

export interface Connection {
  readonly netns: bigint
  readonly direction: 'outbound' | 'inbound'
  readonly proto: 'tcp' | 'udp'
  /** Destination, textual; its family is the connection's. */
  readonly to: string
  readonly port: number
  /** Outbound: the address that the socket is bound to, if any. Inbound: the peer. */
  readonly from?: string
  readonly uid?: number
  readonly gid?: number
  readonly mark?: number
  readonly cgroup?: bigint
  /** Index of the interface: of an outbound connection the one that the socket is bound to, of an inbound one that by which it came. */
  readonly device?: number
}

export interface Decision {
  /** "pass", "drop", or where the connection goes: "127.0.0.1:15001"; "refused" when the target lacks the family. */
  readonly verdict: string
  /** The rule's name; undefined: none matched. */
  readonly rule: string | undefined
}

/** Longest prefix match over the raw entries of a trie: `prefixlen` is the first word, the data follows it. */
export function longestMatch(entries: Iterable<Entry>, data: Buffer): Buffer | undefined {
  let best: { length: number; value: Buffer } | undefined
  for (const { key, value } of entries) {
    const length = key.readUInt32LE(0)
    if (best !== undefined && best.length >= length) continue
    if (bitsEqual(key.subarray(4), data, length)) best = { length, value }
  }
  return best?.value
}

function bitsEqual(a: Buffer, b: Buffer, length: number): boolean {
  const whole = length >> 3
  if (!a.subarray(0, whole).equals(b.subarray(0, whole))) return false
  const rest = length & 7
  return rest === 0 || (((a[whole] ?? 0) ^ (b[whole] ?? 0)) & (0xff << (8 - rest))) === 0
}

/** The data of a trie's key: a 32-bit word of the host, a 64-bit number of the host, then bytes in network order. */
function trieData(word: number, id: bigint, tail: Buffer): Buffer {
  const head = Buffer.alloc(12)
  head.writeUInt32LE(word, 0)
  head.writeBigUInt64LE(id, 4)
  return Buffer.concat([head, tail])
}

function bigEndian(words: readonly number[]): Buffer {
  const bytes = Buffer.alloc(words.length * 4)
  for (const [index, word] of words.entries()) bytes.writeUInt32BE(word, index * 4)
  return bytes
}

const bit = (fact: number, on: boolean): bigint => (on ? 1n << BigInt(fact) : 0n)

/** 127.0.0.6 and ::6 */
const passthrough = (text: string): boolean => text === '127.0.0.6' || text === '::6'

export class Reference {
  readonly #desired: Desired
  readonly #policies = new Map<bigint, { id: bigint; record: PolicyRecord }>()

  constructor(desired: Desired) {
    this.#desired = desired
  }

  route(netns: bigint, to: string): { kind: RouteKind; error: number; source: string; interface: number } {
    const address = parse(to)
    const data = trieData(address.family, netns, bigEndian(address.words))
    const value = longestMatch(this.#desired.maps.routes.values(), data)
    if (value === undefined) return { kind: RouteKind.UNREACHABLE, error: 101, source: address.family === 4 ? '0.0.0.0' : '::', interface: 0 }
    const { kind, error, source, interface: index } = routeCodec.decode(value)
    return { kind, error, source: formatAddress({ family: address.family, words: source as unknown as Words }), interface: index }
  }

  policy(netns: bigint): { id: bigint; record: PolicyRecord } {
    const known = this.#policies.get(netns)
    if (known !== undefined) return known
    const pod = this.#desired.maps.pods.get(u64Codec.encode(netns).toString('hex'))
    if (pod === undefined) throw new Error(`no pod ${netns}`)
    const id = podCodec.decode(pod.value).policy
    const policy = this.#desired.maps.policies.get(u64Codec.encode(id).toString('hex'))
    if (policy === undefined) throw new Error(`no policy ${id}`)
    const decoded = { id, record: policyCodec.decode(policy.value) }
    this.#policies.set(netns, decoded)
    return decoded
  }

  facts(connection: Connection): bigint {
    const { netns, direction, proto, to, port, from, uid = 0, gid = 0, mark = 0, cgroup = 0n, device = 0 } = connection
    const { id, record } = this.policy(netns)
    // 0.0.0.0 means the bound address, else loopback; :: is loopback. The unbound source is the one that routing would choose.
    const own = parse(to).family === 4 ? (from ?? '127.0.0.1') : '::1'
    const dest = parse(to).words.some((word) => word !== 0) ? parse(to) : parse(own)
    const route = this.route(netns, formatAddress(dest))
    const local = direction === 'inbound' || isLoopback(dest) || route.kind === RouteKind.LOCAL
    const source = parse(from ?? route.source)
    const bound = from === undefined ? '' : formatAddress(source)
    const facts =
      bit(Fact.TCP, proto === 'tcp') |
      bit(Fact.UDP, proto === 'udp') |
      bit(Fact.IPV6, dest.family === 6) |
      bit(Fact.TO_POD, local) |
      bit(Fact.TO_LOOPBACK, ['127.0.0.1', '::1'].includes(formatAddress(dest))) |
      bit(Fact.FROM_PASSTHROUGH, passthrough(bound)) |
      bit(Fact.FROM_LOOPBACK, (bound.startsWith('127.') || bound === '::1') && !passthrough(bound))
    const { port_sets, owner_sets, cidr_sets } = this.#desired.maps
    const lookup = (wanted: Lookup, entries: Iterable<Entry>, data: () => Buffer): bigint => {
      const value = (record.lookups & wanted) === 0 ? undefined : longestMatch(entries, data())
      return value === undefined ? 0n : membersCodec.decode(value).sets
    }
    const owner = (kind: OwnerKind, words: readonly number[]) => () => trieData(kind, id, bigEndian(words))
    const six = dest.family === 6
    const ported = Buffer.alloc(8)
    ported.writeUInt16BE(port)
    const sets =
      lookup(Lookup.PORTS, port_sets.values(), () => trieData(0, id, ported)) |
      lookup(Lookup.DEST, cidr_sets.values(), () => trieData(six ? CidrKind.DEST6 : CidrKind.DEST4, id, bigEndian(dest.words))) |
      lookup(Lookup.SOURCE, cidr_sets.values(), () => trieData(six ? CidrKind.SOURCE6 : CidrKind.SOURCE4, id, bigEndian(source.words)))
    if (direction === 'inbound') return facts | sets | lookup(Lookup.ARRIVES, owner_sets.values(), owner(OwnerKind.ARRIVES, [device, 0]))
    const leaves = local && [0, 1, route.interface].includes(device) ? 1 : device || route.interface
    const marks = record.marks.slice(0, record.marksUsed).reduce((all, row) => all | ((mark & row.mask) >>> 0 === row.value ? row.sets : 0n), 0n)
    return (
      facts |
      sets |
      marks |
      lookup(Lookup.LEAVES, owner_sets.values(), owner(OwnerKind.LEAVES, [leaves, 0])) |
      lookup(Lookup.UIDS, owner_sets.values(), owner(OwnerKind.UID, [uid, 0])) |
      lookup(Lookup.GIDS, owner_sets.values(), owner(OwnerKind.GID, [gid, 0])) |
      lookup(Lookup.CGROUPS, owner_sets.values(), owner(OwnerKind.CGROUP, [Number(cgroup >> 32n), Number(BigInt.asUintN(32, cgroup))]))
    )
  }

  decide(connection: Connection): Decision {
    const { record } = this.policy(connection.netns)
    const facts = this.facts(connection)
    const outbound = connection.direction === 'outbound'
    if (!outbound && connection.proto === 'udp') return { verdict: 'pass', rule: undefined } // inbound rules see TCP only
    const rules = outbound ? record.outbound.slice(0, record.outboundRules) : record.inbound.slice(0, record.inboundRules)
    const index = rules.findIndex(({ mask, value }) => (facts & mask) === value)
    const found = rules[index]
    const name = this.#desired.pods.get(connection.netns)?.rules.find((rule) => rule.direction === connection.direction && rule.index === index)?.name
    if (found === undefined) return { verdict: 'pass', rule: undefined }
    if (found.verdict !== Verdict.TARGET) return { verdict: found.verdict === Verdict.PASS ? 'pass' : 'drop', rule: name }
    const target = record.targets[found.target]
    if (target === undefined || found.target >= record.targetsUsed) throw new Error(`rule ${index} names target ${found.target}`)
    const family = parse(connection.to).family
    const has = (target.families & (family === Family.IPV4 ? TargetFamily.IPV4 : TargetFamily.IPV6)) !== 0
    const words = family === 4 ? ([target.addr4, 0, 0, 0] as const) : (target.addr6 as unknown as Words)
    const text = formatAddress({ family, words })
    const at = family === 4 ? text : `[${text}]`
    return { verdict: has ? `${at}:${target.port || connection.port}` : 'refused', rule: name }
  }
}

function parse(text: string) {
  const address = parseAddress(text)
  if (address === undefined) throw new Error(`not an address: ${text}`)
  return address
}

/** Is the address in the network? By arithmetic on whole numbers, independent of the trie. */
export function inCidr(text: string, cidr: string): boolean {
  if (cidr === '*') return true
  const [base = '', suffix] = cidr.split('/')
  const [address, start] = [parse(text), parse(base)]
  const bits = start.family === 4 ? 32 : 128
  const length = suffix === undefined ? bits : Number(suffix)
  const number = (words: typeof address) => prefixValue(cidrPrefix(network(words, bits)), bits)
  return address.family === start.family && number(address) >> BigInt(bits - length) === number(start) >> BigInt(bits - length)
}
