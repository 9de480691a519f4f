/** Everything that is tried with a set-up of a mesh. */
import { clientsOf } from './clients.ts'
import { runPlan } from './columns.ts'
import type { Column } from './compare.ts'
import { datagramCases } from './datagrams.ts'
import { exchangeColumn } from './exchange.ts'
import { familyCases, inboundFamilyCases } from './families.ts'
import { inboundOfInterest, outboundOfInterest } from './interests.ts'
import { inboundCases, outboundCases } from './matrix.ts'
import type { Interest, Layout, MeshSetup } from './mesh.ts'
import { casesFor, datagramsFor, type Ports } from './ports.ts'
import type { Case } from './probe.ts'
import { istioLayout, type Site } from './shape.ts'

/** What is tried: the part of a set-up that does not depend on how it is configured. */
export type Trial = Pick<MeshSetup, 'name' | 'kind' | 'tcp' | 'udp' | 'more' | 'ipv4'>

/** The mesh that it is tried with. */
export interface About {
  readonly layout: Layout
  readonly interest: Interest
  readonly ports: Ports
}

const nothing: Interest = {
  who: [],
  networks: [],
  sources: [],
  outboundPorts: [],
  inboundPorts: [],
  nameservers: [],
  ipv6: true,
  udp: true,
}

/** Istio by its defaults, and no more than everybody is asked. */
const plainIstio: About = { layout: istioLayout, interest: nothing, ports: { outbound: 15001, inbound: 15006, dns: 15053 } }

type From = 'pod' | 'peer' | 'node' | 'self'

const unique = (cases: readonly Case[]): readonly Case[] => [...new Map(cases.map((each) => [each.id, each])).values()]

/** IPv4 as pods without IPv6 do it; other pods do it by mapped addresses. */
const withIPv4 = ({ kind, ipv4 }: Trial) => kind === 'v4' && ipv4 !== 'elsewhere'

function outbound(trial: Trial, { layout, interest, ports }: About): readonly Case[] {
  const { kind, tcp, more = [] } = trial
  const clients = clientsOf(layout, interest.who)
  const thorough = tcp === 'thorough'
  const usual = [...familyCases(kind, thorough, clients), ...(withIPv4(trial) ? outboundCases(clients, thorough) : [])]
  const all = [...casesFor(ports, usual), ...outboundOfInterest(kind, interest, layout, clients)]
  return unique([...(tcp instanceof RegExp ? all.filter(({ id }) => tcp.test(id)) : all), ...more])
}

function inbound(trial: Trial, { layout, interest, ports }: About, from: 'peer' | 'node' | 'self'): readonly Case[] {
  const { kind, tcp } = trial
  const usual = [...inboundFamilyCases(kind, from), ...(withIPv4(trial) ? inboundCases(from) : [])]
  const all = [...casesFor(ports, usual), ...inboundOfInterest(kind, from, interest, layout)]
  return unique(tcp instanceof RegExp ? all.filter(({ id }) => tcp.test(id)) : all)
}

/** TCP of the set-up, by who connects. */
export const casesOf = (trial: Trial, about: About, from: From): readonly Case[] =>
  from === 'pod' ? outbound(trial, about) : inbound(trial, about, from)

function datagramsOf({ udp }: Trial, { layout, interest, ports }: About) {
  if (udp === undefined || !interest.udp) return []
  const own = layout.dns?.address
  const servers = [...new Set([...(own === undefined ? [] : [own]), ...interest.nameservers])]
  return datagramsFor(ports, datagramCases(udp, { clients: clientsOf(layout, interest.who), servers }))
}

/** Every connection of the set-up, or those in `only`. */
export async function runSetup(trial: Trial, site: Site, only?: ReadonlySet<string>, about: About = plainIstio): Promise<Column> {
  const plan = (from: readonly From[]) => () => {
    const where = { pod: site.pod, peer: site.peer, node: site.lab.node, self: site.pod }
    return from.map((who) => [where[who], casesOf(trial, about, who)] as const)
  }
  const datagrams = datagramsOf(trial, about).filter(({ id }) => only === undefined || only.has(`${trial.name}: ${id}`))
  // What two of them bind in one namespace would be in each other's way, so those of the pod keep their order.
  const columns = await Promise.all([
    runPlan(site, plan(['pod', 'self']), trial.name, only),
    runPlan(site, plan(['peer', 'node']), trial.name, only),
    exchangeColumn(trial.name, site.pod, datagrams, about.ports.dns),
  ])
  return new Map(columns.flatMap((column) => [...column]))
}
