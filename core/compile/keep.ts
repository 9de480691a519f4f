/**
 * Pods that keep the rules which they have: their plugin failed, or their mesh refuses what they ask for. A pod that left the datapath instead would bypass its
 * mesh. The entries come from the kernel's own maps, so this holds after a restart of the agent too. Pure.
 */
import { u64Codec } from '../codec.ts'
import {
  type AcceleratedRecord,
  acceleratedCodec,
  cidrKeyCodec,
  Fact,
  Lookup,
  ownerKeyCodec,
  type PolicyRecord,
  podCodec,
  policyCodec,
  portKeyCodec,
  proxyPortCodec,
  type RuleRecord,
  routeKeyCodec,
} from '../contract.ts'
import type { Entry } from '../native/api.ts'
import type { CompiledPod } from './compile.ts'
import type { MapContents, MapName } from './maps.ts'
import { sendsTcp6 } from './policy.ts'
import { factWords, type RuleText } from './rules.ts'
import { verdictText } from './targets.ts'

export interface KeptEntry extends Entry {
  readonly map: MapName
}

export interface KeptRules {
  readonly policy: bigint
  /** Everything of the pod but its routes. */
  readonly entries: readonly KeptEntry[]
  readonly rules: readonly RuleText[]
  readonly proxyPorts: readonly number[]
  /** What the agent knows of the pod's rules besides; absent: they are from before it started. */
  readonly before?: Pick<CompiledPod, 'words' | 'source' | 'mesh'>
  /** The policy asks for UDP. */
  readonly udp: boolean
  /** What it had of acceleration. */
  readonly accelerated?: AcceleratedRecord
  /** Some outbound rule sends TCP over IPv6 to ::1. */
  readonly tcp6: boolean
  /** Its routes of before, where the present ones are too many; absent: the present ones. */
  readonly routes?: readonly KeptEntry[]
}

const policyOf = {
  port_sets: (key: Buffer) => portKeyCodec.decode(key).policy,
  owner_sets: (key: Buffer) => ownerKeyCodec.decode(key).policy,
  cidr_sets: (key: Buffer) => cidrKeyCodec.decode(key).policy,
} as const

const idOf = (value: bigint) => u64Codec.encode(value).toString('hex')

function setEntries(have: MapContents, policy: bigint): KeptEntry[] {
  return (Object.keys(policyOf) as (keyof typeof policyOf)[]).flatMap((map) =>
    [...have[map].values()].filter(({ key }) => policyOf[map](key) === policy).map((entry) => ({ map, ...entry })),
  )
}

/** The kernel knows neither names of rules nor of sets. */
function conditionOf({ mask, value }: RuleRecord): string {
  const parts: string[] = []
  for (let bit = 0; bit < Fact.BITS; bit++) {
    if ((mask & (1n << BigInt(bit))) === 0n) continue
    const on = (value & (1n << BigInt(bit))) !== 0n
    const word = factWords.get(bit) ?? `set ${bit - Fact.SET}`
    parts.push(on ? word : bit === Fact.IPV6 ? 'ipv4' : `not ${word}`)
  }
  return parts.join(', ') || 'any'
}

function rulesOf(record: PolicyRecord): RuleText[] {
  const { outbound, outboundRules, inbound, inboundRules } = record
  const text = (direction: 'outbound' | 'inbound', rules: readonly RuleRecord[]) =>
    rules.map((rule, index) => ({
      direction,
      index,
      name: `rule ${index} of before`,
      condition: conditionOf(rule),
      then: verdictText(rule, record, direction),
    }))
  return [...text('outbound', outbound.slice(0, outboundRules)), ...text('inbound', inbound.slice(0, inboundRules))]
}

/** The routes that the kernel has for the pod. */
export const keptRoutes = (have: MapContents, netns: bigint): KeptEntry[] =>
  [...have.routes.values()].filter(({ key }) => routeKeyCodec.decode(key).netns === netns).map((entry) => ({ map: 'routes' as const, ...entry }))

function withoutPlace({ words, source, mesh }: CompiledPod): NonNullable<KeptRules['before']> {
  return { words, ...(source === undefined ? {} : { source }), ...(mesh === undefined ? {} : { mesh }) }
}

/**
 * undefined: the kernel has no rules for the pod. `known`: the rules in words, by policy, where the agent still has them; `compiled`: what it compiled for
 * this pod last.
 */
export function keptRules(
  have: MapContents,
  netns: bigint,
  known: ReadonlyMap<bigint, readonly RuleText[]>,
  compiled?: CompiledPod,
): KeptRules | undefined {
  const pod = have.pods.get(idOf(netns))
  const policy = pod && podCodec.decode(pod.value).policy
  const record = policy === undefined ? undefined : have.policies.get(idOf(policy))
  if (pod === undefined || policy === undefined || record === undefined) return undefined
  const ports = [...have.proxy_ports.values()].filter(({ key }) => proxyPortCodec.decode(key).netns === netns)
  const entries: KeptEntry[] = [
    ...setEntries(have, policy),
    { map: 'policies', ...record },
    ...ports.map((entry) => ({ map: 'proxy_ports' as const, ...entry })),
    { map: 'pods', ...pod },
  ]
  const proxyPorts = ports.map(({ key }) => proxyPortCodec.decode(key).port)
  const decoded = policyCodec.decode(record.value)
  const before = compiled?.policy === policy ? { before: withoutPlace(compiled) } : {}
  const accelerated = have.accelerated.get(idOf(netns))
  const acceleration = accelerated && { accelerated: acceleratedCodec.decode(accelerated.value) }
  const takes = { udp: (decoded.lookups & Lookup.UDP) !== 0, tcp6: sendsTcp6(decoded) }
  return { policy, entries, rules: known.get(policy) ?? rulesOf(decoded), proxyPorts, ...takes, ...acceleration, ...before }
}
