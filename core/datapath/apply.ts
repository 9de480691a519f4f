/**
 * Brings the kernel's maps to what compile wants. The order is the point:
 *
 *   1. content that nobody uses yet: sets and policies (their ids are new, because policies are immutable), routes, ports of proxies;
 *   2. for pods that join or have a new proxy port: listeners that exist already, then their copy of the inbound program, which passes
 *      everything while the pod is not in `pods`; what their lo must have (loopback.ts);
 *   3. the switch: one atomic map update per pod. Before it a connection sees the old policy, after it the new one; what holds for its acceleration;
 *   4. pods that leave: out of `pods`;
 *   5. when every program that may still hold the old policy has ended: what nobody uses any more, at lo, inbound programs, maps.
 *
 * A failure of one pod (its namespace may vanish at any moment) leaves that pod as it was and does not disturb the others.
 */
import { unlinkSync } from 'node:fs'
import { u64Codec } from '../codec.ts'
import type { Desired } from '../compile/compile.ts'
import { type MapName, mapNames } from '../compile/maps.ts'
import { counterKeyCodec, proxyPortCodec } from '../contract.ts'
import { diffMaps, isEmpty, type MapDiffs } from '../diff.ts'
import type { Entry } from '../native/api.ts'
import { using, usingAsync } from '../scope.ts'
import { dropLoopbacks, type LoopbackWork, loopbackWork, putLoopbacks } from './applylo.ts'
import type { Datapath } from './datapath.ts'
import { attachTypes } from './hooks.ts'
import type { LoopbackPlace } from './loopback.ts'
import { listenerSearch } from './search.ts'

export type Place = LoopbackPlace

export interface Applied {
  /** A pod joined, left or got another policy or acceleration: the generation grew by one. Routes that a pod changed itself do not count. */
  readonly changed: boolean
  /** Pods that could not be enrolled or switched, by netns cookie. */
  readonly failed: ReadonlyMap<bigint, Error>
  /** What could not be taken away from the lo of pods. */
  readonly left?: readonly string[]
  /** The namespaces of pods are not any more as they were seen. */
  readonly addedToLo?: boolean
}

const beforeTheSwitch: readonly MapName[] = ['port_sets', 'owner_sets', 'cidr_sets', 'policies', 'routes', 'proxy_ports', 'nat_pods']

export async function apply(datapath: Datapath, want: Desired, places: ReadonlyMap<bigint, Place>): Promise<Applied> {
  const have = Object.fromEntries(mapNames.map((name) => [name, datapath.have[name].values()])) as unknown as Record<MapName, Iterable<Entry>>
  const changes = diffMaps(have, want.maps)
  const attached = new Set(datapath.layout.pods())
  const joining = [...want.pods.keys()].filter((netns) => !attached.has(netns))
  const leaving = [...attached].filter((netns) => !want.pods.has(netns))
  datapath.loopbacks.seen(places)
  datapath.acceleration.looking.seen(places)
  const loopbacks = loopbackWork(datapath, want)
  const isIdle = Object.values(changes).every(isEmpty) && joining.length + leaving.length + loopbacks.due.length + loopbacks.left.length === 0
  if (isIdle && !datapath.searchAgain) return { changed: false, failed: new Map() }
  try {
    return await write(datapath, want, changes, { joining, leaving, loopbacks }, places)
  } catch (error) {
    await datapath.refresh() // the next attempt starts from what really is there
    throw error
  }
}

interface Work {
  readonly joining: readonly bigint[]
  readonly leaving: readonly bigint[]
  readonly loopbacks: LoopbackWork
}

