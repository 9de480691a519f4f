/**
 * What looks at the sockets of accelerated pods (bpf/late.bpf.c), and tells readers again (bpf/nudge.bpf.c). One iterator finds the sockets of all pods at
 * once; where that may crash the node, another one is read inside the namespace of each pod.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import type { KernelFacts } from '../features/probe.ts'
import type { Native } from '../native/api.ts'
import { usingAsync } from '../scope.ts'
import { acceleration } from './hooks.ts'
import type { Layout } from './layout.ts'
import { marksIn } from './looks.ts'

export type Looker = typeof acceleration.late | typeof acceleration.walk

export const lookerOf = (skip: KernelFacts['skip']): Looker => (skip.has(acceleration.late) ? acceleration.walk : acceleration.late)

interface Paths {
  readonly path: string
}

export interface LookingParts {
  readonly native: Native
  readonly layout: Layout
  readonly looker: Looker
  /** Namespaces whose sockets may join. */
  readonly accelerated: () => Iterable<bigint>
}

export class Looking {
  readonly #parts: LookingParts
  /** Where the pods' namespaces are, by cookie. */
  #paths: ReadonlyMap<bigint, Paths> = new Map()
  /** What is read has a buffer of its own: it happens often. */
  readonly #buffer = Buffer.alloc(16_384)
  /** Namespaces that may have sockets in `pairs`: those of pods that are not accelerated any more have some until they close. */
  #walked = new Set<bigint>()

  constructor(parts: LookingParts) {
    this.#parts = parts
  }

  /** Where the pods are now. The path of one that left, with sockets that are still open, is kept. */
  seen(places: ReadonlyMap<bigint, Paths>): void {
    this.#paths = new Map([...[...this.#paths].filter(([netns]) => this.#walked.has(netns)), ...places])
  }

  /** Of the pods' namespaces. */
  paths(): readonly string[] {
    return [...this.#paths.values()].map(({ path }) => path)
  }

  /** The namespaces of all sockets in `pairs`. */
  remain(namespaces: ReadonlySet<bigint>): void {
    this.#walked = new Set(namespaces)
  }

  /** How many sockets wait. Throws when the iterator is not pinned any more. */
  async look(): Promise<number> {
    const { layout, looker, accelerated } = this.#parts
    if (looker === acceleration.late) return this.#readAll(layout.acceleration('late'))
    for (const netns of accelerated()) this.#walked.add(netns)
    let waiting = 0
    for (const netns of this.#walked) waiting += (await this.#readInside(netns, 'late')) ?? 0
    return waiting
  }

  #readAll(path: string): number {
    // Without the thread pool, whose wake-ups cost more than the microsecond that each socket takes.
    const file = openSync(path, 'r')
    try {
      for (let length = 0; ; ) {
        const more = readSync(file, this.#buffer, 0, this.#buffer.length, null)
        if (more === 0) return marksIn({ length })
        length += more
      }
    } finally {
      closeSync(file)
    }
  }

  /** Nothing happens where it is not known where the namespace is. */
  async nudge(netns: bigint): Promise<void> {
    await this.#readInside(netns, 'nudge').catch(() => {}) // somebody has unpinned it, and it is put back
  }

  /** Namespaces go at any time. */
  async #readInside(netns: bigint, name: 'late' | 'nudge'): Promise<number | undefined> {
    const path = this.#paths.get(netns)?.path
    if (path === undefined) return undefined
    const { native, layout } = this.#parts
    return usingAsync(native.pinnedLink(layout.acceleration(name)), (link) => native.namespaces.iterate(path, link).then(marksIn, () => undefined))
  }
}
