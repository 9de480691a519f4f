/**
 * From placed pods to desired map contents, with an outcome for every pod. Pure apart from calling the plugin.
 *
 * Two ways to take an error: a new config is refused as a whole (`strict`), a change on the node (a pod that appeared) leaves out that pod alone.
 */
import type { Mode } from './acceleration/api.ts'
import { type PodMode, podMode } from './acceleration/mode.ts'
import { type CompiledPod, type CompilePod, compile, type Desired, type KeptPod } from './compile/compile.ts'
import { type KeptRules, keptRoutes, keptRules } from './compile/keep.ts'
import { type Locality, unmappedIds } from './compile/localize.ts'
import { unmirroredRules } from './compile/lookups.ts'
import { addedAddresses, type LoopbackInPlace, notThere, tookUdp, withoutIpv6 } from './compile/loopback.ts'
import type { Capacities, MapContents } from './compile/maps.ts'
import { compilePolicy } from './compile/policy.ts'
import type { RuleText } from './compile/rules.ts'
import type { StaticPod } from './config/schema.ts'
import { describe } from './describe.ts'
import { MerbridgeError } from './errors.ts'
import { asksForArrival } from './interception.ts'
import type { Users } from './native/api.ts'
import { AskAgain } from './plugins/again.ts'
import { type Placement, podAddresses, podTitle } from './pods/static.ts'
import { chooseMesh, type Mesh, type Selection } from './select.ts'
import type { PodState } from './views.ts'

export type { Mesh }

export interface Outcome {
  readonly pod: StaticPod
  readonly state: PodState
  readonly reason?: string
  readonly warnings: readonly string[]
  readonly addresses: readonly string[]
  /** Netns cookie; absent while the namespace is not there. */
  readonly netns?: bigint
  /** Of its user namespace, when it has one of its own. */
  readonly users?: Users
  /** Absent: no entry of the config's meshes takes the pod, or a plugin could not say. */
  readonly selection?: Selection
  /** It has the rules of before, because there are no new ones. */
  readonly kept?: true
  readonly acceleration?: PodMode
}

export interface Enrolment {
  readonly desired: Desired
  readonly outcomes: readonly Outcome[]
  /** Milliseconds after which plugins must be asked again although nothing changes, because one did not answer. */
  readonly againMs?: number
}

/** What the kernel has for pods that are enrolled already. */
export interface InForce {
  readonly maps: MapContents
  /** Rules in words, by policy, as far as they are known. */
  readonly rules: ReadonlyMap<bigint, readonly RuleText[]>
  /** What was compiled for each pod last, by netns cookie. */
  readonly pods?: ReadonlyMap<bigint, CompiledPod>
  /** What is at the lo of a pod. */
  readonly loopbackOf?: (netns: bigint) => LoopbackInPlace
}

export interface Circumstances {
  readonly capacities: Capacities
  /** Throw what is wrong with a pod, instead of leaving that pod out. */
  readonly strict: boolean
  /** The kernel tells inbound programs the interface (ABILITY_ARRIVAL). */
  readonly seesArrival?: boolean
  /** A program can be attached to the lo of pods. */
  readonly hooksLoopback?: boolean
  /** Absent: no pod is enrolled. */
  readonly inForce?: InForce
  /** Absent: nothing is accelerated. */
  readonly acceleration?: Allowed
}

export interface Allowed {
  /** By the config. */
  readonly most: Mode
  /** Pods that the operator has switched off, by netns cookie. */
  readonly halted: ReadonlySet<bigint>
}

/** What `maps` hold, with the rules of the enrolment that put it there, as far as that is known. */
export function inForce(maps: MapContents, enrolment: Enrolment | undefined, loopbackOf?: InForce['loopbackOf']): InForce {
  const pods = enrolment?.desired.pods ?? new Map<bigint, CompiledPod>()
  return { maps, rules: new Map([...pods.values()].map(({ policy, rules }) => [policy, rules])), pods, ...(loopbackOf && { loopbackOf }) }
}

interface Candidate {
  readonly outcome: Outcome
  readonly compilePod?: CompilePod
  readonly keptPod?: KeptPod
  readonly mayKeep?: true
  /** What takes it out of the rules of before. */
  readonly remedy?: string
  readonly againMs?: number
  /** Nothing is known against it: its plugin could not be asked now. */
  readonly deferred?: boolean
}

/** So many routes of one pod are mirrored: an eighth of what the map holds, so that no pod takes the others' share. */
const mostRoutes = ({ routes }: Capacities): number => Math.floor(routes / 8)

const tooManyRoutes = (count: number, most: number): string =>
  `its network namespace has ${count} routes, and at most ${most} are mirrored for a pod; remove some (ip route show table all, in the pod)`

