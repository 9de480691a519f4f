/** A mesh's set-ups for pods of one kind: each in a pod with the mesh's iptables rules and in its twin with an agent of its own. */
import type { PodView } from '../../core/views.ts'
import { isWhole, namedWith } from '../kernels/differences.ts'
import { Agent } from '../lab/agent.ts'
import { applyIptables, fromScratch } from '../lab/restore.ts'
import { settledDifferences } from './columns.ts'
import { type Column, type Difference, judge, type Named, rowFor } from './compare.ts'
import { answerEverywhere } from './everywhere.ts'
import type { Evidence } from './features.ts'
import type { MeshSetup, MeshUnderTest } from './mesh.ts'
import { keepsOldRules, wrongWarnings } from './random/told.ts'
import { rowsOf, rowsOfPod } from './rows.ts'
import { type About, runSetup, type Trial } from './setups.ts'
import { createSite, type Kind, type Site } from './shape.ts'

/** What came of a set-up. */
export interface Ran {
  readonly trial: Trial
  readonly about: About
  readonly iptables: Column
  readonly merbridge: Column
  readonly differences: readonly Difference[]
  readonly unnamed: readonly Difference[]
  /** Rows that name a difference of it, as the document has them. */
  readonly used: readonly Named[]
  /** Connections that the iptables side made once more. */
  readonly repeated: number
  readonly evidence: Evidence
  /** What is wrong with the pod's warnings. */
  readonly wrong: string | undefined
}

/** Milliseconds that a reload may take on a machine that has much else to do. */
const PATIENCE = 30_000

const kinds: readonly Kind[] = ['v4', 'dual', 'v6']

export const kindsOf = ({ setups }: MeshUnderTest): readonly Kind[] => kinds.filter((kind) => setups.some((setup) => setup.kind === kind))

/** Rows do not name the mesh, nor do set-ups in the names of cases. */
export const labelOf = (mesh: string, name: string) => (name.startsWith(`${mesh} `) ? name.slice(mesh.length + 1) : name)

interface Made<Rules> {
  readonly mesh: MeshUnderTest<Rules>
  readonly withRules: Site
  readonly withAgent: Site
  readonly agent: Agent
  /** Of docs/parity.md, as far as they hold on this kernel: each must occur. */
  readonly rows: readonly Named[]
  /** The same, and what this kernel shows besides. */
  readonly named: readonly Named[]
  /** The kernel lacks nothing that rows depend on. */
  readonly complete: boolean
}

const nobody: Named = { name: 'no row', section: '', case: '', field: '', iptables: '', merbridge: '' }

export class Twins<Rules = unknown> implements AsyncDisposable {
  readonly #made: Made<Rules>
  readonly #owned: AsyncDisposableStack

  private constructor(made: Made<Rules>, owned: AsyncDisposableStack) {
    this.#made = made
    this.#owned = owned
  }

  static async create<Rules>(mesh: MeshUnderTest<Rules>, kind: Kind): Promise<Twins<Rules>> {
    await using stack = new AsyncDisposableStack()
    const site = async (name: string) => {
      const made = stack.use(await createSite(`${mesh.name}-${name}-${kind}`, kind, mesh.layout))
      await answerEverywhere(made, kind)
      return made
    }
    const [withRules, withAgent] = [await site('rules'), await site('agent')]
    const agent = stack.use(await Agent.start({ mesh: mesh.name, pods: [] }, { wait: 'answering' }))
    const { features } = (await agent.status()).kernel
    const { fixed } = rowsOf(mesh.name)
    const named = namedWith(features, fixed)
    const rows = fixed.filter((row) => named.includes(row))
    return new Twins({ mesh, withRules, withAgent, agent, rows, named, complete: isWhole(features) }, stack.move())
  }

  get complete(): boolean {
    return this.#made.complete
  }

  get rows(): readonly Named[] {
    return this.#made.rows
  }

  async run(setup: MeshSetup): Promise<Ran> {
    const { mesh, withRules, withAgent } = this.#made
    const { name, layout } = mesh
    const { pod, options, mode } = setup
    const trial: Trial = { ...setup, name: labelOf(name, setup.name) }
    const [view] = await Promise.all([this.#configure(setup), ...[withRules, withAgent].map((site) => site.listen(mode))])
    const reading = mesh.read({ pod, options, addresses: view.addresses })
    if (!('rules' in reading)) throw new Error(`the set-up has no rules: ${JSON.stringify(reading)}`)
    const { rules, warned } = reading
    const about: About = { layout, interest: mesh.interest(rules), ports: { ...mesh.ports(rules), dns: layout.dns?.port } }
    await applyIptables(withRules.pod, fromScratch(mesh.tables(rules)))
    const [iptables, merbridge] = await Promise.all([withRules, withAgent].map((site) => runSetup(trial, site, undefined, about)))
    if (iptables === undefined || merbridge === undefined) throw new Error('two columns expected')
    return { trial, about, iptables, merbridge, ...(await this.#judge(trial, about, iptables, merbridge)), wrong: wrongWarnings(view, warned) }
  }

  async #judge(trial: Trial, about: About, iptables: Column, merbridge: Column) {
    const { named: all, withRules } = this.#made
    const named = rowsOfPod(all, about.ports, about.interest.ipv6)
    const again = (only: ReadonlySet<string>) => runSetup(trial, withRules, only, about)
    const { differences, repeated } = await settledDifferences(iptables, merbridge, named, again)
    const { unnamed, idle } = judge(differences, named)
    const evidence: Evidence = {
      about,
      cases: [...iptables].flatMap(([each, fields]) => [...fields].map(([field, seen]) => ({ case: each, field, iptables: seen, merbridge: seen }))),
      differences: differences.map((each) => ({ ...each, row: rowFor(each, named) ?? nobody })),
    }
    return { differences, unnamed, repeated, evidence, used: all.filter((_, index) => !idle.includes(named[index] as Named)) }
  }

  /** The agent gets the set-up by a hot reload. */
  async #configure({ pod, options, kind }: MeshSetup): Promise<PodView> {
    const { mesh, withAgent, agent } = this.#made
    const { netns } = withAgent.pod
    await agent.write({ mesh: mesh.name, options, pods: [{ ...pod, name: kind, netns }] })
    const reload = await agent.ask<{ outcome: string; reason?: string }>('/v1/reload', PATIENCE)
    if (reload.outcome === 'refused') throw new Error(`the config was refused: ${reload.reason ?? ''}`)
    const [view] = await agent.ask<readonly PodView[]>('/v1/pods', PATIENCE)
    if (view?.state !== 'enrolled') throw new Error(`the pod is ${view?.state}: ${view?.reason ?? ''}`)
    const old = keepsOldRules(view)
    if (old !== undefined) throw new Error(`the pod did not get the set-up's rules: ${old}`)
    return view
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#owned.disposeAsync()
  }
}
