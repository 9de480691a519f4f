/** Reads and tidies what the programs of acceleration write. */
import { readFile } from 'node:fs/promises'
import type { AccelCount, AccelEnd, AccelPair } from '../acceleration/api.ts'
import { u64Codec } from '../codec.ts'
import { AccelPlace, AccelReason, accelCountCodec, accelKeyCodec, pairCodec, pairKeyCodec, type SideRecord } from '../contract.ts'
import type { BpfMap, Entry } from '../native/api.ts'
import type { Layout } from './layout.ts'

/** A value for each possible CPU. */
function countOf({ key, value }: Entry): AccelCount {
  let [messages, bytes, connections] = [0n, 0n, 0n]
  for (let at = 0; at + accelCountCodec.size <= value.length; at += accelCountCodec.size) {
    const one = accelCountCodec.decode(value.subarray(at, at + accelCountCodec.size))
    messages += one.messages
    bytes += one.bytes
    connections += one.connections
  }
  return { ...accelKeyCodec.decode(key), messages, bytes, connections }
}

export const readCounts = async (counters: BpfMap): Promise<AccelCount[]> => (await counters.entries()).map(countOf)

/** Of pods that left. */
export async function tidyCounts(counters: BpfMap, known: ReadonlySet<bigint>): Promise<void> {
  const left = (await counters.entries()).map(({ key }) => key).filter((key) => !known.has(accelKeyCodec.decode(key).netns))
  if (left.length > 0) await counters.deleteBatch(left)
}

/** The reason of an end that has sent nothing yet is 0, too: that of a redirect. */
export const endOf = ({ netns, place, redirects, reason }: Pick<SideRecord, 'netns' | 'place' | 'redirects' | 'reason'>): AccelEnd => ({
  netns,
  place,
  redirecting: place === AccelPlace.JOINED && redirects > 0n && reason === AccelReason.REDIRECTED,
  reason: reason as AccelReason,
})

/** Of an end that is not known the entry has no socket. */
export async function readPairs(pairs: BpfMap): Promise<AccelPair[]> {
  const all = (await pairs.entries()).map(({ value }) => pairCodec.decode(value))
  return all.map(({ sides }) => ({ ends: sides.filter(({ sk }) => sk !== 0n).map(endOf) })).filter(({ ends }) => ends.length > 0)
}

/** Namespaces of all sockets, and of those whose reader may have to be told again. */
export async function readEnds(pairs: BpfMap): Promise<{ readonly all: ReadonlySet<bigint>; readonly behind: ReadonlySet<bigint> }> {
  const sides = (await pairs.entries()).flatMap(({ value }) => pairCodec.decode(value).sides).filter(({ sk }) => sk !== 0n)
  const namespacesOf = (some: typeof sides) => new Set(some.map(({ netns }) => netns))
  return { all: namespacesOf(sides), behind: namespacesOf(sides.filter(({ behind }) => behind !== 0)) }
}

export const readHalted = async (halted: BpfMap): Promise<ReadonlySet<bigint>> =>
  new Set((await halted.entries()).map(({ key }) => u64Codec.decode(key)))

/** The iterator writes the keys. Sequence numbers that two connections choose alike within this moment are no concern: 2^64 of them. */
export async function sweepStale(layout: Layout, pairs: BpfMap): Promise<number> {
  const written = await readFile(layout.acceleration('stale'))
  const size = pairKeyCodec.size
  const keys = Array.from({ length: Math.floor(written.length / size) }, (_, index) => written.subarray(index * size, (index + 1) * size))
  return keys.length === 0 ? 0 : pairs.deleteBatch(keys)
}
