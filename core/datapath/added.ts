/** The map `added`: what the agent has made at the lo of pods. */
import { type AddedRecord, addedCodec } from '../contract.ts'
import type { BpfMap } from '../native/api.ts'

/** A map of another layout, which a version to come may have, is not read. */
export async function readAdded(map: BpfMap): Promise<AddedRecord[]> {
  if (map.info.keySize !== addedCodec.size) return []
  return (await map.entries()).map(({ key }) => addedCodec.decode(key))
}
