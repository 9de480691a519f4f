/** Pods with their interceptions and routes -> the complete desired contents of every map that the agent fills. Pure. */

import type { Mode } from '../acceleration/api.ts'
import { u32Codec, u64Codec } from '../codec.ts'
import { podCodec, proxyPortCodec } from '../contract.ts'
import { MerbridgeError } from '../errors.ts'
import type { Address, Rule as PolicyRule, Route } from '../native/api.ts'
import type { Interception } from '../plugin.ts'
import { acceleratedAsBefore, acceleratedPod } from './accelerated.ts'
import type { Condition } from './conditions.ts'
import type { KeptRules } from './keep.ts'
import { type LocalInterception, type Locality, localize, nowhere } from './localize.ts'
import { type LoopbackWant, loopbackWant, type Traffic, withWanted } from './loopback.ts'
import { type Capacities, compileError, MapBuilder, type MapContents } from './maps.ts'
import { type CompiledPolicy, compileLocal } from './policy.ts'
import { compileRoutes } from './routes.ts'
import type { RuleText } from './rules.ts'

export interface CompilePod {
  /** "default/web": names the pod in errors. */
  readonly name: string
  /** Netns cookie. */
  readonly netns: bigint
  readonly interception: Interception
  readonly routes: readonly Route[]
  readonly addresses: readonly Address[]
  /** Of policy routing; absent: the kernel's default ones. */
  readonly policyRules?: readonly PolicyRule[]
  /** It has or had NAT rules of its own. */
  readonly natRules?: boolean
  /** Rules of before took UDP: what is at its lo for that stays. */
  readonly tookUdp?: boolean
  /** Absent: it has no interfaces, and ids are what they say. */
  readonly locality?: Locality
  /** Whose rules they are, for messages. */
  readonly mesh?: string
  /** Toward which receivers messages may pass over TCP; absent: none. Of a pod that keeps its rules: as it was. */
  readonly acceleration?: Mode
}

/** A pod that keeps the rules which the kernel has for it. */
export interface KeptPod extends Omit<CompilePod, 'interception'> {
  readonly kept: KeptRules
  /** What the agent has added to its lo; absent: nothing. */
  readonly loopbackAddresses?: readonly string[]
}

export interface CompileInput {
  readonly pods: readonly CompilePod[]
  readonly kept?: readonly KeptPod[]
}

export interface CompiledPod {
  readonly policy: bigint
  /** In the kernel's order: outbound rules, then inbound rules; `index` is the one that counters have. */
  readonly rules: readonly RuleText[]
  /** Where the rules came from. Absent: the policy was not compiled from an interception. */
  readonly source?: PolicySource
  /** The named sets by the number of their fact bit: "port skipped". */
  readonly words: ReadonlyMap<number, string>
  /** Where the pod's own proxies listen. */
  readonly proxyPorts: readonly number[]
  /** What its lo must have. */
  readonly loopback: LoopbackWant
  /** Whose rules they are, where that is known. */
  readonly mesh?: string
}

export interface PolicySource {
  readonly interception: Interception
  readonly locality: Locality
  /** What each of the rules wants. */
  readonly conditions: readonly (readonly Condition[])[]
}

export interface Desired {
  readonly maps: MapContents
  /** By netns cookie. */
  readonly pods: ReadonlyMap<bigint, CompiledPod>
  /** Pods for which a map has no room, by netns cookie. */
  readonly failed: ReadonlyMap<bigint, MerbridgeError>
}

/** The interception as text, to find equal ones. JSON has no bigint; only ids of cgroups are. */
function contentOf(interception: LocalInterception): string {
  const hasCgroups = Object.values(interception.sets).some(({ cgroup }) => cgroup !== undefined)
  if (!hasCgroups) return JSON.stringify(interception)
  return JSON.stringify(interception, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))
}

function addPolicy(builder: MapBuilder, policy: CompiledPolicy, subject: string): void {
  builder.add('policies', u64Codec.encode(policy.id), policy.record, subject)
  for (const { map, key, value, set } of policy.sets) builder.add(map, key, value, `${subject}: set '${set}'`)
}

function addRoutes(builder: MapBuilder, { name, netns, routes, addresses, policyRules }: Omit<CompilePod, 'interception'>): void {
  for (const { key, value } of compileRoutes(netns, routes, addresses, policyRules)) builder.add('routes', key, value, name)
}