function candidate(
  meshes: readonly Mesh[],
  placement: Placement,
  { seesArrival = true, hooksLoopback = true, capacities, inForce }: Circumstances,
): Candidate {
  const { pod } = placement
  const state = 'state' in placement ? placement.state : undefined
  const addresses = state === undefined ? [] : podAddresses(state)
  const netns = state === undefined ? {} : { netns: state.cookie }
  const facts = { ...pod, addresses: 'state' in placement ? (placement.everSeen ?? addresses) : addresses }
  const selection = chooseMesh(meshes, facts)
  if ('untaken' in selection) return { outcome: { pod, addresses, warnings: [], ...netns, state: 'cannot', reason: selection.untaken } }
  const { plugin, options } = selection.mesh
  const description = describe(plugin, facts, options)
  const known = { pod, addresses, warnings: [...selection.warnings, ...description.warnings], ...netns, selection }
  if ('cannot' in description) return { outcome: { ...known, state: 'cannot', reason: description.cannot }, mayKeep: true, remedy: startAgain }
  if ('refused' in description) return { outcome: { ...known, state: 'cannot', reason: description.refused }, mayKeep: true }
  const { interception } = description
  if (!seesArrival && asksForArrival(interception)) return { outcome: { ...known, state: 'cannot', reason: noArrival }, mayKeep: true }
  const { udp } = compilePolicy(interception, podTitle(pod))
  if (udp && !hooksLoopback) return { outcome: { ...known, state: 'cannot', reason: noHook }, mayKeep: true }
  if ('waiting' in placement) return { outcome: { ...known, state: 'waiting', reason: placement.waiting } }
  const { cookie, interfaces, users, routes, rules: policyRules, addresses: own } = placement.state
  if (users instanceof Error) return { outcome: { ...known, state: 'failed', reason: noUsers(users.message) }, mayKeep: true }
  const most = mostRoutes(capacities)
  if (routes.length > most) return { outcome: { ...known, state: 'failed', reason: tooManyRoutes(routes.length, most) }, mayKeep: true }
  const { natRules = false } = placement
  const locality: Locality = { interfaces, ...(users && { ids: users }) }
  const sticky = { tookUdp: hooksLoopback && tookUdp(inForce?.loopbackOf?.(cookie) ?? notThere) }
  const lo = withoutIpv6(udp, interception.loopbackAddresses ?? [], placement.state)
  const warnings = [...known.warnings, ...unmappedIds(interception, locality), ...unmirroredRules(placement.state), ...lo]
  return {
    outcome: { ...known, warnings, state: 'enrolled', ...(users && { users }) },
    compilePod: {
      name: podTitle(pod),
      netns: cookie,
      interception,
      routes,
      addresses: own,
      policyRules,
      locality,
      natRules,
      mesh: plugin.name,
      ...sticky,
    },
  }
}

const startAgain = 'a mesh reads this when a pod starts; to end its interception, start the pod again, or take it out of the configuration'

const noArrival =
  'its inbound rules name network interfaces, and this kernel does not tell by which one a connection came in (Linux 5.17 does, or attach.without in the config has arrival_interface)'

const noHook =
  'its rules take UDP, whose answers need a program at its lo, and this kernel has neither TCX (Linux 6.6) nor filters with BPF (CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS), or attach.without in the config has tcx and clsact'

const noUsers = (why: string): string =>
  `the ids of its user namespace (hostUsers: false) cannot be read, so nobody can tell which of its processes is the proxy: ${why}; trying again`

function failedCandidate(placement: Placement, error: MerbridgeError): Candidate {
  const netns = 'state' in placement ? { netns: placement.state.cookie, addresses: podAddresses(placement.state) } : { addresses: [] }
  const outcome: Outcome = { pod: placement.pod, state: 'failed', reason: `${error.message}. ${error.hint}`, warnings: [], ...netns }
  const { cause } = error
  return { outcome, mayKeep: true, ...(cause instanceof AskAgain ? { againMs: cause.afterMs, deferred: cause.hint !== undefined } : {}) }
}

