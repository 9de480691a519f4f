/** The part of apply that is about the lo of pods. */
import type { Desired } from '../compile/compile.ts'
import { nothing } from '../compile/loopback.ts'
import { findNamespaces } from '../pods/find.ts'
import { using } from '../scope.ts'
import type { Datapath } from './datapath.ts'
import type { LoopbackPlace } from './loopback.ts'

export interface LoopbackWork {
  /** Enrolled pods. */
  readonly due: readonly bigint[]
  /** Pods that are not enrolled any more, and have something of ours at their lo. */
  readonly left: readonly bigint[]
}

export function loopbackWork({ loopbacks }: Datapath, want: Desired): LoopbackWork {
  const due = [...want.pods].filter(([netns, { loopback }]) => loopbacks.isDue(netns, loopback)).map(([netns]) => netns)
  return { due, left: [...loopbacks.known()].filter((netns) => !want.pods.has(netns)) }
}

/** A pod that fails is added to `failed`. true: some pod has got an address or a route. */
export async function putLoopbacks({ loopbacks }: Datapath, want: Desired, { due }: LoopbackWork, failed: Map<bigint, Error>): Promise<boolean> {
  let added = false
  for (const netns of due) {
    const pod = want.pods.get(netns)
    if (pod === undefined || failed.has(netns)) continue
    try {
      if (await loopbacks.put(netns, pod.loopback)) added = true
    } catch (error) {
      failed.set(netns, error instanceof Error ? error : new Error(String(error)))
    }
  }
  return added
}

/** Of a pod that failed nothing is taken away: its rules of before may need it. Returns what could not be taken away. */
export async function dropLoopbacks(datapath: Datapath, want: Desired, work: LoopbackWork, failed: ReadonlyMap<bigint, Error>): Promise<string[]> {
  const { loopbacks } = datapath
  loopbacks.seen(
    placesOf(
      datapath,
      work.left.filter((netns) => !loopbacks.isPlaced(netns)),
    ),
  )
  const problems: string[] = []
  for (const netns of [...work.due.filter((each) => !failed.has(each)), ...work.left])
    problems.push(...(await loopbacks.drop(netns, want.pods.get(netns)?.loopback ?? nothing)))
  return problems
}

/** Where pods are whose paths nobody told this agent: their inbound program is still attached to their namespace. */
function placesOf({ native, layout }: Datapath, pods: readonly bigint[]): Map<bigint, LoopbackPlace> {
  if (pods.length === 0) return new Map()
  const pinned = new Set(layout.pods())
  const inodes = pods
    .filter((netns) => pinned.has(netns))
    .map((netns) => [netns, using(native.pinnedLink(layout.pod(netns)), ({ info }) => info.netnsInode ?? 0)] as const)
  const paths = findNamespaces(new Set(inodes.map(([, inode]) => inode).filter((inode) => inode !== 0)))
  return new Map(
    inodes.flatMap(([netns, inode]) => {
      const path = paths.get(inode)
      return path === undefined ? [] : [[netns, { path, inode, addresses: [], routes: [] }] as const]
    }),
  )
}
