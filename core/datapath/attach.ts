/** Keeps the shared programs attached: at the first start, after damage done by others, and when the config names another cgroup. */
import { statSync, unlinkSync } from 'node:fs'
import type { BpfMap, BpfObject, Native } from '../native/api.ts'
import { using } from '../scope.ts'
import type { Log } from './datapath.ts'
import { type Hook, hooks } from './hooks.ts'
import type { Layout } from './layout.ts'

export interface Attaching {
  readonly native: Native
  readonly layout: Layout
  readonly object: BpfObject
  readonly cgroup: string
}

/** The link is pinned, somebody has not detached it, and it is at the cgroup that the config names. */
function isAttached({ native, layout, cgroup }: Attaching, hook: Hook): boolean {
  if (!layout.linkNames().includes(hook.name)) return false
  const wanted = statSync(cgroup, { bigint: true }).ino // a cgroup's id is the inode number of its directory
  return using(native.pinnedLink(layout.link(hook.name)), (link) => link.info.cgroupId === wanted)
}

/** The hooks whose programs this kernel takes. */
export const loadedHooks = (object: BpfObject): readonly Hook[] => hooks.filter(({ program }) => object.programs.includes(program))

/** The new link works before the old one goes, so there is no gap. */
export function attachHook({ native, layout, object, cgroup }: Attaching, hook: Hook): void {
  using(object.program(hook.program), (program) =>
    using(native.attachCgroup(program, cgroup, hook.attachType), (link) => {
      if (layout.linkNames().includes(hook.name)) unlinkSync(layout.link(hook.name))
      link.pin(layout.link(hook.name))
    }),
  )
}

/** Of hooks whose programs this kernel, or the config, does without now. */
export function removeUnusedHooks({ layout, object }: Attaching): void {
  const used = new Set(loadedHooks(object).map(({ name }) => name))
  for (const name of layout.linkNames()) if (!used.has(name)) unlinkSync(layout.link(name))
}

/** The maps live on in the agent; without their pins the next agent would not find them. */
export function repairPins({ layout }: Attaching, maps: Readonly<Record<string, BpfMap>>, log: Log): void {
  const pinned = layout.mapNames()
  const missing = Object.entries(maps).filter(([name]) => !pinned.includes(name))
  if (missing.length === 0) return
  layout.create()
  for (const [name, map] of missing) map.pin(layout.map(name))
  log('warn', 'maps were not pinned any more, and are again', { maps: missing.map(([name]) => name) })
}

/** Attaches what is not attached any more. true: meanwhile nobody saw sockets begin to listen. */
export function repairHooks(attaching: Attaching, log: Log): boolean {
  let blind = false
  for (const hook of loadedHooks(attaching.object)) {
    const mustFollow = hook.name === 'join' && blind // it comes after sockops
    if (isAttached(attaching, hook) && !mustFollow) continue
    attachHook(attaching, hook)
    blind ||= hook.name === 'sockops'
    log('warn', 'a hook was not attached where it should be, and is again', { hook: hook.name, cgroup: attaching.cgroup })
  }
  return blind
}

/** Pods whose link is pinned and has no namespace any more: it ended, or somebody detached the link. */
export function deadPods({ native, layout }: Pick<Attaching, 'native' | 'layout'>): bigint[] {
  return layout.pods().filter((netns) => using(native.pinnedLink(layout.pod(netns)), (link) => link.info.netnsInode === 0))
}

/** Unpins the links of pods that somebody detached, so that the next apply attaches them again. Those of namespaces that are gone go too. */
export function dropDeadPods(attaching: Attaching): boolean {
  const dead = deadPods(attaching)
  for (const netns of dead) unlinkSync(attaching.layout.pod(netns))
  return dead.length > 0
}
