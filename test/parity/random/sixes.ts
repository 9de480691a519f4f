/** What a set's pod is asked besides plain IPv4: IPv6, mapped addresses, and UDP by each kind of socket. */
import type { IstioRuleOptions } from '../../lab/istio-iptables.ts'
import { address, mapped } from '../addresses.ts'
import type { DatagramCase, Do } from '../exchange.ts'
import { edges, within } from '../networks.ts'
import type { Case, Endpoint } from '../probe.ts'
import { type Kind, proxy } from '../shape.ts'
import { choose, few, identities, outboundPorts, shown } from './connections.ts'

type Rules = Required<IstioRuleOptions>

const COUNT = { connections: 40, datagrams: 20 }

const own6 = ['POD6', 'POD2ND6', 'PODNET26'] as const
const hosts6 = [...(['PEER6', 'VIP6', 'SRC2ND6', 'NET26', 'NODE6', ...own6] as const).map((symbol) => address[symbol]), '::1', '::1', '::']
const local6: readonly string[] = [...own6.map((symbol) => address[symbol]), '::1', '::']
const hosts4 = [...(['PEER', 'VIP', 'SRC2ND', 'POD', 'POD2ND'] as const).map((symbol) => address[symbol]), '127.0.0.1', '127.0.0.9', '0.0.0.0']

/** Networks with neighbours, without routes or with addresses of their own meaning tell of the test's network, not of the rules. */
const besides = ['fd00:77::/64', 'fd00:88::/64', 'fd00:66::/32', 'fd00:55::/32', '::/96', 'fe80::/10', 'ff00::/8']

function edges6({ outboundRangesInclude, outboundRangesExclude }: Rules): readonly string[] {
  const ranges = [...(outboundRangesInclude === '*' ? [] : few(outboundRangesInclude, 4)), ...few(outboundRangesExclude, 4)]
  return ranges
    .filter((range) => range.includes(':'))
    .flatMap(edges)
    .filter((host) => !besides.some((network) => within(host, network)))
}

const ways6: Readonly<Record<string, Partial<Case>>> = {
  '': {},
  ' ': {},
  ' from POD6': { bind: [address.POD6, 0] },
  ' from PODNET26': { bind: [address.PODNET26, 0] },
  ' non-blocking': { nonblock: true },
}
/** Of no use but within the pod: outside nothing answers them. */
const localWays6: Readonly<Record<string, Partial<Case>>> = { ...ways6, ' from ::1': { bind: ['::1', 0] }, ' from ::6': { bind: ['::6', 0] } }
const mappedWays: Readonly<Record<string, Partial<Case>>> = {
  '': {},
  ' ': {},
  ' from mapped POD': { bind: [mapped(address.POD), 0] },
  ' from mapped 127.0.0.6': { bind: [mapped('127.0.0.6'), 0] },
  ' non-blocking': { nonblock: true },
}

/** Connections by sockets of IPv6. */
export function sixCases(rules: Rules, kind: Kind, salt: number): readonly Case[] {
  const sixes = kind === 'v4' ? ['::1', address.VIP6] : [...hosts6, ...new Set(edges6(rules))]
  const destinations = [
    ...sixes.map((host) => ({ host, name: shown(host), ways: local6.includes(host) ? localWays6 : ways6 })),
    ...(kind === 'v6' ? [] : hosts4).map((host) => ({ host: mapped(host), name: `mapped ${shown(host)}`, ways: mappedWays })),
  ]
  const cases = identities(rules).flatMap(({ name: who, ...as }) =>
    destinations.flatMap(({ host, name, ways }) =>
      [...outboundPorts(rules), 53]
        .filter((port) => port !== 0)
        .flatMap((port) =>
          Object.entries(ways).map(([way, change]) => ({
            id: `${who} -> ${name}:${port}${way.trimEnd()}`,
            ...as,
            to: [[host, port]] as const,
            ...change,
          })),
        ),
    ),
  )
  return choose(cases, COUNT.connections, salt)
}

/** Ports that have a server everywhere, so that no case waits for an answer. */
const serverPorts = [53, 53, 5353, 8080, 15020]

interface Server {
  readonly name: string
  readonly family: 4 | 6
  readonly host: string
}

function servers(rules: Rules, kind: Kind): readonly Server[] {
  const fours = [address.VIP, address.PEER, address.SRC2ND, address.POD, '127.0.0.1', '127.0.0.53']
  const known = rules.nameservers.filter((host) => host.startsWith('10.'))
  return [
    ...(kind === 'v6' ? ['127.0.0.1'] : [...fours, ...known]).flatMap((host): Server[] => [
      { name: shown(host), family: 4, host },
      { name: `mapped ${shown(host)}`, family: 6, host: mapped(host) },
    ]),
    ...(kind === 'v4' ? [] : [address.VIP6, address.PEER6, address.SRC2ND6, address.POD6, '::1']).map(
      (host): Server => ({ name: shown(host), family: 6, host }),
    ),
  ]
}

const scripts: Readonly<Record<string, (to: Endpoint, other: Endpoint) => readonly Do[]>> = {
  connected: (to) => [{ do: 'connect', to }, { do: 'names' }, { do: 'send', data: 'q1' }, { do: 'recv' }],
  unconnected: (to) => [{ do: 'sendto', data: 'q1', to }, { do: 'recv' }, { do: 'names' }],
  'and another': (to, other) => [
    { do: 'sendto', data: 'q1', to },
    { do: 'sendto', data: 'q2', to: other },
    { do: 'recv', count: 2 },
    { do: 'sendto', data: 'q3', to },
    { do: 'recv' },
  ],
}

/** iptables knows the answers of the DNS proxy by its ids: another one's would not come from the server that was asked. */
const knowsProxy = ({ dns, proxyUids, proxyGids }: Rules) => !dns || proxyUids.includes(proxy.uid) || proxyGids.includes(proxy.gid)

export function datagramsFor(rules: Rules, kind: Kind, salt: number): readonly DatagramCase[] {
  if (!knowsProxy(rules)) return []
  const all = servers(rules, kind)
  const cases = identities(rules).flatMap(({ name: who, ...as }) =>
    all.flatMap(({ name, family, host }, index) =>
      serverPorts.flatMap((port) =>
        Object.entries(scripts).map(([script, steps]): DatagramCase => {
          const { host: next } = all.slice(index + 1).find((each) => each.family === family) ?? { host }
          return { id: `udp ${who} -> ${name}:${port} ${script}`, ...as, family, steps: steps([host, port], [next, 53]) }
        }),
      ),
    ),
  )
  return choose(cases, COUNT.datagrams, salt)
}