/** A pod without new rules that is enrolled stays so, with those that it has: without them its connections would bypass the mesh. */
function keeping(candidate: Candidate, placement: Placement, { inForce, capacities, hooksLoopback = true }: Circumstances): Candidate {
  if (candidate.mayKeep === undefined || inForce === undefined || !('state' in placement)) return candidate
  const { cookie: netns, routes, rules: policyRules, addresses } = placement.state
  const { natRules = false } = placement
  const kept = keptRules(inForce.maps, netns, inForce.rules, inForce.pods?.get(netns))
  if (kept === undefined) return candidate
  const { outcome } = candidate
  const ofBefore = routes.length > mostRoutes(capacities) ? { routes: keptRoutes(inForce.maps, netns) } : {}
  const inPlace = inForce.loopbackOf?.(netns) ?? notThere
  const lo = { loopbackAddresses: addedAddresses(inPlace.added), tookUdp: hooksLoopback && tookUdp(inPlace) }
  const known = { name: podTitle(placement.pod), netns, routes, addresses, policyRules, natRules, ...lo }
  const keptPod = { ...known, kept: { ...kept, ...ofBefore } }
  const whose = ofAnother(outcome, kept)
  const withRules: Outcome =
    outcome.state === 'failed' && candidate.deferred !== true
      ? { ...outcome, kept: true, reason: `${outcome.reason} The pod keeps the rules of before${whose ?? ''}.` }
      : { ...keptButEnrolled(outcome, whose, candidate.remedy), kept: true }
  return { ...candidate, outcome: withRules, keptPod }
}

/** ", those of osm": where they are not of the mesh that the pod is shown under. */
function ofAnother({ selection }: Outcome, { before }: KeptRules): string | undefined {
  const mesh = before?.mesh
  return mesh === undefined || selection === undefined || mesh === selection.mesh.plugin.name ? undefined : `, those of ${mesh}`
}

/** The reason becomes a warning; one that it repeats is left out. */
function keptButEnrolled({ reason = '', ...outcome }: Outcome, whose: string | undefined, remedy: string | undefined): Outcome {
  const stay = whose === undefined ? 'the rules of before stay' : `the rules of before${whose}, stay`
  const others = outcome.warnings.filter((warning) => !reason.includes(warning))
  return { ...outcome, state: 'enrolled', warnings: [...others, `${reason}; ${stay}${remedy === undefined ? '' : `: ${remedy}`}`] }
}

interface Attempt {
  readonly placement: Placement
  readonly candidate: Candidate
  readonly mode: PodMode | undefined
}

function modeOf(placement: Placement, { acceleration }: Circumstances): PodMode | undefined {
  if (acceleration === undefined) return undefined
  const { most, halted } = acceleration
  return podMode(most, placement.pod, 'state' in placement && halted.has(placement.state.cookie))
}

const accelerated = <Pod extends object>(pod: Pod | undefined, mode: PodMode | undefined): (Pod & { readonly acceleration?: Mode })[] =>
  pod === undefined ? [] : [mode === undefined ? pod : { ...pod, acceleration: mode.mode }]

function outcomeOf({ candidate: { outcome }, mode }: Attempt): Outcome {
  if (mode === undefined) return outcome
  const warnings = mode.warning === undefined ? outcome.warnings : [...outcome.warnings, mode.warning]
  return { ...outcome, warnings, acceleration: mode }
}

function compiled(attempts: readonly Attempt[], capacities: Capacities, strict: boolean): Desired {
  const pods = attempts.flatMap(({ candidate: { compilePod }, mode }) => accelerated(compilePod, mode))
  const kept = attempts.flatMap(({ candidate: { keptPod }, mode }) => accelerated(keptPod, mode))
  return compile({ pods, kept }, capacities, strict)
}

/** Pods that a map has no room for: failed, and with their rules of before where they have some. */
function withoutRoom(attempts: readonly Attempt[], { failed }: Desired, circumstances: Circumstances): Attempt[] {
  return attempts.map((attempt) => {
    const { placement, candidate } = attempt
    const error = 'state' in placement ? failed.get(placement.state.cookie) : undefined
    if (error === undefined) return attempt
    const next = failedCandidate(placement, error)
    return { ...attempt, candidate: candidate.keptPod === undefined ? keeping(next, placement, circumstances) : next }
  })
}

export function enrol(meshes: readonly Mesh[], placements: readonly Placement[], circumstances: Circumstances): Enrolment {
  const { capacities, strict } = circumstances
  const asked = (placement: Placement): Candidate => {
    try {
      return candidate(meshes, placement, circumstances)
    } catch (error) {
      if (strict || !(error instanceof MerbridgeError)) throw error
      return failedCandidate(placement, error)
    }
  }
  let attempts: readonly Attempt[] = placements.map((placement) => ({
    placement,
    candidate: keeping(asked(placement), placement, circumstances),
    mode: modeOf(placement, circumstances),
  }))
  let desired = compiled(attempts, capacities, strict)
  // Twice at most for each pod: first its rules of before take the place of the new ones, then it is out.
  for (let round = 0; desired.failed.size > 0 && round <= 2 * placements.length; round++) {
    attempts = withoutRoom(attempts, desired, circumstances)
    desired = compiled(attempts, capacities, strict)
  }
  const again = attempts.flatMap(({ candidate: { againMs } }) => againMs ?? [])
  return { desired, outcomes: attempts.map(outcomeOf), ...(again.length === 0 ? {} : { againMs: Math.min(...again) }) }
}