function addNatRules(builder: MapBuilder, { name, netns, natRules = false }: Omit<CompilePod, 'interception'>): void {
  if (natRules) builder.add('nat_pods', u64Codec.encode(netns), u32Codec.encode(1), name)
}

function addPod(builder: MapBuilder, pod: CompilePod, policy: CompiledPolicy): void {
  const { name, netns } = pod
  addRoutes(builder, pod)
  for (const port of policy.proxyPorts) builder.add('proxy_ports', proxyPortCodec.encode({ netns, port }), u32Codec.encode(1), name)
  addNatRules(builder, pod)
  for (const { key, value } of acceleratedPod(pod)) builder.add('accelerated', key, value, name)
  builder.add('pods', u64Codec.encode(netns), podCodec.encode({ netns, policy: policy.id }), name)
}

const trafficOf = ({ udp, tcp6 }: Traffic, { tookUdp = false }: Pick<CompilePod, 'tookUdp'>): Traffic => ({ udp: udp || tookUdp, tcp6 })

/** Adds pods one by one; one that does not fit leaves nothing behind. */
class PodCompiler {
  readonly builder: MapBuilder
  readonly compiled = new Map<bigint, CompiledPod>()
  /** Many pods have equal interceptions: each is compiled once. */
  readonly #byContent = new Map<string, CompiledPolicy>()
  readonly #byId = new Map<bigint, CompiledPolicy>()

  constructor(capacities: Capacities) {
    this.builder = new MapBuilder(capacities)
  }

  add(pod: CompilePod): void {
    if (this.compiled.has(pod.netns)) throw compileError(pod.name, 'another pod has the same network namespace', 'List a network namespace once.')
    const { interception, locality = nowhere } = pod
    const local = localize(interception, locality)
    const content = contentOf(local)
    const policy = this.#byContent.get(content) ?? compileLocal(local, pod.name)
    this.#byContent.set(content, policy)
    const known = this.#byId.get(policy.id)
    if (known !== undefined && !known.digest.equals(policy.digest))
      throw compileError(pod.name, 'two policies have one id', 'Change any rule of one of them.')
    const loopback = loopbackWant(trafficOf(policy, pod), interception.loopbackAddresses ?? [], pod)
    this.builder.whole(() => {
      if (known === undefined) addPolicy(this.builder, policy, pod.name)
      addPod(this.builder, withWanted(pod, loopback), policy)
    })
    this.#byId.set(policy.id, policy)
    const { id, rules, words, proxyPorts, conditions } = policy
    const mesh = pod.mesh === undefined ? {} : { mesh: pod.mesh }
    this.compiled.set(pod.netns, { policy: id, rules, words, proxyPorts, loopback, source: { interception, locality, conditions }, ...mesh })
  }

  keep(pod: KeptPod): void {
    const { policy, rules, entries, proxyPorts, routes } = pod.kept
    const loopback = loopbackWant(trafficOf(pod.kept, pod), pod.loopbackAddresses ?? [], pod)
    this.builder.whole(() => {
      if (routes === undefined) addRoutes(this.builder, withWanted(pod, loopback))
      for (const { map, key, value } of [...entries, ...(routes ?? [])]) this.builder.add(map, key, value, pod.name)
      addNatRules(this.builder, pod)
      for (const { key, value } of acceleratedAsBefore(pod.kept.accelerated, pod.acceleration)) this.builder.add('accelerated', key, value, pod.name)
    })
    this.compiled.set(pod.netns, { words: new Map(), ...pod.kept.before, policy, rules, proxyPorts, loopback })
  }
}

/**
 * COMPILE_FAILED names the pod and the set, rule or map that does not fit; it is thrown when `strict`, else that pod is left out and stands in `failed`.
 * `compilePolicy` tells beforehand whether one pod's interception compiles at all.
 */
export function compile({ pods, kept = [] }: CompileInput, capacities: Capacities, strict = true): Desired {
  const compiler = new PodCompiler(capacities)
  const failed = new Map<bigint, MerbridgeError>()
  const attempt = (netns: bigint, work: () => void) => {
    try {
      work()
    } catch (error) {
      if (strict || !(error instanceof MerbridgeError)) throw error
      failed.set(netns, error)
    }
  }
  for (const pod of kept) attempt(pod.netns, () => compiler.keep(pod)) // first: what is in force has its place
  for (const pod of pods) attempt(pod.netns, () => compiler.add(pod))
  return { maps: compiler.builder.contents(), pods: compiler.compiled, failed }
}
