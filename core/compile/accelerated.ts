/** What holds in a pod for acceleration: toward which receivers, and who its proxy is. A pod without a mode has no entry, and its sockets pay nothing. Pure. */
import type { Mode } from '../acceleration/api.ts'
import { u64Codec } from '../codec.ts'
import { type AcceleratedRecord, AccelMode, acceleratedCodec } from '../contract.ts'
import type { Entry } from '../native/api.ts'
import type { Interception } from '../plugin.ts'
import { type Locality, nowhere, outsideId } from './localize.ts'

/** No user and no group has it. */
export const noId = 0xffffffff

const modes: Readonly<Record<Exclude<Mode, 'none'>, AccelMode>> = { proxies: AccelMode.PROXIES, auto: AccelMode.AUTO, all: AccelMode.ALL }

interface Accelerating {
  readonly netns: bigint
  readonly interception: Pick<Interception, 'proxy'>
  readonly locality?: Locality
  readonly acceleration?: Mode
}

const entryOf = (record: AcceleratedRecord): Entry => ({ key: u64Codec.encode(record.netns), value: acceleratedCodec.encode(record) })

/** An id that the pod's user namespace does not map is nobody's. */
export function acceleratedPod({ netns, interception, locality = nowhere, acceleration = 'none' }: Accelerating): Entry[] {
  if (acceleration === 'none') return []
  const { uid, gid, mark = 0 } = interception.proxy ?? {}
  const { ids } = locality
  const own = (id: number | undefined, kind: 'uid' | 'gid') => (id === undefined ? noId : (outsideId(id, ids?.[kind]) ?? noId))
  return [entryOf({ netns, mode: modes[acceleration], uid: own(uid, 'uid'), gid: own(gid, 'gid'), mark })]
}

/**
 * Of a pod that keeps its rules: who its proxy is stays, the mode may change, and be none, so that it may come back. What had none gets none: who its
 * proxy is nobody can say.
 */
export function acceleratedAsBefore(before: AcceleratedRecord | undefined, mode: Mode | undefined): Entry[] {
  if (before === undefined) return []
  return [entryOf(mode === undefined ? before : { ...before, mode: mode === 'none' ? AccelMode.NONE : modes[mode] })]
}
