/**
 * What must outlive a version of the datapath: what an operator has switched off stays off, whichever build comes next. Read through the pins of the earlier
 * ones, which may be of another contract, or lack parts: contract-accel.h says what of them every version can read.
 */
import { u32Codec, u64Codec } from '../codec.ts'
import { AccelStop, accelSettingsCodec } from '../contract.ts'
import type { BpfObject, Native } from '../native/api.ts'
import { using, usingAsync } from '../scope.ts'
import type { Log } from './datapath.ts'
import type { Layout } from './layout.ts'

export interface Carried {
  /** enum accel_stop, or-ed. */
  readonly stopped: number
  readonly halted: ReadonlySet<bigint>
}

const first = u32Codec.encode(0)
const kept = AccelStop.OPERATOR | AccelStop.PRESSURE
/** Of accel_settings.stopped, in every version. */
export const stoppedAt = 8

function stoppedOf(native: Native, layout: Layout): number {
  if (!layout.mapNames().includes('accel_settings')) return 0
  const value = using(native.pinnedMap(layout.map('accel_settings')), (map) => map.lookup(first))
  return value === undefined || value.length < stoppedAt + u32Codec.size ? 0 : u32Codec.decode(value.subarray(stoppedAt, stoppedAt + u32Codec.size))
}

async function haltedOf(native: Native, layout: Layout): Promise<readonly bigint[]> {
  if (!layout.mapNames().includes('halted')) return []
  const entries = await usingAsync(native.pinnedMap(layout.map('halted')), (map) => map.entries())
  return entries.flatMap(({ key }) => (key.length === u64Codec.size ? [u64Codec.decode(key)] : []))
}

/** `others`: the datapaths beside a new one. One that was retired before, and only waits for its last sockets, has nothing to say any more. */
export async function readCarried(native: Native, others: readonly Layout[], log: Log): Promise<Carried> {
  let stopped = 0
  const halted = new Set<bigint>()
  for (const layout of others) {
    try {
      const bits = stoppedOf(native, layout)
      if ((bits & AccelStop.LEAVING) !== 0 && layout.linkNames().length === 0) continue
      stopped |= bits & kept
      for (const netns of await haltedOf(native, layout)) halted.add(netns)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      log('warn', 'what was switched off in an earlier datapath could not be read: merbridge accelerate off says it again', {
        bpffs: layout.directory,
        reason,
      })
    }
  }
  return { stopped, halted }
}

/** Before the new datapath does anything. Pods that are gone are tidied later, like all. */
export function writeCarried(object: BpfObject, { stopped, halted }: Carried): void {
  using(object.map('accel_settings'), (map) => {
    const value = map.lookup(first)
    if (value !== undefined) map.update(first, accelSettingsCodec.encode({ ...accelSettingsCodec.decode(value), stopped }))
  })
  using(object.map('halted'), (map) => {
    for (const netns of [...halted].slice(0, map.info.maxEntries)) map.update(u64Codec.encode(netns), u32Codec.encode(1))
  })
}
