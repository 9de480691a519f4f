/** The maps of the datapath by name: all of them, and what is in those that the agent fills. */
import { mapNames as agentMaps, type MapContents } from '../compile/maps.ts'
import type { BpfMap, BpfObject, Entry, Native } from '../native/api.ts'
import { usingAsync } from '../scope.ts'
import { readHalted } from './accelmaps.ts'
import { readAdded } from './added.ts'
import type { Layout } from './layout.ts'

/** What the program uses that decides about messages, besides `accelerated`. */
export const deciding = ['accel_settings', 'joined', 'pairs', 'sides', 'readers', 'accelerators', 'programs', 'verdicts', 'accel_counters'] as const

/** `pointers` is scratch space of the programs and `origins` lives in the sockets, but both must be found again when programs are replaced. */
export const allMaps = [
  ...agentMaps,
  'listeners',
  'origins',
  'handovers',
  'pending',
  'askers',
  'asker_counts',
  'asked',
  'counters',
  'pointers',
  'monitoring',
  'events',
  'events_lost',
  'added',
  ...deciding,
  'halted',
  'meta',
] as const
export type AnyMap = (typeof allMaps)[number]

export interface Contents {
  readonly have: MapContents
  readonly added: Awaited<ReturnType<typeof readAdded>>
  readonly halted: ReadonlySet<bigint>
}

export function usingMaps(object: BpfObject, work: (maps: Record<AnyMap, BpfMap>) => void): void {
  const maps = mapsOf(object)
  try {
    work(maps)
  } finally {
    for (const map of Object.values(maps)) map.close()
  }
}

export const mapsOf = (object: BpfObject) => Object.fromEntries(allMaps.map((name) => [name, object.map(name)])) as Record<AnyMap, BpfMap>

export function pinnedMaps(native: Native, layout: Layout): Record<string, BpfMap> {
  return Object.fromEntries(allMaps.map((name) => [name, native.pinnedMap(layout.map(name))]))
}

export async function readContents(object: BpfObject): Promise<Contents> {
  return {
    have: await readAll(object),
    added: await usingAsync(object.map('added'), readAdded),
    halted: await usingAsync(object.map('halted'), readHalted),
  }
}

export async function readAll(object: BpfObject): Promise<MapContents> {
  const contents = await Promise.all(
    agentMaps.map(async (name) => {
      const entries = await usingAsync(object.map(name), (map) => map.entries())
      return [name, new Map(entries.map((entry: Entry) => [entry.key.toString('hex'), entry]))] as const
    }),
  )
  return Object.fromEntries(contents) as unknown as MapContents
}
