/**
 * The end of a datapath that has joined sockets, of this version or of another one: each socket leaves `joined` when nothing waits in its queue, nor in that of
 * the other end (bpf/leave.bpf.h). A socket that is taken out earlier, or whose map goes, loses what waits. Until then the program that decides has to keep the
 * order: without it, bytes would come by TCP behind what waits, and a reader that is told of changes only would not be told of them. So what such sockets
 * need stays pinned as long as there is one. Everything here works through the pins of the datapath in question, whose programs know its maps; this build's
 * may not.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { u32Codec } from '../codec.ts'
import { AccelStop, joinedKeyCodec, pairCodec, pairKeyCodec } from '../contract.ts'
import type { BpfMap, Native } from '../native/api.ts'
import { using, usingAsync } from '../scope.ts'
import { stoppedAt } from './carried.ts'
import { type Layout, version } from './layout.ts'
import { tellAgain } from './telling.ts'

/** What must stay while a socket is joined: its map, the program that its stub calls, and what tells whose socket it is. */
const needed: ReadonlySet<string> = new Set(['joined', 'accelerators', 'accel_settings', 'pairs'])
const neededLinks: ReadonlySet<string> = new Set(['drain', 'nudge'])
const first = u32Codec.encode(0)
const pauseMs = 50

/** Its entries of `pairs` are of this build's shape. */
export const isReadable = (layout: Layout): boolean => layout.directory.endsWith(version) && layout.mapNames().includes('pairs')

export const mayHaveJoined = (layout: Layout): boolean => layout.mapNames().includes('joined')

/**
 * No socket joins any more, and each direction goes by TCP from the next message on that finds nothing waiting. A version that cannot be told so loses its
 * program: then it is from the next message on, whatever waits.
 */
export async function stopJoining(native: Native, layout: Layout): Promise<void> {
  const pinned = layout.mapNames()
  const told = pinned.includes('accel_settings') && using(native.pinnedMap(layout.map('accel_settings')), tellLeaving)
  if (pinned.includes('accelerated')) {
    await usingAsync(native.pinnedMap(layout.map('accelerated')), async (map) => map.deleteBatch((await map.entries()).map(({ key }) => key)))
  }
  if (!told && pinned.includes('accelerators')) using(native.pinnedMap(layout.map('accelerators')), (map) => map.delete(first))
  await native.barrier() // a program that was running may still have begun
}

/** The place of `stopped` is the same in every version. false: it is not there. */
function tellLeaving(settings: BpfMap): boolean {
  const value = settings.lookup(first)
  if (value === undefined || value.length < stoppedAt + u32Codec.size) return false
  const stopped = u32Codec.decode(value.subarray(stoppedAt, stoppedAt + u32Codec.size))
  value.set(u32Codec.encode(stopped | AccelStop.LEAVING), stoppedAt)
  settings.update(first, value)
  return true
}

/** Takes out what can go. How many sockets stay. */
export async function drainOnce(native: Native, layout: Layout): Promise<number> {
  if (!mayHaveJoined(layout)) return 0
  const iterator = layout.acceleration('drain')
  if (existsSync(iterator)) await readFile(iterator)
  return usingAsync(native.pinnedMap(layout.map('joined')), async (map) => (await map.entries()).length)
}

/** Until nothing stays, or the time is up; `tell` has readers told again, each time. How many sockets stay. */
export async function drainFor(native: Native, layout: Layout, milliseconds: number, tell: () => Promise<void>): Promise<number> {
  const end = performance.now() + milliseconds
  for (;;) {
    const stay = await drainOnce(native, layout)
    await tell() // also those whose sockets have just left
    if (stay === 0 || performance.now() >= end) return stay
    await sleep(Math.min(pauseMs, Math.max(1, end - performance.now())))
  }
}

/**
 * How many sockets stay, by netns cookie; 0n: not known whose. One whose own queue is empty, and that stays because the other end does not read, does not count:
 * that one is named.
 */
export async function staying(native: Native, layout: Layout): Promise<ReadonlyMap<bigint, number>> {
  const keys = await usingAsync(native.pinnedMap(layout.map('joined')), async (map) => (await map.entries()).map(({ key }) => key))
  const counts = new Map<bigint, number>()
  const count = (netns: bigint) => counts.set(netns, (counts.get(netns) ?? 0) + 1)
  if (!isReadable(layout)) {
    for (const _ of keys) count(0n)
    return counts
  }
  using(native.pinnedMap(layout.map('pairs')), (pairs) => {
    for (const key of keys) {
      const { pair, side } = joinedKeyCodec.decode(key)
      const value = pairs.lookup(pairKeyCodec.encode(pair))
      const sides = value === undefined ? [] : pairCodec.decode(value).sides
      const own = sides[side]
      if (own === undefined || own.front !== 0n || sides.every(({ front }) => front === 0n)) count(own?.netns ?? 0n)
    }
  })
  return counts
}

/** Everything goes but what joined sockets need. */
export const removeAllButJoined = (layout: Layout): void => layout.removeBut(needed, neededLinks)

/**
 * A datapath whose work another one does: all that is not needed goes at once, the rest when its last socket has left. `paths`: of the namespaces in which its
 * sockets may be. How many stay.
 */
export async function retire(native: Native, layout: Layout, paths: readonly string[]): Promise<number> {
  if (mayHaveJoined(layout)) {
    await stopJoining(native, layout)
    removeAllButJoined(layout)
    const stay = await drainOnce(native, layout)
    await tellAgain(native, layout, paths)
    if (stay > 0) return stay
  }
  layout.remove()
  return 0
}
