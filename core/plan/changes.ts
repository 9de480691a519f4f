/** What apply would write and remove, with what is there now. Pure. */
import { type MapContents, type MapName, mapNames } from '../compile/maps.ts'
import { diffMaps } from '../diff.ts'
import type { Entry } from '../native/api.ts'

export interface Change {
  readonly map: MapName
  readonly kind: 'add' | 'change' | 'remove'
  readonly key: Buffer
  /** Absent: it is added. */
  readonly before?: Buffer
  /** Absent: it is removed. */
  readonly after?: Buffer
}

export const noContents = (): MapContents => Object.fromEntries(mapNames.map((name) => [name, new Map()])) as unknown as MapContents

export function changesOf(have: MapContents, want: MapContents): Change[] {
  const present = Object.fromEntries(mapNames.map((name) => [name, have[name].values()])) as unknown as Record<MapName, Iterable<Entry>>
  const diffs = diffMaps(present, want)
  return mapNames.flatMap((map) => {
    const now = (key: Buffer) => have[map].get(key.toString('hex'))?.value
    const put = diffs[map].put.map(({ key, value }): Change => {
      const before = now(key)
      return before === undefined ? { map, kind: 'add', key, after: value } : { map, kind: 'change', key, before, after: value }
    })
    const remove = diffs[map].remove.flatMap((key): Change[] => {
      const before = now(key)
      return before === undefined ? [] : [{ map, kind: 'remove', key, before }]
    })
    return [...put, ...remove]
  })
}
