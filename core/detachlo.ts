/** What `detach` takes away from the lo of pods: see core/datapath/loopback.ts. It needs no agent, only the records in bpffs. */
import { unlinkSync } from 'node:fs'
import { itemOf, itemText } from './compile/loopback.ts'
import { AddedKind, type AddedRecord } from './contract.ts'
import { readAdded } from './datapath/added.ts'
import type { Layout } from './datapath/layout.ts'
import type { NamespacePlace, Native } from './native/api.ts'
import { allNamespaces } from './pods/find.ts'
import { usingAsync } from './scope.ts'

export interface LoopbackRemoval {
  readonly removed: readonly string[]
  /** What is still there, and why. */
  readonly left: readonly string[]
}

/** `places`: by netns cookie, of those whose namespace is known to live. `title` names a pod. */
export async function removeLoopbacks(
  native: Native,
  layout: Layout,
  places: ReadonlyMap<bigint, NamespacePlace>,
  title: (netns: bigint) => string,
): Promise<LoopbackRemoval> {
  const removed: string[] = []
  const left: string[] = []
  for (const netns of layout.loopbacks()) {
    unlinkSync(layout.loopback(netns))
    removed.push(`program at lo of ${title(netns)}`)
  }
  const records = Map.groupBy(await recordsOf(native, layout), ({ netns }) => netns)
  const missing = [...records.keys()].filter((netns) => !places.has(netns))
  const found = missing.length === 0 ? new Map<bigint, NamespacePlace>() : await placesByCookie(native)
  for (const [netns, own] of records) {
    const place = places.get(netns) ?? found.get(netns)
    if (place === undefined) continue // it ended, and everything with it
    try {
      removed.push(...(await removeFrom(native, place, own)).map((what) => `${what} of lo of ${title(netns)}`))
    } catch (error) {
      left.push(`lo of ${title(netns)} (${place.path}): ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return { removed, left }
}

async function recordsOf(native: Native, layout: Layout): Promise<AddedRecord[]> {
  if (!layout.mapNames().includes('added')) return []
  return usingAsync(native.pinnedMap(layout.map('added')), readAdded)
}

/** Where the inbound link of a pod does not tell its namespace any more, the cookie does: an inode may be another one's by now. */
export async function placesByCookie(native: Native): Promise<Map<bigint, NamespacePlace>> {
  const paths = allNamespaces()
  const states = await native.namespaces.inspect(paths)
  return new Map(
    states.flatMap((state, index) => (state instanceof Error ? [] : [[state.cookie, { path: paths[index] ?? '', inode: state.inode }] as const])),
  )
}

async function removeFrom({ loopback }: Native, place: NamespacePlace, records: readonly AddedRecord[]): Promise<string[]> {
  const has = (kind: AddedKind): boolean => records.some((record) => record.kind === kind)
  const removed: string[] = []
  if (has(AddedKind.FILTER)) {
    await loopback.removeFilter(place, has(AddedKind.QDISC))
    removed.push('filter')
  }
  for (const item of records.flatMap((record) => itemOf(record) ?? []))
    if (await loopback.remove(item.kind, item.cidr, place, item.device)) removed.push(itemText(item))
  return removed
}
