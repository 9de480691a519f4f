/** What is worth trying with the rules of any mesh: who connects, where to and from where; what the rules name, and what is next to it. */
import { appListeners, proxyListeners } from '../listeners.ts'
import type { Interest, Layout, MeshUnderTest, Who } from '../mesh.ts'
import { edges, within } from '../networks.ts'
import { address, app } from '../shape.ts'

/** What the rules of one pod come to, for those who make connections of it. */
export interface Subject {
  readonly layout: Layout
  readonly interest: Interest
  /** Where the rules lead to. */
  readonly ports: { readonly outbound: number; readonly inbound: number }
}

export const subjectOf = <Rules>(mesh: MeshUnderTest<Rules>, rules: Rules): Subject => ({
  layout: mesh.layout,
  interest: mesh.interest(rules),
  ports: mesh.ports(rules),
})

/** Of a long list the first ones and the last one. */
export const few = <T>(list: readonly T[], count = 3): readonly T[] =>
  list.length <= count ? list : [...list.slice(0, count - 1), ...list.slice(-1)]

export function everybody({ layout: { proxy, mark }, interest }: Subject): readonly Who[] {
  const root = { uid: 0, gid: 0 }
  const marked = mark === undefined ? {} : { mark }
  const all: readonly Who[] = [
    { name: 'app', as: app },
    { name: 'root', as: root },
    { name: 'proxy', as: proxy, ...marked },
    { name: 'rootThenProxy', as: proxy, creator: root, ...marked },
    { name: 'almost proxy', as: { uid: proxy.uid + 1, gid: proxy.gid + 1 } },
    ...(mark === undefined ? [] : [{ name: 'proxy without a mark', as: proxy }]),
    ...few(interest.who, 12),
  ]
  return [...new Map(all.map((who) => [who.name, who])).values()]
}

/** Symbols of test/parity/addresses.ts for its addresses, others as they are. */
const symbols = new Map<string, string>(Object.entries(address).map(([symbol, text]) => [text, symbol]))
export const shown = (text: string) => symbols.get(text) ?? text

const isSix = (text: string) => text.includes(':')

const always = [
  ...(['PEER', 'VIP', 'SRC2ND', 'NET2', 'NODE', 'POD', 'POD2ND', 'PODNET2', 'ANYIP'] as const).map((symbol) => address[symbol]),
  ...['127.0.0.1', '127.0.0.1', '127.0.0.6', '127.0.0.9', '127.1.2.3', '0.0.0.0'],
]

const own6 = (['POD6', 'POD2ND6', 'PODNET26'] as const).map((symbol) => address[symbol])
const always6 = [...(['PEER6', 'VIP6', 'SRC2ND6', 'NET26', 'NODE6'] as const).map((symbol) => address[symbol]), ...own6, '::1', '::1', '::']
export const local6: readonly string[] = [...own6, '::1', '::']

/** Networks with neighbours, without routes or with addresses of their own meaning tell of the test's network, not of the rules. */
const besides = ['0.0.0.0/8', '10.77.0.0/24', '10.88.0.0/24', '10.66.0.0/16', '224.0.0.0/3']
const besides6 = ['fd00:77::/64', 'fd00:88::/64', 'fd00:66::/32', 'fd00:55::/32', '::/96', '::ffff:0:0/96', 'fe80::/10', 'ff00::/8']

/** Of the networks with neighbours only those that exist. */
export function reachable(host: string): boolean {
  if (isSix(host)) return always6.includes(host) || !besides6.some((network) => within(host, network))
  return always.includes(host) || host === address.SUBNETCAST || !besides.some((network) => within(host, network))
}

/** First and last addresses of the networks that the rules name, and those next to them. */
export function edgesOf(networks: readonly string[], family: 4 | 6): readonly string[] {
  const mine = networks.filter((network) => isSix(network) === (family === 6))
  return [...new Set(few(mine, 10).flatMap(edges))]
}

export const destinations = ({ interest }: Subject): readonly string[] => [...always, ...edgesOf(interest.networks, 4).filter(reachable)]
export const destinations6 = ({ interest }: Subject): readonly string[] => [
  ...always6,
  ...edgesOf(interest.networks, 6).filter((host) => reachable(host) && !always6.includes(host)),
]

/** Port 0 cannot be told apart from "not connected" everywhere, so it is tried only where it is named. */
function withNeighbours(listed: readonly number[]): readonly number[] {
  const beside = (port: number) => [port - 1, port + 1].filter((each) => each > 0)
  return few([...new Set(listed)], 8).flatMap((port) => [port, ...beside(port)])
}

const upTo65535 = (ports: readonly number[]) => [...new Set(ports)].filter((port) => port <= 65535)

export const outboundPorts = ({ interest, layout }: Subject) =>
  upTo65535([80, 8080, 9999, 15020, ...few(layout.ownPorts), ...withNeighbours(interest.outboundPorts)])

export const inboundPorts = ({ interest, layout, ports }: Subject) =>
  upTo65535([22, 80, 8080, 9999, 15020, ports.outbound, ports.inbound, ...layout.ownPorts, ...withNeighbours(interest.inboundPorts)])

/** Where somebody listens on every address of the pod. */
export const openPorts = ({ layout }: Subject): ReadonlySet<number> =>
  new Set(
    ['0.0.0.0', '::']
      .flatMap((at) => [...proxyListeners(layout, 'both', at), ...appListeners(layout, at)])
      .filter(({ address, protocol }) => address === '::' && protocol !== 'udp')
      .map(({ port }) => port),
  )
