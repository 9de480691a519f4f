/**
 * Readers are told again (bpf/nudge.bpf.c) by whoever takes a datapath away: the agent, which does it otherwise (nudges.ts), is gone, or knows its own datapath
 * alone.
 */
import { existsSync } from 'node:fs'
import type { Native } from '../native/api.ts'
import { usingAsync } from '../scope.ts'
import { readEnds } from './accelmaps.ts'
import type { Layout } from './layout.ts'

/** In each of these namespaces; those that are gone meanwhile have no readers any more. */
export async function tellAgain(native: Native, layout: Layout, paths: readonly string[]): Promise<void> {
  const iterator = layout.acceleration('nudge')
  if (paths.length === 0 || !existsSync(iterator)) return // of a version that had none
  await usingAsync(native.pinnedLink(iterator), async (link) => {
    for (const path of paths) await native.namespaces.iterate(path, link).catch(() => {})
  })
}

/** Namespaces where readers are behind, by their cookies; of this build's datapath. */
export const behindIn = (native: Native, layout: Layout): Promise<ReadonlySet<bigint>> =>
  usingAsync(native.pinnedMap(layout.map('pairs')), async (pairs) => (await readEnds(pairs)).behind)
