/** What a mesh's rules speak of, and what is next to it: ports, networks, sources. */
import { address, mapped } from './addresses.ts'
import { type Clients, isMain, root } from './clients.ts'
import type { Interest, Layout } from './mesh.ts'
import { edges, within } from './networks.ts'
import type { Case, Endpoint } from './probe.ts'
import type { Kind, Symbolic } from './shape.ts'

interface Host {
  readonly name: string
  readonly host: string
}

const host = (symbol: Symbolic): Host => ({ name: symbol, host: address[symbol] })
const asMapped = ({ name, host: each }: Host): Host => ({ name: `mapped ${name}`, host: mapped(each) })

/** The same by every family that the pod has. */
const twins = (kind: Kind, four: Symbolic, six: Symbolic): readonly Host[] => [
  ...(kind === 'v6' ? [] : [host(four), asMapped(host(four))]),
  ...(kind === 'v4' ? [] : [host(six)]),
]

const symbols = new Map<string, string>(Object.entries(address).map(([symbol, text]) => [text, symbol]))
const named = (text: string): Host => ({ name: symbols.get(text) ?? text, host: text })

/** Of these networks only addresses that somebody has tell of rules: others are silent, or tell of the test's network. */
const besides = ['0.0.0.0/8', '10.77.0.0/24', '10.88.0.0/24', '10.66.0.0/16', '10.55.0.0/16', '224.0.0.0/3']
const besides6 = ['fd00:77::/64', 'fd00:88::/64', 'fd00:66::/32', 'fd00:55::/32', '::/96', '::ffff:0:0/96', 'fe80::/10', 'ff00::/8']
const tells = (text: string) => symbols.has(text) || ![...besides, ...besides6].some((network) => within(text, network))

const withNext = (ports: readonly number[]) => [...new Set(ports.flatMap((port) => [port, port + 1]))].filter((port) => port > 0 && port <= 65535)

const add = (name: string, clients: Clients, hosts: readonly Host[], ports: readonly number[]): Case[] => {
  const { rare: _, ...client } = clients[name] ?? { as: root }
  return hosts.flatMap((each) => ports.map((port) => ({ id: `${name} -> ${each.name}:${port}`, ...client, to: [[each.host, port]] as const })))
}

/** Connections of the pod to the ports and networks of `interest`, and to the proxy's own ports. */
export function outboundOfInterest(kind: Kind, interest: Interest, layout: Layout, clients: Clients): readonly Case[] {
  const [vips, own] = [twins(kind, 'VIP', 'VIP6'), twins(kind, 'POD', 'POD6')]
  const networks = interest.networks.filter((network) => kind !== (network.includes(':') ? 'v4' : 'v6'))
  const found = [...new Set(networks.flatMap(edges))].filter(tells).map(named)
  const ports = withNext(interest.outboundPorts)
  return Object.keys(clients).flatMap((name) => [
    ...add(name, clients, isMain(name) ? vips : vips.slice(-1), ports),
    ...(isMain(name) ? [...add(name, clients, found, [80]), ...add(name, clients, own, [...layout.ownPorts, ...ports])] : []),
  ])
}

const inboundCase = (from: string, { name, host: each }: Host, port: number): Case => ({
  id: `${from} => ${name}:${port}`,
  as: root,
  to: [[each, port]],
})

/** Connections that reach the pod at the ports of `interest`, at the proxy's own, and from other sources. */
export function inboundOfInterest(kind: Kind, from: 'peer' | 'node' | 'self', interest: Interest, layout: Layout): readonly Case[] {
  const own = twins(kind, 'POD', 'POD6')
  const ports = [...new Set([...withNext(interest.inboundPorts), ...layout.ownPorts])]
  const cases = own.flatMap((each) => ports.map((port) => inboundCase(from, each, port)))
  return from === 'peer' ? [...cases, ...sourceCases(kind, interest)] : cases
}

const sources: readonly (readonly [four: Symbolic, six: Symbolic])[] = [
  ['PEER', 'PEER6'],
  ['VIP', 'VIP6'],
  ['SRC2ND', 'SRC2ND6'],
]

/** The peer has several addresses. */
function sourceCases(kind: Kind, { inboundPorts }: Interest): readonly Case[] {
  const ports = [...new Set([8080, 9999, 15020, ...inboundPorts.slice(0, 2)])].filter((port) => port > 0)
  const pairs = sources.flatMap(([four, six]) => [
    ...(kind === 'v6' ? [] : [[host('POD'), host(four)] as const]),
    ...(kind === 'v4' ? [] : [[host('POD6'), host(six)] as const]),
  ])
  return pairs.flatMap(([to, source]) =>
    ports.map((port): Case => {
      const { id, ...rest } = inboundCase('peer', to, port)
      return { id: `${id} from ${source.name}`, ...rest, bind: [source.host, 0] satisfies Endpoint }
    }),
  )
}
