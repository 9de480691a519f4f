/** Desired contents as the kernel would answer from them. */
import type { Desired } from '../../core/compile/compile.ts'
import type { MapReader } from '../../core/explain/evaluate.ts'
import { longestMatch } from './reference.ts'

const tries = new Set(['port_sets', 'owner_sets', 'cidr_sets', 'routes'])

/** Exact match in a hash, longest prefix in a trie. */
export const readerOf =
  ({ maps }: Desired): MapReader =>
  (map, key) =>
    tries.has(map) ? longestMatch(maps[map].values(), key.subarray(4)) : maps[map].get(key.toString('hex'))?.value
