/** What apply needs of pods that are placed, and what became of them after it. */
import { shownId } from './compile/localize.ts'
import type { Place } from './datapath/apply.ts'
import type { Datapath } from './datapath/datapath.ts'
import type { Outcome } from './enrol.ts'
import type { NamespaceState } from './native/api.ts'
import { podTitle, type Snapshot } from './pods/static.ts'

const placeOf = (path: string, { inode, addresses, routes }: NamespaceState): Place => ({ path, inode, addresses, routes })

export function places(snapshot: Snapshot): Map<bigint, Place> {
  return new Map(
    snapshot.placements.flatMap((placement) =>
      'state' in placement ? [[placement.state.cookie, placeOf(placement.pod.netns, placement.state)] as const] : [],
    ),
  )
}

/** Title -> inode of the network namespace. */
export function enrolledPods(outcomes: readonly Outcome[], snapshot: Snapshot): Map<string, number> {
  const namespaces = places(snapshot)
  return new Map(
    outcomes.flatMap(({ pod, state, netns, kept }) => {
      const inode = (state === 'enrolled' || kept) && netns !== undefined ? namespaces.get(netns)?.inode : undefined
      return inode === undefined ? [] : [[podTitle(pod), inode] as const]
    }),
  )
}

/** `failed`: pods that the kernel did not take. */
export function afterApply(outcome: Outcome, failed: ReadonlyMap<bigint, Error>, unfound: Datapath['unfound']): Outcome {
  if (outcome.netns === undefined || outcome.state !== 'enrolled') return outcome
  const error = failed.get(outcome.netns)
  if (error !== undefined) return { ...outcome, state: 'failed', reason: `${error.message}; trying again` }
  const missing = unfound.get(outcome.netns) ?? []
  const warnings = missing.map(
    ({ address, port, uid, reason }) =>
      `the proxy that listens on ${address}:${port} (uid ${shownId(uid, outcome.users?.uid)}) could not be registered: ${reason}; inbound connections are refused until it is, or listens again`,
  )
  return { ...outcome, warnings: [...outcome.warnings, ...warnings] }
}
