/** The connections that are worth trying with a set: by whom its rules speak of, to what they speak of and to its neighbours. */
import type { Case } from '../probe.ts'
import { address, type Kind } from '../shape.ts'
import { destinations, everybody, inboundPorts, outboundPorts, type Subject, shown } from './worth.ts'

export interface Connections {
  readonly outbound: readonly Case[]
  readonly fromPeer: readonly Case[]
  readonly fromNode: readonly Case[]
}

/** How many of each; the probe needs about a millisecond for one. A pod of IPv6 alone has little to say to IPv4. */
const COUNT = { outbound: { v4: 90, dual: 90, v6: 20 }, fromPeer: 18, bySource: 12, fromNode: 12 }

const ways: Readonly<Record<string, Partial<Case>>> = {
  '': {},
  ' ': {}, // the plain way more often
  ' from 127.0.0.6': { bind: ['127.0.0.6', 0] },
  ' from 127.0.0.1': { bind: ['127.0.0.1', 0] },
  ' from POD': { bind: [address.POD, 0] },
  ' from PODNET2': { bind: [address.PODNET2, 0] },
  ' non-blocking': { nonblock: true },
}

/** FNV-1a, and its bits mixed once more (murmur3's end): names that differ in their last letter shall not stay neighbours. */
function hashOf(text: string, seed: number): number {
  let hash = 2166136261 ^ seed
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 16777619)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** Those whose hash is lowest: the same salt keeps the same ones when a set is made smaller. */
export function choose<T extends { readonly id: string }>(cases: readonly T[], count: number, salt: number): readonly T[] {
  const unique = new Map(cases.map((each) => [each.id, each]))
  return [...unique.values()]
    .map((each) => ({ each, order: hashOf(each.id, salt) }))
    .sort((a, b) => a.order - b.order)
    .slice(0, count)
    .map(({ each }) => each)
}

function outboundCases(subject: Subject): readonly Case[] {
  const [hosts, ports] = [destinations(subject), outboundPorts(subject)]
  return everybody(subject).flatMap(({ name, ...who }) =>
    hosts.flatMap((host) =>
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

function inboundCases(subject: Subject, from: 'peer' | 'node' | 'self', to: readonly Target[]): readonly Case[] {
  const ports = inboundPorts(subject)
  return to.flatMap((symbol) =>
    ports.map((port) => ({ id: `${from} => ${symbol}:${port}`, as: { uid: 0, gid: 0 }, to: [[address[symbol], port]] as const })),
  )
}

/** Where rules look at the source: from each address that the peer has. */
function bySource(subject: Subject, to: readonly Target[]): readonly Case[] {
  if (subject.interest.sources.length === 0) return []
  const sources = { 4: ['PEER', 'VIP', 'SRC2ND'], 6: ['PEER6', 'VIP6', 'SRC2ND6'] } as const
  return to.flatMap((target) =>
    sources[target.endsWith('6') ? 6 : 4].flatMap((source) =>
      inboundCases(subject, 'peer', [target]).map(({ id, ...rest }): Case => ({ id: `${id} from ${source}`, ...rest, bind: [address[source], 0] })),
    ),
  )
}

export function connectionsFor(subject: Subject, kind: Kind, salt: number): Connections {
  const own = targets[kind]
  return {
    outbound: [...choose(outboundCases(subject), COUNT.outbound[kind], salt), ...choose(inboundCases(subject, 'self', own.slice(0, 2)), 4, salt)],
    fromPeer: [...choose(inboundCases(subject, 'peer', own), COUNT.fromPeer, salt), ...choose(bySource(subject, own), COUNT.bySource, salt)],
    fromNode: choose(inboundCases(subject, 'node', own.slice(0, 2)), COUNT.fromNode, salt),
  }
}
