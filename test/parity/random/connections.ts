/** The connections that are worth trying with a set: by whom its rules speak of, to what they speak of and to its neighbours. */
import { createHash } from 'node:crypto'
import type { IstioRuleOptions } from '../../lab/istio-iptables.ts'
import { edges } from '../networks.ts'
import type { Case, Identity } from '../probe.ts'
import { address, app, type Kind } from '../shape.ts'

type Rules = Required<IstioRuleOptions>

export interface Connections {
  readonly outbound: readonly Case[]
  readonly fromPeer: readonly Case[]
  readonly fromNode: readonly Case[]
}

/** How many of each; the probe needs about a millisecond for one. */
const COUNT = { outbound: 90, fromPeer: 18, fromNode: 12 }

export const few = <T>(list: readonly T[], count = 3): readonly T[] => [...list.slice(0, count - 1), ...list.slice(-1)]

export interface Who {
  readonly name: string
  readonly as: Identity
  readonly creator?: Identity
}

export function identities({ proxyUids, proxyGids, ownerGroupsInclude, ownerGroupsExclude }: Rules): readonly Who[] {
  const proxy = { uid: proxyUids[0] ?? 0, gid: proxyGids[0] ?? 0 }
  const root = { uid: 0, gid: 0 }
  const groups = [...(ownerGroupsInclude === '*' ? [] : ownerGroupsInclude), ...ownerGroupsExclude]
  return [
    { name: 'app', as: app },
    { name: 'root', as: root },
    { name: 'proxy', as: proxy },
    { name: 'rootThenProxy', as: proxy, creator: root },
    ...few(proxyUids).map((uid) => ({ name: `uid ${uid}`, as: { uid, gid: app.gid } })),
    ...few(proxyGids).map((gid) => ({ name: `gid ${gid}`, as: { uid: app.uid, gid } })),
    ...few(groups).map((gid) => ({ name: `group ${gid}`, as: { uid: app.uid, gid } })),
    { name: 'almost proxy', as: { uid: proxy.uid + 1, gid: proxy.gid + 1 } },
  ]
}

/** Symbols of test/parity/shape.ts for its addresses, others as they are. */
const symbols = new Map<string, string>(Object.entries(address).map(([symbol, text]) => [text, symbol]))
export const shown = (text: string) => symbols.get(text) ?? text

const always = [
  ...(['PEER', 'VIP', 'SRC2ND', 'NET2', 'NODE', 'POD', 'POD2ND', 'PODNET2', 'ANYIP'] as const).map((symbol) => address[symbol]),
  ...['127.0.0.1', '127.0.0.1', '127.0.0.6', '127.0.0.9', '127.1.2.3', '0.0.0.0'],
]

/** Where a destination tells of the rules, not of the test's network: unicast, and of the networks with neighbours only those that exist. */
function reachable(text: string): boolean {
  const [first = 0, second = 0, third = 0] = text.split('.').map(Number)
  const connected = first === 10 && ((second === 77 && third === 0) || (second === 88 && third === 0) || second === 66)
  return first > 0 && first < 224 && (!connected || always.includes(text) || text === address.SUBNETCAST)
}

export function destinations({ outboundRangesInclude, outboundRangesExclude, loopbackCidr }: Rules): readonly string[] {
  const ranges = [...(outboundRangesInclude === '*' ? [] : few(outboundRangesInclude, 4)), ...few(outboundRangesExclude, 4), loopbackCidr]
  const found = ranges.filter((range) => !range.includes(':')).flatMap(edges)
  return [...always, ...new Set(found.filter(reachable))]
}

/** Those of the set and their neighbours; port 0 cannot be told apart from "not connected" everywhere. */
function portsOf(lists: readonly (readonly number[])[], more: readonly number[]): readonly number[] {
  const listed = lists.flatMap((list) => few(list)).flatMap((port) => [port, port + 1])
  return [...new Set([...more, ...listed])].filter((port) => port <= 65535)
}

export const outboundPorts = ({ outboundPortsInclude, outboundPortsExclude }: Rules) =>
  portsOf([outboundPortsInclude, outboundPortsExclude], [80, 8080, 15008, 15020, 9999])

export const inboundPorts = ({ inboundPortsInclude, inboundPortsExclude }: Rules) =>
  portsOf(
    [inboundPortsInclude === '*' ? [] : inboundPortsInclude, inboundPortsExclude],
    [22, 80, 8080, 9999, 15001, 15006, 15008, 15020, 15021, 15090],
  )

const ways: Readonly<Record<string, Partial<Case>>> = {
  '': {},
  ' ': {}, // the plain way more often
  ' from 127.0.0.6': { bind: ['127.0.0.6', 0] },
  ' from 127.0.0.1': { bind: ['127.0.0.1', 0] },
  ' from POD': { bind: [address.POD, 0] },
  ' from PODNET2': { bind: [address.PODNET2, 0] },
  ' non-blocking': { nonblock: true },
}

/** Those whose hash is lowest: the same salt keeps the same ones when a set is made smaller. */
export function choose<T extends { readonly id: string }>(cases: readonly T[], count: number, salt: number): readonly T[] {
  const rank = (text: string) => createHash('sha1').update(`${salt} ${text}`).digest('hex')
  const unique = new Map(cases.map((each) => [each.id, each]))
  return [...unique.values()]
    .map((each) => ({ each, order: rank(each.id) }))
    .sort((a, b) => (a.order < b.order ? -1 : 1))
    .slice(0, count)
    .map(({ each }) => each)
}

function outboundCases(rules: Rules): readonly Case[] {
  const ports = outboundPorts(rules)
  return identities(rules).flatMap(({ name, ...who }) =>
    destinations(rules).flatMap((host) =>
      ports.flatMap((port) =>
        Object.entries(port === 0 ? { '': {} } : ways).map(([way, change]) => ({
          id: `${name} -> ${shown(host)}:${port}${way.trimEnd()}`,
          ...who,
          to: [[host, port]] as const,
          ...change,
        })),
      ),
    ),
  )
}

type Target = 'POD' | 'POD2ND' | 'PODNET2' | 'POD6' | 'POD2ND6' | 'PODNET26'

const targets: Readonly<Record<Kind, readonly Target[]>> = {
  v4: ['POD', 'PODNET2', 'POD2ND'],
  dual: ['POD', 'PODNET26', 'POD6'],
  v6: ['POD6', 'PODNET26', 'POD2ND6'],
}

function inboundCases(rules: Rules, from: 'peer' | 'node' | 'self', to: readonly Target[]): readonly Case[] {
  const ports = inboundPorts(rules)
  return to.flatMap((symbol) =>
    ports.map((port) => ({ id: `${from} => ${symbol}:${port}`, as: { uid: 0, gid: 0 }, to: [[address[symbol], port]] as const })),
  )
}

export function connectionsFor(rules: Rules, kind: Kind, salt: number): Connections {
  const own = targets[kind]
  return {
    outbound: [...choose(outboundCases(rules), COUNT.outbound, salt), ...choose(inboundCases(rules, 'self', own.slice(0, 2)), 4, salt)],
    fromPeer: choose(inboundCases(rules, 'peer', own), COUNT.fromPeer, salt),
    fromNode: choose(inboundCases(rules, 'node', own.slice(0, 2)), COUNT.fromNode, salt),
  }
}
