/** Ids of datagrams (bpf/contract-udp.h) that nobody uses any more. The programs only add them. */
import { u64Codec } from '../codec.ts'
import { AskerKind, askerCodec } from '../contract.ts'
import type { BpfMap } from '../native/api.ts'

/**
 * Nanoseconds. The id of a datagram is made again when it is needed, so it need not outlive an answer by much. One that a connected socket has as its
 * peer is not, and the socket may be silent for long.
 */
const lifetimes: Readonly<Record<AskerKind, bigint>> = { [AskerKind.SENDS]: 300_000_000_000n, [AskerKind.CONNECTS]: 86_400_000_000_000n }

/** Those that are idle, and those of pods that left. Returns how many went. `now`: CLOCK_MONOTONIC, as bpf_ktime_get_ns(). */
export async function sweepAskers(askers: BpfMap, counts: BpfMap, pods: BpfMap, now = process.hrtime.bigint()): Promise<number> {
  const isOld = (value: Buffer): boolean => {
    const { netns, used, kind } = askerCodec.decode(value)
    return now - used > lifetimes[kind] || pods.lookup(u64Codec.encode(netns)) === undefined
  }
  const left = new Map<bigint, number>()
  const swept = new Map<bigint, number>()
  for (const { key, value } of await askers.entries()) {
    const present = isOld(value) ? askers.lookup(key) : value // it may have been used meanwhile
    const goes = present !== undefined && isOld(present) && askers.delete(key)
    const counted = goes ? swept : left
    const { netns } = askerCodec.decode(value)
    counted.set(netns, (counted.get(netns) ?? 0) + 1)
  }
  await putRight(counts, left, swept, pods)
  return [...swept.values()].reduce((sum, count) => sum + count, 0)
}

/** An id that is made at this very moment may be missed: one of 4,096. */
async function putRight(counts: BpfMap, left: ReadonlyMap<bigint, number>, swept: ReadonlyMap<bigint, number>, pods: BpfMap): Promise<void> {
  const gone = (await counts.entries()).filter(({ key }) => pods.lookup(key) === undefined)
  await counts.deleteBatch(gone.map(({ key }) => key))
  for (const netns of swept.keys()) {
    const key = u64Codec.encode(netns)
    if (pods.lookup(key) === undefined) continue
    const count = Buffer.alloc(8)
    count.writeBigInt64LE(BigInt(left.get(netns) ?? 0))
    counts.update(key, count)
  }
}
