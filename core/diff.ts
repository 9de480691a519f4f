/** What must be written and what must go so that the kernel's maps have the desired contents. Pure; compares bytes. */
import { type MapContent, type MapContents, type MapName, mapNames } from './compile/maps.ts'
import type { Entry } from './native/api.ts'

export interface MapDiff {
  /** New entries and those whose value differs. */
  readonly put: readonly Entry[]
  readonly remove: readonly Buffer[]
}

export function diff(have: Iterable<Entry>, want: MapContent): MapDiff {
  const same = new Set<string>()
  const remove: Buffer[] = []
  for (const { key, value } of have) {
    const id = key.toString('hex')
    const wanted = want.get(id)
    if (wanted === undefined) remove.push(key)
    else if (wanted.value.equals(value)) same.add(id)
  }
  return { put: [...want].filter(([id]) => !same.has(id)).map(([, entry]) => entry), remove }
}

export type MapDiffs = Readonly<Record<MapName, MapDiff>>

export const diffMaps = (have: Readonly<Record<MapName, Iterable<Entry>>>, want: MapContents): MapDiffs =>
  Object.fromEntries(mapNames.map((name) => [name, diff(have[name], want[name])])) as Record<MapName, MapDiff>

export const isEmpty = ({ put, remove }: MapDiff): boolean => put.length === 0 && remove.length === 0
