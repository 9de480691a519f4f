/** IPv6, mapped addresses and DNS: pods of every kind with proxies of every kind. Each set-up is one of iptables' and one of the agent's. */
import type { Agent } from '../lab/agent.ts'
import { applyIptables, fromScratch, type IstioRuleOptions, istioTables } from '../lab/istio-iptables.ts'
import { runPlan } from './columns.ts'
import type { Column } from './compare.ts'
import { type DatagramChoice, datagramCases } from './datagrams.ts'
import { exchangeColumn } from './exchange.ts'
import { familyCases, inboundFamilyCases } from './families.ts'
import type { Case } from './probe.ts'
import { createSite, type Kind, type Mode, type Site } from './shape.ts'

export interface Setup {
  /** Begins the names of its cases. */
  readonly name: string
  readonly kind: Kind
  readonly mode: Mode
  readonly rules: IstioRuleOptions
  /** Of the sidecar, so that the mesh's plugin comes to the same rules. */
  readonly env: Readonly<Record<string, string>>
  /** TCP: every destination, and by every way (`thorough`); or those that `some` matches. */
  readonly tcp: 'plain' | 'thorough' | RegExp
  readonly udp?: DatagramChoice
}

const single = { rules: {}, env: {} } as const
const dualStack = { rules: { ipv6: true }, env: { ISTIO_DUAL_STACK: 'true' } } as const
const v6First = { rules: { ipv6: true }, env: {} } as const
/** TCP where DNS is what matters: port 53, and one connection that shows the rest is as before. */
const names = /:53$|(app|proxy) -> (VIP6|mapped VIP|VIP):80$/

const withDns = <T extends { readonly rules: IstioRuleOptions; readonly env: Readonly<Record<string, string>> }>({ rules, env }: T) => ({
  rules: { ...rules, dns: 'all' as const },
  env: { ...env, ISTIO_META_DNS_CAPTURE: 'true' },
})

export const setups: readonly Setup[] = [
  { name: 'v4 pod, v4 proxy', kind: 'v4', mode: 'any', ...single, tcp: 'plain' },
  { name: 'v4 pod, dual proxy', kind: 'v4', mode: 'dual', ...single, tcp: 'thorough', udp: { flavours: ['mapped'], ports: 22_000 } },
  { name: 'v4 pod, DNS', kind: 'v4', mode: 'both', ...withDns(single), tcp: names, udp: { flavours: ['v4', 'mapped'], ports: 23_000 } },
  { name: 'dual pod, dual proxy', kind: 'dual', mode: 'dual', ...dualStack, tcp: 'thorough' },
  { name: 'dual pod, two listeners', kind: 'dual', mode: 'both', ...dualStack, tcp: 'plain' },
  { name: 'dual pod, v4 proxy', kind: 'dual', mode: 'any', ...dualStack, tcp: 'plain' },
  { name: 'dual pod, v6 proxy', kind: 'dual', mode: 'v6only', ...dualStack, tcp: 'plain' },
  { name: 'dual pod, loopback proxy', kind: 'dual', mode: 'loopbacks', ...dualStack, tcp: 'plain' },
  { name: 'dual pod, DNS', kind: 'dual', mode: 'both', ...withDns(dualStack), tcp: names, udp: { flavours: ['v4', 'v6', 'mapped'], ports: 24_000 } },
  {
    name: 'dual pod, no DNS proxy',
    kind: 'dual',
    mode: 'nodns',
    ...withDns(dualStack),
    tcp: names,
    udp: { flavours: ['v4', 'v6', 'mapped'], ports: 26_000, unanswered: true },
  },
  { name: 'v4-first pod', kind: 'dual', mode: 'dual', ...single, tcp: 'plain' },
  { name: 'v4-first pod, DNS', kind: 'dual', mode: 'both', ...withDns(single), tcp: names, udp: { flavours: ['v6'], ports: 27_000 } },
  { name: 'v6 pod, dual proxy', kind: 'v6', mode: 'dual', ...v6First, tcp: 'thorough' },
  { name: 'v6 pod, v6 proxy', kind: 'v6', mode: 'v6only', ...v6First, tcp: 'plain' },
  { name: 'v6 pod, v4 proxy', kind: 'v6', mode: 'any', ...v6First, tcp: 'plain' },
  { name: 'v6 pod, DNS', kind: 'v6', mode: 'both', ...withDns(v6First), tcp: names, udp: { flavours: ['v6', 'mapped'], ports: 28_000 } },
]

const kinds: readonly Kind[] = ['v4', 'dual', 'v6']

export type Sites = Readonly<Record<Kind, Site>>

export async function sitesOf(prefix: string, stack: AsyncDisposableStack): Promise<Sites> {
  const made = await Promise.all(kinds.map((kind) => createSite(`${prefix}-${kind}`, kind)))
  for (const site of made) stack.use(site)
  return Object.fromEntries(kinds.map((kind, index) => [kind, made[index]])) as Record<Kind, Site>
}

/** A site of each kind with rules and another with the agent. */
export interface Twins extends AsyncDisposable {
  readonly withRules: Sites
  readonly withAgent: Sites
}

export async function createTwins(): Promise<Twins> {
  await using stack = new AsyncDisposableStack()
  const [withRules, withAgent] = [await sitesOf('rules', stack), await sitesOf('agent', stack)]
  const owned = stack.move()
  return { withRules, withAgent, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** The sidecar as the set-up has it, in the pods of every kind. */
export const configFor = ({ withAgent }: Twins, { env }: Pick<Setup, 'env'>) => ({
  pods: kinds.map((kind) => ({
    name: kind,
    netns: withAgent[kind].pod.netns,
    annotations: { 'sidecar.istio.io/status': '{}' },
    containers: [{ name: 'app' }, { name: 'istio-proxy', env }],
  })),
})

/** Every connection of the set-up, or those in `only`. */
export async function runSetup({ name, kind, tcp, udp }: Setup, site: Site, only?: ReadonlySet<string>): Promise<Column> {
  const chosen = (cases: readonly Case[]) => (tcp instanceof RegExp ? cases.filter(({ id }) => tcp.test(id)) : cases)
  const plan = () => {
    const inbound = tcp instanceof RegExp ? [] : (['peer', 'node', 'self'] as const)
    const from = { peer: site.peer, node: site.lab.node, self: site.pod }
    return [
      [site.pod, chosen(familyCases(kind, tcp === 'thorough'))] as const,
      ...inbound.map((who) => [from[who], inboundFamilyCases(kind, who)] as const),
    ]
  }
  const datagrams = udp === undefined ? [] : datagramCases(udp).filter(({ id }) => only === undefined || only.has(`${name}: ${id}`))
  return new Map([...(await runPlan(site, plan, name, only)), ...(await exchangeColumn(name, site.pod, datagrams))])
}

export async function withRules(setup: Setup, twins: Twins): Promise<Column> {
  const site = twins.withRules[setup.kind]
  await applyIptables(site.pod, fromScratch(istioTables(setup.rules)))
  await site.listen(setup.mode)
  return runSetup(setup, site)
}

/** The agent gets the set-up by a hot reload. */
export async function withAgent(setup: Setup, twins: Twins, agent: Agent): Promise<Column> {
  const site = twins.withAgent[setup.kind]
  await agent.write(configFor(twins, setup))
  const reload = await agent.ask<{ outcome: string; reason?: string }>('/v1/reload', 30_000)
  if (reload.outcome === 'refused') throw new Error(`the config was refused: ${reload.reason ?? ''}`)
  await site.listen(setup.mode)
  return runSetup(setup, site)
}
