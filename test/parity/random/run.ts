/** Many sets from one seed. The first that differs is made smaller, within bounds, and told in a way that can be repeated. */
import fc from 'fast-check'
import type { StatusView } from '../../../core/views.ts'
import { namedWith } from '../../kernels/differences.ts'
import type { Backend } from '../../lab/restore.ts'
import { essential, show } from '../compare.ts'
import type { MeshUnderTest } from '../mesh.ts'
import { rowsOf } from '../rows.ts'
import { compareSet, type Outcome } from './compare.ts'
import { type RandomSet, randomSets } from './sets.ts'
import { createWorld, type World } from './world.ts'

export interface RandomRun {
  readonly mesh: MeshUnderTest
  readonly runs: number
  readonly seed: number
  /** Of a failure that was printed: that set alone. */
  readonly path?: string
  readonly backend?: Backend
  /** Told now and then how far it is. */
  readonly onProgress?: (text: string) => void
}

export interface RandomReport {
  /** Undefined: everything was alike. */
  readonly failure: string | undefined
  readonly summary: string
}

/** Sets that may be tried, and milliseconds that may pass, while a failure is made smaller. */
const SHRINK_RUNS = 80
const SHRINK_TIME = 90_000

export const freshSeed = (): number => Math.floor(Math.random() * 2 ** 31)

class Failed extends Error {}

function problem(outcome: Outcome): string | undefined {
  const different = 'differences' in outcome ? show(essential(outcome.differences).slice(0, 30)) : ''
  return [outcome.wrong ?? '', different].filter((text) => text !== '').join('\n') || undefined
}

/** Fails as the sets do, until shrinking has had enough: then every set passes. */
class Judge {
  readonly #world: World
  readonly #compare: (set: RandomSet) => Promise<Outcome>
  readonly #onProgress: (text: string) => void
  readonly counts = new Map<string, number>()
  connections = 0
  /** Connections that the iptables side made once more. */
  repeated = 0
  #firstFailure: number | undefined
  #shrinks = 0

  constructor(world: World, compare: (set: RandomSet) => Promise<Outcome>, onProgress: (text: string) => void = () => {}) {
    this.#world = world
    this.#compare = compare
    this.#onProgress = onProgress
  }

  get compared(): number {
    return (this.counts.get('alike') ?? 0) + (this.counts.get('different') ?? 0)
  }

  get tried(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0)
  }

  async judge(set: RandomSet): Promise<void> {
    if (this.#firstFailure !== undefined) {
      this.#shrinks++
      if (this.#shrinks > SHRINK_RUNS || performance.now() - this.#firstFailure > SHRINK_TIME) return
    }
    const wrong = await this.#problem(set)
    if (this.tried % 50 === 0) this.#onProgress(`${this.tried} sets, ${this.connections} connections`)
    if (wrong === undefined) return
    if (this.#firstFailure === undefined) this.#onProgress(`set ${this.tried} differs; looking for a smaller one:\n${wrong}`)
    this.#firstFailure ??= performance.now()
    throw new Failed(wrong)
  }

  async #problem(set: RandomSet): Promise<string | undefined> {
    try {
      const outcome = await this.#compare(set)
      this.counts.set(outcome.kind, (this.counts.get(outcome.kind) ?? 0) + 1)
      if ('connections' in outcome) {
        this.connections += outcome.connections
        this.repeated += outcome.repeated
      }
      return problem(outcome)
    } catch (error) {
      return `${error instanceof Error ? error.message : String(error)}\n${(await this.#world.agent.log()).slice(-1000)}`
    }
  }
}

async function rowsFor(mesh: string, world: World) {
  return namedWith((await world.agent.ask<StatusView>('/v1/status')).kernel.features, rowsOf(mesh).random)
}

function failureText(details: fc.RunDetails<[RandomSet]>, mesh: string, backend: Backend | undefined): string | undefined {
  if (!details.failed) return undefined
  const [set] = details.counterexample ?? []
  const again = `--mesh ${mesh} --seed ${details.seed} --path ${details.counterexamplePath ?? ''}${backend === undefined ? '' : ` --backend ${backend}`}`
  const error = details.errorInstance instanceof Error ? details.errorInstance.message : String(details.errorInstance)
  return [
    `the smallest set that differs (after ${details.numShrinks} steps):`,
    JSON.stringify(set, undefined, 2),
    `what differs:\n${error}`,
    `again: npm run test:parity -- ${again}`,
  ].join('\n')
}

/** Pods that are not enrolled tell nothing of connections. */
export const tooFew = (compared: number, runs: number): string | undefined =>
  compared * 2 >= runs ? undefined : `only ${compared} of ${runs} sets had connections to compare, expected half of them`

export async function randomParity({ mesh, runs, seed, path, backend, onProgress }: RandomRun): Promise<RandomReport> {
  await using world = await createWorld(mesh, backend === undefined ? undefined : [backend])
  if (world.backends.length === 0) return { failure: `no iptables to compare with: ${world.missing.join('; ')}`, summary: '' }
  const rows = await rowsFor(mesh.name, world)
  const judge = new Judge(world, (set) => compareSet(mesh, world, set, rows), onProgress)
  const start = performance.now()
  const property = fc.asyncProperty(randomSets(mesh, world.backends), (set) => judge.judge(set))
  const only = path === undefined ? { numRuns: runs } : { numRuns: 1, path, endOnFailure: true }
  const details = await fc.check(property, { seed, ...only })
  const seconds = (performance.now() - start) / 1000
  const counts = [...judge.counts].map(([kind, count]) => `${count} ${kind}`).join(', ')
  const skipped = world.missing.map((reason) => `; skipped: ${reason}`).join('')
  const summary = `${mesh.name}, seed ${seed}: ${judge.tried} sets (${counts}), ${judge.connections} connections (${judge.repeated} made again under iptables), ${world.backends.join(' and ')}, ${(seconds / judge.tried).toFixed(2)} s each${skipped}`
  return { failure: failureText(details, mesh.name, backend) ?? tooFew(judge.compared, path === undefined ? runs : 0), summary }
}
