/** Looks at what is there, and changes nothing: no map, no pin, no lock. */
import { existsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { attachCgroup } from '../cgroup.ts'
import { u64Codec } from '../codec.ts'
import { itemOf, type LoopbackInPlace, notThere } from '../compile/loopback.ts'
import { type Capacities, type MapContents, type MapName, mapNames } from '../compile/maps.ts'
import type { Config, StaticPod } from '../config/schema.ts'
import { AddedKind, metaCodec } from '../contract.ts'
import { readAdded } from '../datapath/added.ts'
import { attachCookieTeller } from '../datapath/cookies.ts'
import { allMaps } from '../datapath/datapath.ts'
import { currentLayout, type Layout, otherLayouts } from '../datapath/layout.ts'
import { loadObject } from '../datapath/load.ts'
import { MerbridgeError } from '../errors.ts'
import { probeKernel } from '../features/probe.ts'
import type { BtfType, NamespaceState, Native, NativeError } from '../native/api.ts'
import { findNamespaces } from '../pods/find.ts'
import { type Placement, takeSnapshot } from '../pods/static.ts'
import { BPF_FS_MAGIC, requireCapabilities, requireCgroup } from '../requirements.ts'
import { objectPath } from '../root.ts'
import { using, usingAsync } from '../scope.ts'
import { noContents } from './changes.ts'

export interface InPlace {
  readonly contents: MapContents
  readonly capacities: Capacities
  /** Absent: there is no datapath of this version. */
  readonly generation?: number
  readonly notes: readonly string[]
  readonly placeOf: (netns: bigint) => string
  readonly loopbackOf: (netns: bigint) => LoopbackInPlace
  /** Pods that the operator has switched off, by netns cookie. */
  readonly halted: ReadonlySet<bigint>
}

/** The capacities that maps get which are made: the definitions are in the object file's BTF, max_entries as the length of an array. */
export function definedCapacities(types: readonly BtfType[]): Capacities {
  const byId = new Map(types.map((type) => [type.id, type]))
  const behind = (id: number | undefined) => (id === undefined ? undefined : byId.get(id))
  return Object.fromEntries(
    mapNames.map((name) => {
      const variable = types.find((type) => type.kind === 'var' && type.name === name)
      const pointer = behind(behind(variable?.type)?.members?.find((member) => member.name === 'max_entries')?.type)
      const length = behind(pointer?.type)?.length
      if (length === undefined) throw new TypeError(`the object file does not define the map ${name}`)
      return [name, length]
    }),
  ) as Record<MapName, number>
}

/** Everything that must hold before anything can be looked at. */
export function requireSight(native: Native, bpffs: string): void {
  requireCapabilities()
  let nearest = bpffs
  while (!existsSync(nearest)) nearest = dirname(nearest)
  // Below /sys/fs/bpf the agent makes what is missing, the mount too.
  if (native.filesystemType(nearest) === BPF_FS_MAGIC || bpffs.startsWith('/sys/fs/bpf/')) return
  throw new MerbridgeError('BPFFS_UNUSABLE', `${bpffs} is not on a BPF file system, so nothing can be pinned there`, 'correct attach.bpffs')
}

/** A pod's namespace by what still leads to it. */
function placesOf(native: Native, layout: Layout): (netns: bigint) => string {
  return (netns) => {
    if (!layout.pods().includes(netns)) return `network namespace with cookie ${netns}`
    const inode = using(native.pinnedLink(layout.pod(netns)), (link) => link.info.netnsInode ?? 0)
    if (inode === 0) return `a network namespace that is gone (cookie ${netns})`
    return findNamespaces(new Set([inode])).get(inode) ?? `network namespace ${inode}`
  }
}

async function loopbacksOf(native: Native, layout: Layout): Promise<InPlace['loopbackOf']> {
  const linked = new Set(layout.loopbacks())
  const records = Map.groupBy(await usingAsync(native.pinnedMap(layout.map('added')), readAdded), ({ netns }) => netns)
  return (netns) => {
    const own = records.get(netns) ?? []
    const program = linked.has(netns) || own.some(({ kind }) => kind === AddedKind.FILTER)
    return { program, added: own.flatMap((record) => itemOf(record) ?? []) }
  }
}

export async function lookAtMaps(native: Native, bpffs: string): Promise<InPlace> {
  const layout = currentLayout(bpffs)
  const pinned = layout.mapNames()
  if (!allMaps.every((name) => pinned.includes(name))) {
    const others = otherLayouts(bpffs).map(
      ({ directory }) => `the datapath of another version (${directory}) is in place; it goes when the new one works`,
    )
    const damaged = pinned.length > 0 ? ['the datapath in place lacks parts; it is replaced'] : []
    const capacities = definedCapacities(native.btf(objectPath('merbridge.bpf.o')))
    return {
      contents: noContents(),
      capacities,
      notes: [...others, ...damaged],
      placeOf: (netns) => `network namespace with cookie ${netns}`,
      loopbackOf: () => notThere,
      halted: new Set(),
    }
  }
  const maps = await Promise.all(
    mapNames.map((name) =>
      usingAsync(native.pinnedMap(layout.map(name)), async (map) => {
        const contents = new Map((await map.entries()).map((entry) => [entry.key.toString('hex'), entry] as const))
        return { name, contents, capacity: map.info.maxEntries }
      }),
    ),
  )
  const meta = using(native.pinnedMap(layout.map('meta')), (map) => map.lookup(Buffer.alloc(4)))
  return {
    contents: Object.fromEntries(maps.map(({ name, contents }) => [name, contents])) as unknown as MapContents,
    capacities: Object.fromEntries(maps.map(({ name, capacity }) => [name, capacity])) as Record<MapName, number>,
    ...(meta === undefined ? {} : { generation: Number(metaCodec.decode(meta).generation) }),
    notes: [],
    placeOf: placesOf(native, layout),
    loopbackOf: await loopbacksOf(native, layout),
    halted: await usingAsync(
      native.pinnedMap(layout.map('halted')),
      async (map) => new Set((await map.entries()).map(({ key }) => u64Codec.decode(key))),
    ),
  }
}

type Seen = NamespaceState | NativeError

const untold = (result: Seen): boolean => result instanceof Error && result.code === 'ENOPROTOOPT'

/** Kernels that do not tell a namespace's cookie tell it to a program, which is attached for this one look and not pinned. */
async function inspectByProgram(native: Native, { attach }: Config, paths: readonly string[]): Promise<Seen[]> {
  const cgroup = attachCgroup(attach.cgroup).path
  requireCgroup(native, cgroup)
  const kernel = await probeKernel(native, attach)
  const { object } = await loadObject(native, { path: objectPath('merbridge.bpf.o'), kernel: { ...kernel, tellsCookies: false } })
  try {
    const teller = attachCookieTeller(native, object, cgroup)
    return await teller.namespaces.inspect(paths).finally(() => teller.close())
  } finally {
    object.close()
  }
}

/** Each list of pods with what is in their namespaces now; a namespace is read once. */
export async function lookAtPods(native: Native, config: Config, lists: readonly (readonly StaticPod[])[]): Promise<(readonly Placement[])[]> {
  const paths = [...new Set(lists.flat().map((pod) => pod.netns))]
  const plain = await native.namespaces.inspect(paths)
  const byProgram = plain.some(untold) || config.attach.without.includes('socket_netns_cookie')
  const results = byProgram ? await inspectByProgram(native, config, paths) : plain
  const byPath = new Map(paths.map((path, index) => [path, results[index] as Seen]))
  const node = statSync('/proc/self/ns/net').ino
  return lists.map(
    (pods) =>
      takeSnapshot(
        pods,
        pods.map((pod) => byPath.get(pod.netns) as Seen),
        node,
      ).placements,
  )
}
