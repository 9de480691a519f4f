/**
 * Two pods of the same shape for a whole run: one gets each set's iptables rules, the other its annotations by a hot reload of one agent. A third one
 * is never enrolled: it gets the pods that Istio refuses.
 */
import type { PodView } from '../../../core/views.ts'
import { Agent, type AgentConfig } from '../../lab/agent.ts'
import { applyIptables, type Backend, backendMissing, fromScratch, type IstioRuleOptions, istioTables } from '../../lab/istio-iptables.ts'
import { must } from '../../lab/net.ts'
import { type Sites, sitesOf } from '../setups.ts'
import { address, type Kind, type Site } from '../shape.ts'
import type { FamilySet } from './compare.ts'

export interface World extends AsyncDisposable {
  readonly withRules: Sites
  readonly withAgent: Sites
  readonly agent: Agent
  readonly backends: readonly Backend[]
  /** Why a backend is not used. */
  readonly missing: readonly string[]
  setRules(kind: Kind, rules: Required<IstioRuleOptions>, backend: Backend): Promise<void>
  /** The pod as the agent sees it; `fresh`: one that was never enrolled. */
  setPod(set: FamilySet, fresh: boolean): Promise<PodView>
}

/** Milliseconds that a reload may take on a machine that has much else to do. */
const PATIENCE = 30_000

/** Every address that the pod does not know is the peer's, so that a connection that no rule takes ends somewhere at once. */
async function answerEverything({ lab, peer }: Site): Promise<void> {
  await must(lab.node.command(['ip', 'route', 'add', 'default', 'via', address.PEER]))
  await must(peer.command(['ip', 'route', 'add', '10.88.0.0/24', 'via', address.NODE]))
  await must(peer.command(['ip', 'route', 'replace', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', 'main']))
}

async function answerAllOfIPv6({ lab, peer }: Site): Promise<void> {
  await must(lab.node.command(['ip', '-6', 'route', 'add', 'default', 'via', address.PEER6, 'dev', 'br0']))
  await must(peer.command(['ip', '-6', 'route', 'add', 'fd00:88::/64', 'via', address.NODE6, 'dev', 'eth0']))
  await must(peer.command(['ip', '-6', 'route', 'replace', 'local', '::/0', 'dev', 'lo', 'table', 'main']))
}

async function openSites(prefix: string, stack: AsyncDisposableStack): Promise<Sites> {
  const sites = await sitesOf(prefix, stack)
  for (const [kind, site] of Object.entries(sites)) {
    await answerEverything(site)
    if (kind !== 'v4') await answerAllOfIPv6(site)
    await site.listen('both')
  }
  return sites
}

/** `wanted`: the backends to use; default: those that this machine has. */
export async function createWorld(wanted: readonly Backend[] = ['nft', 'legacy']): Promise<World> {
  await using stack = new AsyncDisposableStack()
  const withRules = await openSites('random-rules', stack)
  const withAgent = await openSites('random-agent', stack)
  const found = await Promise.all(wanted.map(async (backend) => ({ backend, reason: await backendMissing(withRules.v4.pod, backend) })))
  const backends = found.flatMap(({ backend, reason }) => (reason === undefined ? [backend] : []))
  const agent = stack.use(await Agent.start({ pods: [{ name: 'v4', netns: withAgent.v4.pod.netns }] }))
  const rules = { v4: new Rules(withRules.v4), dual: new Rules(withRules.dual), v6: new Rules(withRules.v6) }
  const owned = stack.move()
  return {
    withRules,
    withAgent,
    agent,
    backends,
    missing: found.flatMap(({ reason }) => reason ?? []),
    setRules: (kind, options, backend) => rules[kind].set(options, backend),
    setPod: (set, fresh) => configure(agent, withAgent[set.kind], set, fresh),
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
    if (this.#backend !== undefined && this.#backend !== backend)
      await applyIptables(this.#site.pod, fromScratch({ v4: '', v6: '', loopbackAddresses: [] }), this.#backend)
    await applyIptables(this.#site.pod, fromScratch(istioTables(options)), backend)
    this.#backend = backend
  }
}

async function configure(agent: Agent, { pod, peer }: Site, { pod: wanted, options, kind }: FamilySet, fresh: boolean): Promise<PodView> {
  const annotations = { 'sidecar.istio.io/status': '{}', ...wanted.annotations }
  const netns = fresh ? peer.netns : pod.netns
  const config: AgentConfig = {
    options: { ...options },
    pods: [
      {
        name: fresh ? `fresh-${kind}` : kind,
        netns,
        annotations,
        containers: wanted.containers,
        ...(wanted.nameservers === undefined ? {} : { nameservers: wanted.nameservers }),
      },
    ],
  }
  await agent.write(config)
  const reload = await agent.ask<{ outcome: string; reason?: string }>('/v1/reload', PATIENCE)
  if (reload.outcome === 'refused') throw new Error(`the config was refused: ${reload.reason ?? ''}`)
  const [view] = await agent.ask<readonly PodView[]>('/v1/pods', PATIENCE)
  if (view === undefined) throw new Error('the agent knows no pod')
  return view
}