async function write(
  datapath: Datapath,
  want: Desired,
  changes: MapDiffs,
  { joining, leaving, loopbacks }: Work,
  places: ReadonlyMap<bigint, Place>,
): Promise<Applied> {
  const { maps } = datapath
  for (const name of beforeTheSwitch) await maps[name].updateBatch(changes[name].put)

  const failed = await prepare(datapath, want, changes, joining, places)
  if (failed.size === 0) datapath.listenersMissed = false
  const addedToLo = await putLoopbacks(datapath, want, loopbacks, failed)
  detachFailed(datapath, joining, failed)

  const switched = changes.pods.put.filter(({ key }) => !failed.has(key.readBigUInt64LE()))
  for (const { key, value } of switched) maps.pods.update(key, value)
  const accelerating = changes.accelerated.put.filter(({ key }) => !failed.has(key.readBigUInt64LE()))
  if (want.maps.accelerated.size > 0) datapath.acceleration.watchReaders(true)
  for (const { key, value } of accelerating) maps.accelerated.update(key, value)

  for (const key of changes.accelerated.remove) maps.accelerated.delete(key)
  for (const key of changes.pods.remove) maps.pods.delete(key)
  await datapath.native.barrier()
  const left = await dropLoopbacks(datapath, want, loopbacks, failed)
  for (const netns of leaving) unlinkSync(datapath.layout.pod(netns))
  await removeUnused(datapath, want, changes, failed)

  if (failed.size > 0) await datapath.refresh()
  else datapath.have = want.maps
  if (datapath.have.accelerated.size === 0) datapath.acceleration.watchReaders(false)
  const changed = switched.length + changes.pods.remove.length + accelerating.length + changes.accelerated.remove.length > 0
  if (changed) {
    const meta = datapath.meta()
    datapath.writeMeta({ ...meta, generation: meta.generation + 1n })
  }
  return { changed, failed, left, addedToLo }
}

/** Finds the proxies that listen already and attaches the inbound program, pod by pod. */
async function prepare(
  datapath: Datapath,
  want: Desired,
  changes: MapDiffs,
  joining: readonly bigint[],
  places: ReadonlyMap<bigint, Place>,
): Promise<Map<bigint, Error>> {
  const failed = new Map<bigint, Error>()
  const missed = datapath.listenersMissed ? want.pods.keys() : [...datapath.unfound.keys()].filter((netns) => want.pods.has(netns))
  const toSearch = new Set([...missed, ...changes.proxy_ports.put.map(({ key }) => proxyPortCodec.decode(key).netns)])
  const join = new Set(joining)
  for (const netns of datapath.unfound.keys()) if (toSearch.has(netns) || !want.pods.has(netns)) datapath.unfound.delete(netns)
  if (toSearch.size === 0 && join.size === 0) return failed
  await usingAsync(listenerSearch(datapath, want.maps.proxy_ports.values()), async (search) => {
    for (const netns of new Set([...toSearch, ...join])) {
      const place = places.get(netns)
      try {
        if (place === undefined) throw new Error('its network namespace is not known any more')
        const unfound = toSearch.has(netns) ? await search.find(netns, place) : []
        if (unfound.length > 0) datapath.unfound.set(netns, unfound)
        if (join.has(netns)) attachInbound(datapath, netns, place)
      } catch (error) {
        failed.set(netns, error instanceof Error ? error : new Error(String(error)))
      }
    }
  })
  return failed
}

function attachInbound(datapath: Datapath, netns: bigint, place: Place): void {
  using(datapath.inboundCopy(netns), (program) =>
    using(datapath.native.attachNetns(program, place.path, attachTypes.skLookup), (link) => {
      if (link.info.netnsInode !== place.inode) throw new Error(`${place.path} is another network namespace now`)
      link.pin(datapath.layout.pod(netns))
    }),
  )
}

/** A pod that could not join is left as it was found. */
function detachFailed({ layout, have }: Datapath, joining: readonly bigint[], failed: ReadonlyMap<bigint, Error>): void {
  const attached = new Set(layout.pods())
  const isEnrolled = (netns: bigint) => have.pods.has(u64Codec.encode(netns).toString('hex'))
  for (const netns of joining) if (failed.has(netns) && attached.has(netns) && !isEnrolled(netns)) unlinkSync(layout.pod(netns))
}

/**
 * A pod that failed keeps what it had: the policy that it was switched to before may still be in use. Listeners are left to the kernel, which drops
 * them when they close: to delete one while its owner closes it leaks the socket, and its port with it (CVE-2024-39500, before 6.10).
 */
async function removeUnused(datapath: Datapath, want: Desired, changes: MapDiffs, failed: ReadonlyMap<bigint, Error>): Promise<void> {
  const { maps } = datapath
  if (failed.size === 0) for (const name of beforeTheSwitch) await maps[name].deleteBatch(changes[name].remove)
  if (changes.pods.put.length + changes.pods.remove.length === 0) return
  const counters = (await maps.counters.entries()).map(({ key }) => key)
  await maps.counters.deleteBatch(
    counters.filter((key) => {
      const { netns, policy } = counterKeyCodec.decode(key)
      const pod = want.pods.get(netns)
      return pod === undefined || (policy !== 0n && policy !== pod.policy && !failed.has(netns))
    }),
  )
}
