/**
 * `merbridge detach`: takes the datapath away. It needs neither the agent nor a readable config: everything is found in bpffs.
 *
 * Promise 5: while a pod is enrolled that has no iptables rules of its own, leaving would let its traffic bypass the mesh unseen. Then nothing
 * is done unless the operator says what shall become of those pods.
 */
import { existsSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { u32Codec, u64Codec } from './codec.ts'
import { blockPods } from './datapath/block.ts'
import { hooks, redirecting } from './datapath/hooks.ts'
import { currentLayout, type Layout, otherLayouts, removeTree, version } from './datapath/layout.ts'
import { removeAllButJoined } from './datapath/leaving.ts'
import { drainJoined, waitingView } from './detachjoined.ts'
import { type LoopbackRemoval, removeLoopbacks } from './detachlo.ts'
import { MerbridgeError } from './errors.ts'
import type { BpfMap, NamespacePlace, Native } from './native/api.ts'
import { findNamespaces } from './pods/find.ts'
import { using, usingAsync } from './scope.ts'
import type { DetachView, WaitingView } from './views.ts'

export interface DetachSetting {
  readonly bpffs: string
  /** What shall become of pods that would bypass the mesh. */
  readonly mode: 'refuse' | 'bypass' | 'block'
  /** Names of pods by path of their namespace, as far as a config tells them. */
  readonly podNames: ReadonlyMap<string, string>
  /** How long sockets may take to read what waits for them on the fast path. */
  readonly waitMs?: number
  /** What still waits then is thrown away, and those connections hang or break. */
  readonly loseData?: boolean
}

export interface EnrolledPod {
  readonly netns: bigint
  readonly name: string
  /** It has NAT rules of its own, so its traffic does not bypass the mesh without us. */
  readonly protected: boolean
  /** Where its namespace is; absent: nothing leads to it. */
  readonly place?: NamespacePlace
}

/** What is in place. Nothing has been changed when this is made. */
export interface DetachPlan {
  readonly setting: DetachSetting
  readonly layouts: readonly Layout[]
  readonly pods: readonly EnrolledPod[]
  /** Names of the pods that would bypass the mesh. */
  readonly exposed: readonly string[]
}

const sleepMs = 20

/** Throws DETACH_REFUSED where promise 5 forbids it. */
export async function planDetach(native: Native, setting: DetachSetting): Promise<DetachPlan> {
  const layouts = [currentLayout(setting.bpffs), ...otherLayouts(setting.bpffs)].filter((layout) => existsSync(layout.directory))
  const pods = (await Promise.all(layouts.map((layout) => enrolledPods(native, layout, setting)))).flat()
  const exposed = pods.filter((pod) => !pod.protected).map((pod) => pod.name)
  if (exposed.length > 0 && setting.mode === 'refuse') {
    throw new MerbridgeError(
      'DETACH_REFUSED',
      `${exposed.length} enrolled ${exposed.length === 1 ? 'pod has' : 'pods have'} no iptables rules and would bypass the mesh: ${exposed.join(', ')}`,
      'give these pods their rules or remove them first; or choose: --bypass lets their traffic go past the proxies, --block refuses it',
    )
  }
  return { setting, layouts, pods, exposed }
}

/** No agent may run meanwhile: it would build the datapath again. */
export async function detach(native: Native, { setting, layouts, pods, exposed }: DetachPlan): Promise<DetachView> {
  if (setting.mode === 'block' && exposed.length > 0) return block(native, layouts, pods)
  const removed: string[] = []
  const left: string[] = []
  const waiting: WaitingView[] = []
  for (const layout of layouts) {
    const sockets = await drainJoined(native, layout, setting)
    const gone = await removeLayout(native, layout, pods, sockets.size > 0)
    removed.push(...gone.removed)
    left.push(...gone.left)
    waiting.push(...(await waitingView(native, sockets, pods, setting.podNames)))
  }
  removeDirectory(setting.bpffs)
  return { removed, bypassed: exposed, blocked: [], left, waiting }
}

async function enrolledPods(native: Native, layout: Layout, setting: DetachSetting): Promise<EnrolledPod[]> {
  const inodes = new Map(layout.pods().map((netns) => [netns, using(native.pinnedLink(layout.pod(netns)), (link) => link.info.netnsInode ?? 0)]))
  const alive = new Set([...inodes.values()].filter((inode) => inode !== 0))
  const paths = findNamespaces(alive)
  const pods = [...inodes].filter(([, inode]) => inode !== 0)
  return Promise.all(
    pods.map(async ([netns, inode]): Promise<EnrolledPod> => {
      const path = paths.get(inode)
      if (path === undefined) return { netns, name: `network namespace ${inode}`, protected: false }
      const name = setting.podNames.get(path) ?? path
      return { netns, name, place: { path, inode }, protected: await native.namespaces.hasNatRules(path).catch(() => false) }
    }),
  )
}

/** From the next step on their own rules redirect what they connect: sk_lookup, which stays a little longer, must let that through. */
function leaveToOwnRules(native: Native, layout: Layout, pods: readonly EnrolledPod[]): void {
  if (!layout.mapNames().includes('nat_pods')) return // of a version that did not know them
  using(native.pinnedMap(layout.map('nat_pods')), (map) => {
    for (const pod of pods) if (pod.protected) map.update(u64Codec.encode(pod.netns), u32Codec.encode(1))
  })
}

async function block(native: Native, all: readonly Layout[], pods: readonly EnrolledPod[]): Promise<DetachView> {
  const layouts = all.filter((layout) => layout.linkNames().length > 0) // others only wait for joined sockets
  const current = layouts.find((layout) => layout.directory.endsWith(version))
  if (current === undefined || layouts.length > 1) {
    throw new MerbridgeError(
      'DATAPATH_FOREIGN',
      'the datapath in place is of another version, which this build cannot change',
      'run detach --block of the version that made it, or detach --bypass',
    )
  }
  const names = ['pods', 'policies', 'port_sets', 'owner_sets', 'cidr_sets'] as const
  const maps = Object.fromEntries(names.map((name) => [name, native.pinnedMap(current.map(name))])) as Record<(typeof names)[number], BpfMap>
  const blocked = new Set(await blockPods(maps))
  for (const map of Object.values(maps)) map.close()
  return { removed: [], bypassed: [], left: [], waiting: [], blocked: pods.filter((pod) => blocked.has(pod.netns)).map((pod) => pod.name) }
}

/**
 * What redirects goes first; then the connections that are being made get a moment to fetch their origin, and datagrams one for their answers; what
 * answers for redirected sockets goes last. Established connections go on: no byte of theirs passes through here.
 */
async function removeLayout(native: Native, layout: Layout, pods: readonly EnrolledPod[], keepJoined: boolean): Promise<LoopbackRemoval> {
  const ids = programIds(native, layout)
  const names = new Map(pods.map((pod) => [pod.netns, pod.name]))
  const removed: string[] = []
  const unlink = (hook: string): void => {
    using(native.pinnedLink(layout.link(hook)), (link) => link.detach())
    unlinkSync(layout.link(hook))
    removed.push(`link ${hook}`)
  }
  const present = layout.linkNames()
  const inOrder = [...hooks].reverse().map((hook) => hook.name)
  const attached = [...inOrder.filter((name) => present.includes(name)), ...present.filter((name) => !inOrder.includes(name))]
  leaveToOwnRules(native, layout, pods)
  for (const hook of attached.filter((name) => redirecting.has(name))) unlink(hook)
  await drain(native, layout)
  if (layout.loopbacks().length > 0) await sleep(answersMs)
  const title = (netns: bigint): string => names.get(netns) ?? `${netns} (its namespace is gone)`
  const places = new Map(pods.flatMap(({ netns, place }) => (place === undefined ? [] : [[netns, place] as const])))
  const atLoopback = await removeLoopbacks(native, layout, places, title)
  for (const netns of layout.pods()) {
    unlinkSync(layout.pod(netns))
    removed.push(`pod ${title(netns)}`)
  }
  removed.push(...atLoopback.removed)
  for (const hook of attached.filter((name) => !redirecting.has(name))) unlink(hook)
  removed.push(...removePins(layout, keepJoined))
  await verifyGone(native, ids)
  return { removed, left: atLoopback.left }
}

/** What is pinned besides the hooks. */
function removePins(layout: Layout, keepJoined: boolean): string[] {
  const names = () => [...layout.accelerationNames().map((name) => `acceleration ${name}`), ...layout.mapNames().map((name) => `map ${name}`)]
  const before = names()
  if (keepJoined) removeAllButJoined(layout)
  else layout.remove()
  const kept = new Set(names())
  return before.filter((name) => !kept.has(name))
}

function programIds(native: Native, layout: Layout): number[] {
  const paths = [
    ...layout.linkNames().map((hook) => layout.link(hook)),
    ...layout.pods().map((netns) => layout.pod(netns)),
    ...layout.loopbacks().map((netns) => layout.loopback(netns)),
    ...layout.accelerationNames().flatMap((name) => (name === 'reading' ? [layout.acceleration(name)] : [])),
  ]
  return paths.map((path) => using(native.pinnedLink(path), (link) => link.info.programId))
}

/** The proxy's answers to datagrams that were redirected last are still turned round for so long. */
const answersMs = 1000

/** Waits until no hand-over is left, two seconds at most. */
async function drain(native: Native, layout: Layout): Promise<void> {
  if (!layout.mapNames().includes('handovers')) return
  await usingAsync(native.pinnedMap(layout.map('handovers')), async (handovers) => {
    for (let waited = 0; waited < 2000; waited += sleepMs) {
      if ((await handovers.entries()).length === 0) return
      await sleep(sleepMs)
    }
  })
}

/** The kernel frees programs after a grace period. */
async function verifyGone(native: Native, ids: readonly number[]): Promise<void> {
  let left = [...ids]
  for (let waited = 0; waited < 5000 && left.length > 0; waited += sleepMs) {
    await native.barrier()
    left = left.filter((id) => native.programById(id) !== undefined)
    if (left.length > 0) await sleep(sleepMs)
  }
  if (left.length === 0) return
  throw new MerbridgeError(
    'DATAPATH_FAILED',
    `${left.length} programs are still in the kernel (ids ${left.join(', ')})`,
    'somebody else holds them: bpftool link show, bpftool prog show',
  )
}

/** Half-built directories of an agent that was killed go too; what is not ours stays. */
function removeDirectory(bpffs: string): void {
  try {
    for (const name of readdirSync(bpffs)) if (name.startsWith('tmp-')) removeTree(join(bpffs, name))
    rmdirSync(bpffs)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY') throw error
  }
}
