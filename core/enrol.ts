/**
 * From placed pods to desired map contents, with an outcome for every pod. Pure apart from calling the plugin.
 *
 * Two ways to take an error: a new config is refused as a whole (`strict`), a change on the node (a pod that appeared) leaves out that pod alone.
 */
import { type CompilePod, compile, type Desired } from './compile/compile.ts'
import { type Locality, unmappedIds } from './compile/localize.ts'
import type { Capacities } from './compile/maps.ts'
import { compilePolicy } from './compile/policy.ts'
import type { StaticPod } from './config/schema.ts'
import { describe } from './describe.ts'
import { MerbridgeError } from './errors.ts'
import { asksForArrival } from './interception.ts'
import type { Users } from './native/api.ts'
import { type Placement, podAddresses, podTitle } from './pods/static.ts'
import { chooseMesh, type Mesh, type Selection } from './select.ts'
import type { PodState } from './views.ts'

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
}

export interface Enrolment {
  readonly desired: Desired
  readonly outcomes: readonly Outcome[]
}

interface Candidate {
  readonly outcome: Outcome
  readonly compilePod?: CompilePod
}

function candidate(meshes: readonly Mesh[], placement: Placement, seesArrival: boolean): Candidate {
  const { pod } = placement
  const state = 'state' in placement ? placement.state : undefined
  const addresses = state === undefined ? [] : podAddresses(state)
  const netns = state === undefined ? {} : { netns: state.cookie }
  const selection = chooseMesh(meshes, { ...pod, addresses })
  if ('untaken' in selection) return { outcome: { pod, addresses, warnings: [], ...netns, state: 'cannot', reason: selection.untaken } }
  const { plugin, options } = selection.mesh
  const description = describe(plugin, { ...pod, addresses }, options)
  const known = { pod, addresses, warnings: [...selection.warnings, ...description.warnings], ...netns, selection }
  if ('cannot' in description) return { outcome: { ...known, state: 'cannot', reason: description.cannot } }
  if ('refused' in description) return { outcome: { ...known, state: 'cannot', reason: description.refused } }
  const { interception } = description
  if (!seesArrival && asksForArrival(interception)) return { outcome: { ...known, state: 'cannot', reason: noArrival } }
  compilePolicy(interception, podTitle(pod))
  if ('waiting' in placement) return { outcome: { ...known, state: 'waiting', reason: placement.waiting } }
  const { cookie, interfaces, users, routes, addresses: own } = placement.state
  if (users instanceof Error) return { outcome: { ...known, state: 'failed', reason: noUsers(users.message) } }
  const locality: Locality = { interfaces, ...(users && { ids: users }) }
  const warnings = [...known.warnings, ...unmappedIds(interception, locality)]
  return {
    outcome: { ...known, warnings, state: 'enrolled', ...(users && { users }) },
    compilePod: { name: podTitle(pod), netns: cookie, interception, routes, addresses: own, locality },
  }
}

const noArrival =
  'its inbound rules name network interfaces, and this kernel does not tell by which one a connection came in (Linux 5.17 does, or attach.without in the config has arrival_interface)'

const noUsers = (why: string): string =>
  `the ids of its user namespace (hostUsers: false) cannot be read, so nobody can tell which of its processes is the proxy: ${why}; trying again`

function failedCandidate(placement: Placement, error: MerbridgeError): Candidate {
  const netns = 'state' in placement ? { netns: placement.state.cookie, addresses: podAddresses(placement.state) } : { addresses: [] }
  return { outcome: { pod: placement.pod, state: 'failed', reason: `${error.message}. ${error.hint}`, warnings: [], ...netns } }
}

/** `seesArrival`: the kernel tells inbound programs the interface (ABILITY_ARRIVAL). */
export function enrol(
  meshes: readonly Mesh[],
  placements: readonly Placement[],
  capacities: Capacities,
  strict: boolean,
  seesArrival = true,
): Enrolment {
  const candidates = placements.map((placement) => {
    try {
      return candidate(meshes, placement, seesArrival)
    } catch (error) {
      if (strict || !(error instanceof MerbridgeError)) throw error
      return failedCandidate(placement, error)
    }
  })
  const pods = candidates.flatMap(({ compilePod }) => compilePod ?? [])
  return { desired: compile({ pods }, capacities), outcomes: candidates.map(({ outcome }) => outcome) }
}
