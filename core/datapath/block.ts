/**
 * `detach --block`: the pods keep programs and maps, but whatever their policy would have sent to a proxy is refused. A blocking policy is the
 * old one with every redirect turned into a drop, under a new id with copies of its sets.
 */
import { createHash } from 'node:crypto'
import { cidrKeyCodec, ownerKeyCodec, podCodec, policyCodec, portKeyCodec, type RuleRecord, Verdict } from '../contract.ts'
import type { BpfMap, Entry } from '../native/api.ts'

export interface PolicyMaps {
  readonly pods: BpfMap
  readonly policies: BpfMap
  readonly port_sets: BpfMap
  readonly owner_sets: BpfMap
  readonly cidr_sets: BpfMap
}

const refuse = (rule: RuleRecord): RuleRecord => (rule.verdict === Verdict.TARGET ? { ...rule, verdict: Verdict.DROP, target: 0 } : rule)

function blocking(record: Buffer): Buffer {
  const policy = policyCodec.decode(record)
  return policyCodec.encode({ ...policy, outbound: policy.outbound.map(refuse), inbound: policy.inbound.map(refuse) })
}

interface KeyCodec {
  decode(bytes: Buffer): { readonly policy: bigint }
  encode(key: never): Buffer
}

/** The same sets for another policy. */
function copySets(entries: readonly Entry[], codec: KeyCodec, from: bigint, to: bigint): Entry[] {
  return entries.flatMap(({ key, value }) => {
    const decoded = codec.decode(key)
    return decoded.policy === from ? [{ key: codec.encode({ ...decoded, policy: to } as never), value }] : []
  })
}

/** Switches every enrolled pod to the blocking form of its policy; returns their netns cookies. Pods that are blocked already stay as they are. */
export async function blockPods(maps: PolicyMaps): Promise<bigint[]> {
  const sets = [
    { map: maps.port_sets, codec: portKeyCodec, entries: await maps.port_sets.entries() },
    { map: maps.owner_sets, codec: ownerKeyCodec, entries: await maps.owner_sets.entries() },
    { map: maps.cidr_sets, codec: cidrKeyCodec, entries: await maps.cidr_sets.entries() },
  ]
  const blockingIds = new Map<bigint, bigint>()
  for (const { key, value } of await maps.policies.entries()) {
    const record = blocking(value)
    if (record.equals(value)) continue
    const id = key.readBigUInt64LE()
    const newId = createHash('sha256').update('block').update(key).update(record).digest().readBigUInt64BE()
    for (const { map, codec, entries } of sets) await map.updateBatch(copySets(entries, codec, id, newId))
    const newKey = Buffer.alloc(8)
    newKey.writeBigUInt64LE(newId)
    maps.policies.update(newKey, record)
    blockingIds.set(id, newId)
  }
  const pods = (await maps.pods.entries()).map(({ key, value }) => ({ key, ...podCodec.decode(value) }))
  for (const { key, netns, policy } of pods) maps.pods.update(key, podCodec.encode({ netns, policy: blockingIds.get(policy) ?? policy }))
  return pods.map(({ netns }) => netns)
}
