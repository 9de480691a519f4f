/**
 * Two pods of the same shape for a whole run: one gets each set's iptables rules, the other its annotations by a hot reload of one agent. A third one
 * is never enrolled: it gets the pods that Istio refuses.
 */
import type { PodView } from '../../../core/views.ts'
import { Agent, type AgentConfig } from '../../lab/agent.ts'
import { applyIptables, type Backend, backendMissing, fromScratch, type IstioRuleOptions, istioRules } from '../../lab/istio-iptables.ts'
import { must } from '../../lab/net.ts'
import { address, createSite, type Site } from '../shape.ts'
import type { PodSet } from './pods.ts'

export interface World extends AsyncDisposable {
  readonly withRules: Site
  readonly withAgent: Site
  readonly agent: Agent
  readonly backends: readonly Backend[]
  /** Why a backend is not used. */
  readonly missing: readonly string[]
  setRules(rules: Required<IstioRuleOptions>, backend: Backend): Promise<void>
  /** The pod as the agent sees it; `fresh`: one that was never enrolled. */
  setPod(set: PodSet, fresh: boolean): Promise<PodView>
}

/** Milliseconds that a reload may take on a machine that has much else to do. */
const PATIENCE = 30_000

/** Every address that the pod does not know is the peer's, so that a connection that no rule takes ends somewhere at once. */
async function answerEverything({ lab, peer }: Site): Promise<void> {
  await must(lab.node.command(['ip', 'route', 'add', 'default', 'via', address.PEER]))
  await must(peer.command(['ip', 'route', 'add', '10.88.0.0/24', 'via', address.NODE]))
  await must(peer.command(['ip', 'route', 'replace', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', 'main']))
}

async function site(prefix: string): Promise<Site> {
  const made = await createSite(prefix)
  try {
    await answerEverything(made)
    await made.listen('any')
    return made
  } catch (error) {
    await made[Symbol.asyncDispose]()
    throw error
  }
}

/** `wanted`: the backends to use; default: those that this machine has. */
export async function createWorld(wanted: readonly Backend[] = ['nft', 'legacy']): Promise<World> {
  await using stack = new AsyncDisposableStack()
  const withRules = stack.use(await site('random-rules'))
  const withAgent = stack.use(await site('random-agent'))
  const found = await Promise.all(wanted.map(async (backend) => ({ backend, reason: await backendMissing(withRules.pod, backend) })))
  const backends = found.flatMap(({ backend, reason }) => (reason === undefined ? [backend] : []))
  const agent = stack.use(await Agent.start({ pods: [{ name: 'pod', netns: withAgent.pod.netns }] }))
  const rules = new Rules(withRules)
  const owned = stack.move()
  return {
    withRules,
    withAgent,
    agent,
    backends,
    missing: found.flatMap(({ reason }) => reason ?? []),
    setRules: (options, backend) => rules.set(options, backend),
    setPod: (set, fresh) => configure(agent, withAgent, set, fresh),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Both backends are at work in the kernel at once, so the other one's tables are emptied. */
class Rules {
  readonly #site: Site
  #backend: Backend | undefined

  constructor(site: Site) {
    this.#site = site
  }

  async set(options: Required<IstioRuleOptions>, backend: Backend): Promise<void> {
    if (this.#backend !== undefined && this.#backend !== backend) await applyIptables(this.#site.pod, fromScratch(''), this.#backend)
    await applyIptables(this.#site.pod, fromScratch(istioRules(options)), backend)
    this.#backend = backend
  }
}

async function configure(agent: Agent, { pod, peer }: Site, { pod: wanted, options }: PodSet, fresh: boolean): Promise<PodView> {
  const annotations = { 'sidecar.istio.io/status': '{}', ...wanted.annotations }
  const netns = fresh ? peer.netns : pod.netns
  const config: AgentConfig = {
    options: { ...options },
    pods: [{ name: fresh ? 'fresh' : 'pod', netns, annotations, containers: wanted.containers }],
  }
  await agent.write(config)
  const reload = await agent.ask<{ outcome: string; reason?: string }>('/v1/reload', PATIENCE)
  if (reload.outcome === 'refused') throw new Error(`the config was refused: ${reload.reason ?? ''}`)
  const [view] = await agent.ask<readonly PodView[]>('/v1/pods', PATIENCE)
  if (view === undefined) throw new Error('the agent knows no pod')
  return view
}
