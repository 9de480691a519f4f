/**
 * The demo's own BPF objects, told apart from those of an agent that is installed on the machine, or of a test: whatever is pinned below a directory,
 * the programs of these links, and the maps of these programs.
 */
import { must } from '../lab/process.ts'

export interface KernelObjects {
  readonly programs: readonly number[]
  readonly links: readonly number[]
  readonly maps: readonly number[]
}

interface Shown {
  readonly id: number
  readonly prog_id?: number
  readonly map_ids?: readonly number[]
  readonly pinned?: readonly string[]
}

async function show(kind: 'prog' | 'link' | 'map'): Promise<readonly Shown[]> {
  return JSON.parse(await must(['bpftool', '-j', '-f', kind, 'show'])) as readonly Shown[]
}

export async function objectsBelow(directory: string): Promise<KernelObjects> {
  const [programs, links, maps] = await Promise.all([show('prog'), show('link'), show('map')])
  const pinned = ({ pinned = [] }: Shown) => pinned.some((path) => path.startsWith(`${directory}/`))
  const ownLinks = links.filter(pinned)
  const attached = new Set(ownLinks.map(({ prog_id }) => prog_id))
  const ownPrograms = programs.filter((program) => pinned(program) || attached.has(program.id))
  const used = new Set(ownPrograms.flatMap(({ map_ids = [] }) => map_ids))
  const ids = (shown: readonly Shown[]) => shown.map(({ id }) => id)
  return { programs: ids(ownPrograms), links: ids(ownLinks), maps: ids(maps.filter((map) => pinned(map) || used.has(map.id))) }
}

/** Those that still exist. Ids are not used twice before 2^31 others were. */
export async function remaining(objects: KernelObjects): Promise<KernelObjects> {
  const [programs, links, maps] = await Promise.all([show('prog'), show('link'), show('map')])
  const among = (ids: readonly number[], shown: readonly Shown[]) => ids.filter((id) => shown.some((each) => each.id === id))
  return { programs: among(objects.programs, programs), links: among(objects.links, links), maps: among(objects.maps, maps) }
}
