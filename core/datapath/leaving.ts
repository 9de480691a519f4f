/**
 * The end of a datapath that has joined sockets, of this version or of another one: nobody may begin to redirect, then each socket leaves `joined` when nothing
 * waits in its queue. A socket that is taken out earlier, or whose map goes, loses what waits. So what such sockets need stays pinned as long as there is one.
 * Everything here works through the pins of the datapath in question, whose programs know its maps; this build's may not.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { u32Codec } from '../codec.ts'
import { AccelStop, accelSettingsCodec, joinedKeyCodec, pairCodec, pairKeyCodec } from '../contract.ts'
import type { Native } from '../native/api.ts'
import { using, usingAsync } from '../scope.ts'
import { type Layout, version } from './layout.ts'

/** What must stay while a socket is joined: its map, the program that its stub calls, and what tells whose socket it is. */
const needed: ReadonlySet<string> = new Set(['joined', 'accelerators', 'accel_settings', 'pairs'])
const first = u32Codec.encode(0)
const pauseMs = 50

export const mayHaveJoined = (layout: Layout): boolean => layout.mapNames().includes('joined')

/** No socket joins any more, and from the next message on everything goes by TCP. */
export async function stopJoining(native: Native, layout: Layout): Promise<void> {
  const pinned = layout.mapNames()
  if (pinned.includes('accelerated')) {
    await usingAsync(native.pinnedMap(layout.map('accelerated')), async (map) => map.deleteBatch((await map.entries()).map(({ key }) => key)))
  }
  if (pinned.includes('accel_settings')) {
    using(native.pinnedMap(layout.map('accel_settings')), (map) => {
      const value = map.lookup(first)
      if (value?.length !== accelSettingsCodec.size) return // of a version to come; without a program nothing is redirected either
      const settings = accelSettingsCodec.decode(value)
      map.update(first, accelSettingsCodec.encode({ ...settings, stopped: settings.stopped | AccelStop.LEAVING }))
    })
  }
  if (pinned.includes('accelerators')) using(native.pinnedMap(layout.map('accelerators')), (map) => map.delete(first))
  await native.barrier() // a program that was running may still have begun
}

/** Takes out what can go. How many sockets stay. */
export async function drainOnce(native: Native, layout: Layout): Promise<number> {
  if (!mayHaveJoined(layout)) return 0
  const iterator = layout.acceleration('drain')
  if (existsSync(iterator)) await readFile(iterator)
  return usingAsync(native.pinnedMap(layout.map('joined')), async (map) => (await map.entries()).length)
}

/** Until nothing stays, or the time is up. How many sockets stay. */
export async function drainFor(native: Native, layout: Layout, milliseconds: number): Promise<number> {
  const end = performance.now() + milliseconds
  for (;;) {
    const stay = await drainOnce(native, layout)
    if (stay === 0 || performance.now() >= end) return stay
    await sleep(Math.min(pauseMs, Math.max(1, end - performance.now())))
  }
}

/** How many sockets stay, by netns cookie; 0n: not known whose. */
export async function staying(native: Native, layout: Layout): Promise<ReadonlyMap<bigint, number>> {
  const keys = await usingAsync(native.pinnedMap(layout.map('joined')), async (map) => (await map.entries()).map(({ key }) => key))
  const counts = new Map<bigint, number>()
  const isReadable = layout.directory.endsWith(version) && layout.mapNames().includes('pairs')
  const count = (netns: bigint) => counts.set(netns, (counts.get(netns) ?? 0) + 1)
  if (!isReadable) {
    for (const _ of keys) count(0n)
    return counts
  }
  using(native.pinnedMap(layout.map('pairs')), (pairs) => {
    for (const key of keys) {
      const { pair, side } = joinedKeyCodec.decode(key)
      const value = pairs.lookup(pairKeyCodec.encode(pair))
      count(value === undefined ? 0n : (pairCodec.decode(value).sides[side]?.netns ?? 0n))
    }
  })
  return counts
}

/** Everything goes but what joined sockets need. */
export const removeAllButJoined = (layout: Layout): void => layout.removeBut(needed, new Set(['drain']))

/** A datapath whose work another one does: all that is not needed goes at once, the rest when its last socket has left. How many stay. */
export async function retire(native: Native, layout: Layout): Promise<number> {
  if (mayHaveJoined(layout)) {
    await stopJoining(native, layout)
    removeAllButJoined(layout)
    const stay = await drainOnce(native, layout)
    if (stay > 0) return stay
  }
  layout.remove()
  return 0
}
