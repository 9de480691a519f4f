/** What is in the kernel, seen from outside the agent: bpftool's view. */
import { setTimeout as sleep } from 'node:timers/promises'
import { run } from './net.ts'

interface BpftoolObject {
  readonly id: number
  readonly name?: string
  readonly prog_id?: number
  readonly map_ids?: readonly number[]
  readonly pinned?: readonly string[]
}

/** Ids, sorted. */
export interface KernelObjects {
  readonly programs: readonly number[]
  readonly links: readonly number[]
  readonly maps: readonly number[]
}

async function list(kind: 'prog' | 'link' | 'map', withPins: boolean): Promise<readonly BpftoolObject[]> {
  const { code, stdout, stderr } = await run(['bpftool', '-j', ...(withPins ? ['-f'] : []), kind, 'show'])
  if (code !== 0) throw new Error(`bpftool ${kind} show: ${stderr}${stdout}`)
  const parsed: unknown = stdout.trim() === '' ? [] : JSON.parse(stdout)
  return Array.isArray(parsed) ? (parsed as BpftoolObject[]) : []
}

function ids(objects: readonly { readonly id: number }[]): readonly number[] {
  return objects.map((each) => each.id).toSorted((a, b) => a - b)
}

/** What is pinned below a directory of bpffs, and the programs of the links among it. */
export async function pinnedObjects(directory: string): Promise<KernelObjects> {
  const here = (each: BpftoolObject) => each.pinned?.some((path) => path.startsWith(`${directory}/`)) ?? false
  const [links, maps, programs] = [(await list('link', true)).filter(here), (await list('map', true)).filter(here), await list('prog', true)]
  const linked = new Set(links.map((link) => link.prog_id))
  return { links: ids(links), maps: ids(maps), programs: ids(programs.filter((program) => linked.has(program.id) || here(program))) }
}

/** The id of the link that is pinned there; undefined: none is. */
export async function pinnedLink(path: string): Promise<number | undefined> {
  return (await list('link', true)).find((each) => each.pinned?.includes(path))?.id
}

/** The same, with every program that uses one of the maps, whoever holds it, and all maps of those programs. */
export async function relatedObjects(directory: string): Promise<KernelObjects> {
  const pinned = await pinnedObjects(directory)
  const shared = new Set(pinned.maps)
  const programs = (await list('prog', false)).filter(
    (program) => pinned.programs.includes(program.id) || program.map_ids?.some((id) => shared.has(id)),
  )
  const known = new Set(programs.map((program) => program.id))
  const links = (await list('link', false)).filter((link) => pinned.links.includes(link.id) || known.has(link.prog_id ?? 0))
  const maps = new Set([...pinned.maps, ...programs.flatMap((program) => program.map_ids ?? [])])
  return { links: ids(links), programs: ids(programs), maps: [...maps].toSorted((a, b) => a - b) }
}

/** Milliseconds that the kernel gets to free what nobody holds any more: it waits for RCU grace periods, then for a worker. */
const FREE_DEADLINE = 5_000

/** Those of `objects` that are not freed in time. Ids are not used again until the kernel has counted through 31 bits. */
export async function remaining(objects: KernelObjects): Promise<KernelObjects> {
  const left = async (kind: 'prog' | 'link' | 'map', known: readonly number[]) => {
    const now = new Set((await list(kind, false)).map((each) => each.id))
    return known.filter((id) => now.has(id))
  }
  const deadline = performance.now() + FREE_DEADLINE
  for (;;) {
    const found = { programs: await left('prog', objects.programs), links: await left('link', objects.links), maps: await left('map', objects.maps) }
    if (Object.values(found).every((each) => each.length === 0) || performance.now() > deadline) return found
    await sleep(50)
  }
}

/** Number of entries of a map pinned by this name below the directory. */
export async function entriesOf(directory: string, name: string): Promise<number> {
  const map = (await list('map', true)).find((each) => each.pinned?.some((path) => path.startsWith(`${directory}/`) && path.endsWith(`/${name}`)))
  if (map === undefined) throw new Error(`no map ${name} is pinned below ${directory}`)
  const { code, stdout, stderr } = await run(['bpftool', '-j', 'map', 'dump', 'id', String(map.id)])
  if (code !== 0) throw new Error(`bpftool map dump: ${stderr}${stdout}`)
  return (JSON.parse(stdout) as unknown[]).length
}
