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
  let swept = 0
  for (const { key, value } of await askers.entries()) {
    const present = isOld(value) ? askers.lookup(key) : value // it may have been used meanwhile
    if (present !== undefined && isOld(present) && askers.delete(key)) {
      swept++
      continue
    }
    const { netns } = askerCodec.decode(value)
    left.set(netns, (left.get(netns) ?? 0) + 1)
  }
  await putRight(counts, left, pods)
  return swept
}

/** Of all pods: whatever made a count drift, it must not stay. An id that is made at this very moment may be missed, until the next sweep. */
async function putRight(counts: BpfMap, left: ReadonlyMap<bigint, number>, pods: BpfMap): Promise<void> {
  const entries = await counts.entries()
  const present = ({ key }: { key: Buffer }): boolean => pods.lookup(key) !== undefined
  await counts.deleteBatch(entries.filter((entry) => !present(entry)).map(({ key }) => key))
  const counted = new Map(entries.filter(present).map(({ key, value }) => [u64Codec.decode(key), value.readBigInt64LE()]))
  for (const netns of new Set([...counted.keys(), ...left.keys()])) {
    const key = u64Codec.encode(netns)
    const right = BigInt(left.get(netns) ?? 0)
    if (counted.get(netns) === right || !present({ key })) continue
    const count = Buffer.alloc(8)
    count.writeBigInt64LE(right)
    counts.update(key, count)
  }
}
