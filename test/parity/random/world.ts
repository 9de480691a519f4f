/**
 * Two pods of the same shape for a whole run: one gets each set's iptables rules, the other its annotations by a hot reload of one agent. A third one
 * is never enrolled: it gets the pods that the mesh refuses.
 */
import type { PodView } from '../../../core/views.ts'
import { Agent, type AgentConfig, until } from '../../lab/agent.ts'
import type { LabPod } from '../../lab/net.ts'
import { applyIptables, type Backend, backendMissing, fromScratch, type RuleFiles } from '../../lab/restore.ts'
import { answerEverywhere } from '../everywhere.ts'
import type { Layout, MeshUnderTest } from '../mesh.ts'
import { createSite, type Kind, type Site } from '../shape.ts'
import type { RandomSet } from './sets.ts'

type Sites = Readonly<Record<Kind, Site>>

export interface World extends AsyncDisposable {
  readonly withRules: Sites
  readonly withAgent: Sites
  readonly agent: Agent
  readonly backends: readonly Backend[]
  /** Of the pods, as the agent sees them. */
  readonly addresses: Readonly<Record<Kind, readonly string[]>>
  /** Why a backend is not used. */
  readonly missing: readonly string[]
  setRules(kind: Kind, rules: RuleFiles, backend: Backend): Promise<void>
  /** The pod as the agent sees it; `fresh`: one that was never enrolled. */
  setPod(set: RandomSet, fresh: boolean): Promise<PodView>
}

/** Milliseconds that a reload may take on a machine that has much else to do. */
const PATIENCE = 30_000

const kinds: readonly Kind[] = ['v4', 'dual', 'v6']

async function openSite(prefix: string, kind: Kind, layout: Layout): Promise<Site> {
  const site = await createSite(`${prefix}-${kind}`, kind, layout)
  try {
    await answerEverywhere(site, kind)
    await site.listen('both')
    return site
  } catch (error) {
    await site[Symbol.asyncDispose]()
    throw error
  }
}

async function openSites(prefix: string, layout: Layout, stack: AsyncDisposableStack): Promise<Sites> {
  const opened = await Promise.allSettled(kinds.map((kind) => openSite(prefix, kind, layout)))
  for (const each of opened) if (each.status === 'fulfilled') stack.use(each.value)
  const sites = opened.map((each) => {
    if (each.status === 'rejected') throw each.reason
    return each.value
  })
  return Object.fromEntries(kinds.map((kind, index) => [kind, sites[index]])) as Record<Kind, Site>
}

/** `wanted`: the backends to use; default: those that this machine has. */
export async function createWorld({ name, layout }: MeshUnderTest, wanted: readonly Backend[] = ['nft', 'legacy']): Promise<World> {
  await using stack = new AsyncDisposableStack()
  const [withRules, withAgent] = [await openSites('random-rules', layout, stack), await openSites('random-agent', layout, stack)]
  const found = await Promise.all(wanted.map(async (backend) => ({ backend, reason: await backendMissing(withRules.v4.pod, backend) })))
  const backends = found.flatMap(({ backend, reason }) => (reason === undefined ? [backend] : []))
  const unused = { v4: withAgent.v4.peer, dual: withAgent.dual.peer, v6: await withAgent.v6.lab.pod('unused', { ipv6: 'alone' }) }
  // What a pod of this mesh must have to be enrolled, the first set says.
  const pods = kinds.map((kind) => ({ name: kind, netns: withAgent[kind].pod.netns }))
  const agent = stack.use(await Agent.start({ mesh: name, pods }, { wait: 'answering' }))
  const rules = { v4: new Rules(withRules.v4), dual: new Rules(withRules.dual), v6: new Rules(withRules.v6) }
  const addresses = await addressesOf(agent)
  let mistaken = false
  const owned = stack.move()
  return {
    withRules,
    withAgent,
    agent,
    backends,
    addresses,
    missing: found.flatMap(({ reason }) => reason ?? []),
    setRules: (kind, files, backend) => rules[kind].set(files, backend),
    setPod: async (set, fresh) => {
      // One that was enrolled by mistake would keep those rules, and seem wrong for another set too.
      if (mistaken) await load(agent, { mesh: name, pods: [] })
      const view = await configure(agent, name, fresh ? unused[set.kind] : withAgent[set.kind].pod, set, fresh)
      mistaken = fresh && view.state === 'enrolled'
      return view
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function addressesOf(agent: Agent): Promise<World['addresses']> {
  const views = await until('the agent has seen all pods', PATIENCE, async () => {
    const seen = await agent.ask<readonly PodView[]>('/v1/pods', PATIENCE)
    return seen.length === kinds.length && seen.every(({ addresses }) => addresses.length > 0) ? seen : undefined
  })
  return Object.fromEntries(views.map(({ name, addresses }) => [name, addresses])) as Record<Kind, readonly string[]>
}

/** Both backends are at work in the kernel at once, so the other one's tables are emptied. */
class Rules {
  readonly #site: Site
  #backend: Backend | undefined

  constructor(site: Site) {
    this.#site = site
  }

  async set(files: RuleFiles, backend: Backend): Promise<void> {
    if (this.#backend !== undefined && this.#backend !== backend)
      await applyIptables(this.#site.pod, fromScratch({ v4: '', v6: '', loopbackAddresses: [] }), this.#backend)
    await applyIptables(this.#site.pod, fromScratch(files), backend)
    this.#backend = backend
  }
}

async function load(agent: Agent, config: AgentConfig): Promise<void> {
  await agent.write(config)
  const reload = await agent.ask<{ outcome: string; reason?: string }>('/v1/reload', PATIENCE)
  if (reload.outcome === 'refused') throw new Error(`the config was refused: ${reload.reason ?? ''}`)
}

async function configure(agent: Agent, mesh: string, { netns }: LabPod, set: RandomSet, fresh: boolean): Promise<PodView> {
  const place = { name: fresh ? `fresh-${set.kind}` : set.kind, netns }
  await load(agent, { mesh, options: set.options, pods: [{ ...set.pod, ...place }] })
  const [view] = await agent.ask<readonly PodView[]>('/v1/pods', PATIENCE)
  if (view === undefined) throw new Error('the agent knows no pod')
  return view
}
