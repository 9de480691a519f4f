/** What a config would change: from what is in the kernel's maps and what the config wants there. Pure. */
import type { CompiledPod } from '../compile/compile.ts'
import { type LoopbackWant, nothing } from '../compile/loopback.ts'
import { type Capacities, type MapContents, mapNames } from '../compile/maps.ts'
import { podCodec, proxyPortCodec, routeKeyCodec } from '../contract.ts'
import type { Enrolment, Outcome } from '../enrol.ts'
import { podTitle } from '../pods/static.ts'
import { type Change, changesOf } from './changes.ts'
import { changeOfRules } from './rules.ts'
import type { PlannedMap, PlannedPod, PlannedRules, PlanView, PodChange } from './view.ts'
import { hex, inWords, type Names } from './words.ts'

export interface Sides {
  readonly have: MapContents
  readonly capacities: Capacities
  /** What the config makes of the pods. */
  readonly after: Enrolment
  /** What the config before made of them: it names what is in the kernel. */
  readonly before: Enrolment | undefined
  /** Of pods in the kernel that no config names. */
  readonly placeOf: (netns: bigint) => string
  /** What will happen at the lo of a pod; absent: nothing. */
  readonly atLoopback?: (netns: bigint, want: LoopbackWant) => readonly string[]
}

type Planned = Pick<PlanView, 'changes' | 'pods' | 'rules' | 'maps' | 'entries'>

/** Netns cookie -> policy, as the kernel has it. */
const policiesIn = (have: MapContents): Map<bigint, bigint> =>
  new Map([...have.pods.values()].map(({ value }) => [podCodec.decode(value).netns, podCodec.decode(value).policy]))

const titles = (enrolment: Enrolment | undefined): [bigint, string][] =>
  (enrolment?.outcomes ?? []).flatMap(({ pod, netns }) => (netns === undefined ? [] : [[netns, podTitle(pod)]]))

function namesOf({ after, before, placeOf }: Sides): Names {
  const pods = new Map([...titles(before), ...titles(after)])
  const compiled = [before, after].flatMap((enrolment) => [...(enrolment?.desired.pods.values() ?? [])])
  const policies = new Map(compiled.map((pod) => [pod.policy, pod]))
  return { pod: (netns) => pods.get(netns) ?? placeOf(netns), policy: (id) => policies.get(id) }
}

/** Pods with an entry of their own (a route, a proxy's port) that changes. */
function podsTouched(changes: readonly Change[]): Set<bigint> {
  return new Set(
    changes.flatMap(({ map, key }) =>
      map === 'routes' ? [routeKeyCodec.decode(key).netns] : map === 'proxy_ports' ? [proxyPortCodec.decode(key).netns] : [],
    ),
  )
}

function changeOf(now: bigint | undefined, next: bigint | undefined, touched: boolean): PodChange {
  if (next === undefined) return now === undefined ? 'stays out' : 'leaves'
  if (now === undefined) return 'joins'
  if (now !== next) return 'new rules'
  return touched ? 'new routes' : 'unchanged'
}

const policyIds = (now: bigint | undefined, next: bigint | undefined) => ({
  ...(now === undefined ? {} : { policyBefore: hex(now) }),
  ...(next === undefined ? {} : { policyAfter: hex(next) }),
})

/** Of a pod that is out and stays out there is nothing to say. */
function loopbackOf({ after, atLoopback }: Sides, netns: bigint | undefined): Pick<PlannedPod, 'loopback'> {
  const loopback = netns === undefined ? [] : (atLoopback?.(netns, after.desired.pods.get(netns)?.loopback ?? nothing) ?? [])
  return loopback.length === 0 ? {} : { loopback }
}

function plannedPods(sides: Sides, names: Names, changes: readonly Change[]): PlannedPod[] {
  const { have, after } = sides
  const policies = policiesIn(have)
  const touched = podsTouched(changes)
  const listed = after.outcomes.map(({ pod, netns, state, reason, warnings }: Outcome): PlannedPod => {
    const now = netns === undefined ? undefined : policies.get(netns)
    const next = netns === undefined ? undefined : after.desired.pods.get(netns)?.policy
    const change = changeOf(now, next, netns !== undefined && touched.has(netns))
    const why = reason === undefined ? {} : { reason }
    return { name: podTitle(pod), change, state, ...why, warnings, ...policyIds(now, next), ...loopbackOf(sides, netns) }
  })
  const known = new Set(after.outcomes.map(({ netns }) => netns))
  const gone = [...policies].filter(([netns]) => !known.has(netns))
  const leaving = gone.map(
    ([netns, now]): PlannedPod => ({
      name: names.pod(netns),
      change: 'leaves',
      reason: 'the config does not list it',
      warnings: [],
      ...policyIds(now, undefined),
      ...loopbackOf(sides, netns),
    }),
  )
  return [...listed, ...leaving]
}

/** One for each pair of policies, with all pods that change from the one to the other. */
function plannedRules(pods: readonly PlannedPod[], names: Names): PlannedRules[] {
  const groups = new Map<string, PlannedPod[]>()
  for (const pod of pods) {
    if (pod.policyBefore === pod.policyAfter) continue
    const id = `${pod.policyBefore} ${pod.policyAfter}`
    groups.set(id, [...(groups.get(id) ?? []), pod])
  }
  return [...groups.values()].flatMap((group) => {
    const [first] = group
    if (first === undefined) return []
    const { policyBefore, policyAfter } = first
    const compiled = (id: string | undefined): CompiledPod | undefined => (id === undefined ? undefined : names.policy(BigInt(`0x${id}`)))
    const rules = changeOfRules(compiled(policyBefore), compiled(policyAfter), policyBefore === undefined || compiled(policyBefore) !== undefined)
    return [
      {
        pods: group.map(({ name }) => name),
        ...(policyBefore === undefined ? {} : { policyBefore }),
        ...(policyAfter === undefined ? {} : { policyAfter }),
        rules,
      },
    ]
  })
}

function plannedMaps({ after, capacities }: Sides, changes: readonly Change[]): PlannedMap[] {
  return mapNames.map((map) => {
    const count = (kind: Change['kind']) => changes.filter((change) => change.map === map && change.kind === kind).length
    return {
      map,
      added: count('add'),
      changed: count('change'),
      removed: count('remove'),
      entries: after.desired.maps[map].size,
      capacity: capacities[map],
    }
  })
}

export function plan(sides: Sides): Planned {
  const names = namesOf(sides)
  const changes = changesOf(sides.have, sides.after.desired.maps)
  const pods = plannedPods(sides, names, changes)
  return {
    changes: changes.length > 0 || pods.some(({ loopback }) => loopback !== undefined),
    pods,
    rules: plannedRules(pods, names),
    maps: plannedMaps(sides, changes),
    entries: changes.map((change) => inWords(change, names)),
  }
}
