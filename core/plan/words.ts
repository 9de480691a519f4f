/** Map entries in words, by the codecs of the contract. Pure. */
import { getSystemErrorName } from 'node:util'
import { accelModes } from '../acceleration/api.ts'
import { formatAddress, formatCidr, type Words } from '../address.ts'
import { u64Codec } from '../codec.ts'
import { noId } from '../compile/accelerated.ts'
import type { CompiledPod } from '../compile/compile.ts'
import type { MapName } from '../compile/maps.ts'
import {
  acceleratedCodec,
  CidrKind,
  cidrKeyCodec,
  Fact,
  membersCodec,
  OwnerKind,
  ownerKeyCodec,
  podCodec,
  policyCodec,
  portKeyCodec,
  proxyPortCodec,
  RouteKind,
  routeCodec,
  routeKeyCodec,
} from '../contract.ts'
import { rulesInWords } from '../explain/words.ts'
import type { Change } from './changes.ts'
import type { PlannedEntry } from './view.ts'

export const hex = (id: bigint): string => id.toString(16).padStart(16, '0')

export interface Names {
  /** By netns cookie. */
  readonly pod: (netns: bigint) => string
  /** undefined: it is not known what the policy was compiled from. */
  readonly policy: (id: bigint) => CompiledPod | undefined
}

/** Bits of a key before its last member: the kind (or padding), and the policy (or pod). */
const fixedBits = 96

function rangeText(low: bigint, bits: number): string {
  return bits === 0 ? String(low) : `${low}-${low + (1n << BigInt(bits)) - 1n}`
}

function setNames({ policy }: Names, id: bigint, value: Buffer): string {
  const { sets } = membersCodec.decode(value)
  const conditions = policy(id)?.source?.conditions.flat() ?? []
  const names = Array.from({ length: Fact.BITS - Fact.SET }, (_, index) => index + Fact.SET)
    .filter((bit) => (sets & (1n << BigInt(bit))) !== 0n)
    .flatMap((bit) => {
      const known = [...new Set(conditions.filter((each) => each.bit === bit).map(({ name }) => name))]
      return known.length > 0 ? known : [`set ${bit - Fact.SET}`]
    })
  return names.join(', ') || 'no set'
}

const owners: Readonly<Record<number, string>> = {
  [OwnerKind.UID]: 'uid',
  [OwnerKind.GID]: 'gid',
  [OwnerKind.CGROUP]: 'cgroup',
  [OwnerKind.LEAVES]: 'leaves by interface',
  [OwnerKind.ARRIVES]: 'came in by interface',
}
const ends: Readonly<Record<number, readonly [string, 4 | 6]>> = {
  [CidrKind.DEST4]: ['destination', 4],
  [CidrKind.DEST6]: ['destination', 6],
  [CidrKind.SOURCE4]: ['source', 4],
  [CidrKind.SOURCE6]: ['source', 6],
}

function routeText(key: Buffer, value: Buffer, names: Names): string {
  const { prefixlen, family, netns, addr } = routeKeyCodec.decode(key)
  const { kind, error, source } = routeCodec.decode(value)
  const version = family === 6 ? 6 : 4
  const cidr = formatCidr({ family: version, words: addr as unknown as Words, length: prefixlen - fixedBits })
  const from = source.some((word) => word !== 0) ? `, source ${formatAddress({ family: version, words: source as unknown as Words })}` : ''
  const what =
    kind === RouteKind.LOCAL ? "is the pod's own" : kind === RouteKind.UNREACHABLE ? `has no route (${getSystemErrorName(-error)})` : 'leaves the pod'
  return `${names.pod(netns)}: ${cidr} ${what}${from}`
}

const texts: Readonly<Record<MapName, (key: Buffer, value: Buffer, names: Names) => string>> = {
  pods: (key, value, names) => `${names.pod(u64Codec.decode(key))}: policy ${hex(podCodec.decode(value).policy)}`,
  policies: (key, value) => {
    const { outboundRules, inboundRules, targetsUsed } = policyCodec.decode(value)
    return `policy ${hex(u64Codec.decode(key))}: ${outboundRules} outbound rules, ${inboundRules} inbound rules, ${targetsUsed} targets`
  },
  port_sets: (key, value, names) => {
    const { prefixlen, policy, port } = portKeyCodec.decode(key)
    return `policy ${hex(policy)}: port ${rangeText(BigInt(port), fixedBits + 16 - prefixlen)}: ${setNames(names, policy, value)}`
  },
  owner_sets: (key, value, names) => {
    const { prefixlen, kind, policy, id } = ownerKeyCodec.decode(key)
    const [first = 0, second = 0] = id
    const wide = kind === OwnerKind.CGROUP
    const low = wide ? (BigInt(first) << 32n) | BigInt(second) : BigInt(first)
    const range = rangeText(low, fixedBits + (wide ? 64 : 32) - prefixlen)
    return `policy ${hex(policy)}: ${owners[kind] ?? `owner kind ${kind}`} ${range}: ${setNames(names, policy, value)}`
  },
  cidr_sets: (key, value, names) => {
    const { prefixlen, kind, policy, addr } = cidrKeyCodec.decode(key)
    const [end, family] = ends[kind] ?? [`address kind ${kind}`, 6]
    const cidr = formatCidr({ family, words: addr as unknown as Words, length: prefixlen - fixedBits })
    return `policy ${hex(policy)}: ${end} ${cidr}: ${setNames(names, policy, value)}`
  },
  routes: routeText,
  accelerated: (key, value, names) => {
    const { mode, uid, gid, mark } = acceleratedCodec.decode(value)
    const ids = [...(uid === noId ? [] : [`uid ${uid}`]), ...(gid === noId ? [] : [`gid ${gid}`])].join(' or ')
    const proxy = mark === 0 ? ids || 'what accepts redirected connections' : `mark ${mark}`
    return `${names.pod(u64Codec.decode(key))}: acceleration ${accelModes[mode] ?? mode}, proxy: ${proxy}`
  },
  nat_pods: (key, _, names) => `${names.pod(u64Codec.decode(key))}: has or had iptables rules of its own`,
  proxy_ports: (key, _, names) => {
    const { netns, port } = proxyPortCodec.decode(key)
    return `${names.pod(netns)}: listeners on port ${port} are known to the datapath`
  },
}

function policyDetails(key: Buffer, value: Buffer, { policy }: Names): string[] {
  const record = policyCodec.decode(value)
  const compiled = policy(u64Codec.decode(key))
  return (['outbound', 'inbound'] as const).flatMap((direction) =>
    rulesInWords(record, direction, compiled).map(
      ({ index, name, condition, then }) => `${direction} rule ${index} '${name}': ${condition} -> ${then}`,
    ),
  )
}

export function inWords({ map, kind, key, before, after }: Change, names: Names): PlannedEntry {
  const value = after ?? before ?? Buffer.alloc(0)
  return {
    map,
    change: kind,
    entry: texts[map](key, value, names),
    ...(before === undefined || after === undefined ? {} : { before: texts[map](key, before, names) }),
    ...(map === 'policies' ? { details: policyDetails(key, value, names) } : {}),
  }
}
