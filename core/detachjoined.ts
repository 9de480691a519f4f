/** What `detach` does about sockets that acceleration has joined: they leave first, because what waits in their queues would be lost with their map. */

import type { Layout } from './datapath/layout.ts'
import { drainFor, isReadable, mayHaveJoined, staying, stopJoining } from './datapath/leaving.ts'
import { Allowance } from './datapath/looks.ts'
import { behindIn, tellAgain } from './datapath/telling.ts'
import type { DetachSetting, EnrolledPod } from './detach.ts'
import { placesByCookie } from './detachlo.ts'
import type { NamespacePlace, Native } from './native/api.ts'
import type { WaitingView } from './views.ts'

const defaultWaitMs = 10_000

/** Sockets that do not leave within the time, by netns cookie; none where the operator gives up what waits in them. */
export async function drainJoined(
  native: Native,
  layout: Layout,
  { waitMs = defaultWaitMs, loseData = false }: DetachSetting,
): Promise<ReadonlyMap<bigint, number>> {
  if (!mayHaveJoined(layout)) return new Map()
  await stopJoining(native, layout)
  const stay = await drainFor(native, layout, waitMs, teller(native, layout))
  return stay === 0 || loseData ? new Map() : staying(native, layout)
}

/**
 * Has readers told again, and is asked often: in namespaces where one is behind, or, of another version's datapath, which does not say where, in all; that costs
 * a twentieth of the time at most.
 */
function teller(native: Native, layout: Layout): () => Promise<void> {
  const allowance = new Allowance()
  let found: Promise<ReadonlyMap<bigint, NamespacePlace>> | undefined
  const places = () => (found ??= placesByCookie(native)) // joined sockets do not come to new ones
  return async () => {
    if (isReadable(layout)) {
      const behind = await behindIn(native, layout)
      const paths = behind.size === 0 ? [] : [...(await places())].flatMap(([netns, { path }]) => (behind.has(netns) ? [path] : []))
      return tellAgain(native, layout, paths)
    }
    if (allowance.pause() > 0) return
    const began = performance.now()
    await tellAgain(
      native,
      layout,
      [...(await places()).values()].map(({ path }) => path),
    )
    allowance.spend(performance.now() - began)
  }
}

/** The pods by name. After an earlier detach only the cookie tells them. */
export async function waitingView(
  native: Native,
  sockets: ReadonlyMap<bigint, number>,
  pods: readonly EnrolledPod[],
  podNames: ReadonlyMap<string, string>,
): Promise<WaitingView[]> {
  if (sockets.size === 0) return []
  const names = new Map(pods.map(({ netns, name }) => [netns, name]))
  const places = [...sockets.keys()].every((netns) => names.has(netns)) ? undefined : await placesByCookie(native)
  const nameOf = (netns: bigint): string => {
    const path = places?.get(netns)?.path
    return names.get(netns) ?? (path === undefined ? `network namespace with cookie ${netns}` : (podNames.get(path) ?? path))
  }
  return [...sockets].map(([netns, count]) => ({ pod: netns === 0n ? 'not known whose' : nameOf(netns), sockets: count }))
}
