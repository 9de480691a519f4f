/** Reads and tidies what the programs write: counters of rules and reasons, hand-overs that nobody fetched. */
import { u64Codec } from '../codec.ts'
import { counterKeyCodec, handoverCodec, Reason, Stage, tupleCodec } from '../contract.ts'
import type { BpfMap, Entry } from '../native/api.ts'
import type { RefusalView, StatusView } from '../views.ts'
import { type Counted, kindOf, nothing, plus, sumOf } from './tally.ts'

/** Decisions of one pod under its present policy, and its refusals. */
export interface PodCounts {
  /** By rule index; Limit.RULES: no rule matched. */
  readonly outbound: ReadonlyMap<number, Counted>
  readonly inbound: ReadonlyMap<number, Counted>
  readonly refusals: readonly RefusalView[]
}

/** Names as an operator reads them: NO_LISTENER -> "no listener". */
export const reasonNames: ReadonlyMap<number, string> = new Map(
  Object.entries(Reason).map(([name, value]) => [value, name.toLowerCase().replaceAll('_', ' ')]),
)

/** A per-CPU value has eight bytes for each possible CPU. */
function sum(value: Buffer): number {
  let total = 0n
  for (let offset = 0; offset + 8 <= value.length; offset += 8) total += value.readBigUInt64LE(offset)
  return Number(total)
}

interface Count extends Counted {
  readonly netns: bigint
  readonly policy: bigint
  readonly stage: number
  readonly index: number
}

function decode({ key, value }: Entry): Count {
  const { family, protocol, ...of } = counterKeyCodec.decode(key)
  const [kind, count] = [kindOf(protocol, family), sum(value)]
  return { ...of, count, by: kind === undefined ? {} : { [kind]: count } }
}

export async function readCounts(counters: BpfMap): Promise<Count[]> {
  return (await counters.entries()).map(decode)
}

/** What is counted under one number, over protocols and families. */
function totals<Name>(counts: readonly Count[], nameOf: (index: number) => Name): Map<Name, Counted> {
  const found = new Map<Name, Counted>()
  for (const count of counts) found.set(nameOf(count.index), plus(found.get(nameOf(count.index)) ?? nothing, count))
  return found
}

export function podCounts(counts: readonly Count[], netns: bigint, policy: bigint): PodCounts {
  const own = counts.filter((count) => count.netns === netns)
  const stage = (wanted: Stage) =>
    totals(
      own.filter((count) => count.stage === wanted && count.policy === policy),
      (index) => index,
    )
  return { outbound: stage(Stage.OUTBOUND), inbound: stage(Stage.INBOUND), refusals: refusals(own) }
}

/** Summed over all pods that are given, only what occurred, the most frequent first. */
export function refusals(counts: readonly Count[]): RefusalView[] {
  const reasons = totals(
    counts.filter(({ stage }) => stage === Stage.REASON),
    (index) => reasonNames.get(index) ?? `reason ${index}`,
  )
  return [...reasons].map(([reason, counted]) => ({ reason, ...counted })).sort((a, b) => b.count - a.count)
}

/** Over all pods and the policies that they have. */
export function decisions(counts: readonly Count[]): StatusView['decisions'] {
  const stage = (wanted: Stage) => sumOf(counts.filter((count) => count.stage === wanted).map(({ by }) => by))
  return { outbound: stage(Stage.OUTBOUND), inbound: stage(Stage.INBOUND) }
}

/**
 * Longer than any SYN is retried (tcp_syn_retries 6: 127 s). What is older was left behind by a client whose close we were not told of, because
 * another program cleared our callback flag.
 */
const handoverLifetime = 180_000_000_000n

export async function sweepHandovers(handovers: BpfMap, pending: BpfMap): Promise<number> {
  const now = process.hrtime.bigint() // CLOCK_MONOTONIC, as bpf_ktime_get_ns()
  const entries = await handovers.entries()
  const isOld = ({ value }: Entry): boolean => now - handoverCodec.decode(value).created > handoverLifetime
  const old = entries.filter(isOld)
  const swept = await handovers.deleteBatch(old.map(({ key }) => key))
  // The pods' own counts do not know of it. A connection that begins at this very moment may be missed: one of 16,384.
  for (const netns of new Set(old.map(netnsOf))) {
    const count = Buffer.alloc(8)
    count.writeBigInt64LE(BigInt(entries.filter((entry) => netnsOf(entry) === netns && !isOld(entry)).length))
    pending.update(u64Codec.encode(netns), count)
  }
  return swept
}

/** A pod that has left keeps its count until its last hand-over is gone. */
export async function tidyPending(pending: BpfMap, pods: BpfMap): Promise<void> {
  const left = (await pending.entries()).filter(({ key, value }) => value.readBigInt64LE() <= 0n && pods.lookup(key) === undefined)
  await pending.deleteBatch(left.map(({ key }) => key))
}

const netnsOf = ({ key }: Entry): bigint => tupleCodec.decode(key).netns
