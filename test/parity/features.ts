/** What a reader asks of a mesh, and what the fixed matrix answers: for each feature whether connections end as with the mesh's own rules. */
import { address } from './addresses.ts'
import type { Difference, Named } from './compare.ts'
import { edges } from './networks.ts'
import type { About } from './setups.ts'

/** `mesh`: the rules that a set-up's pod has. */
interface Feature {
  readonly name: string
  /** Whether a field of a case belongs to it. */
  has(asked: Asked, mesh: About): boolean
  /** Whether these rules have something of the kind; absent: all rules have. */
  ruled?(mesh: About): boolean
}

/** A field of a case, taken apart. */
interface Asked {
  readonly who: string
  readonly inbound: boolean
  readonly host: string
  readonly port: number
  /** " from POD by lo" */
  readonly way: string
  readonly udp: boolean
  readonly field: string
  /** Who was reached, or an error: not an address that somebody was told. */
  readonly decisive: boolean
  readonly errors: boolean
}

const local = /^(mapped )?(POD|ANYIP|127\.|0\.0\.0\.0)|^::[16]?$/
const six = /^[A-Z]\w*6$|:|LINK$|NOSCOPE/
const told = /SO_ORIGINAL_DST|^get|^source seen|^address seen/
const errno = /^(E[A-Z]+|TIMEOUT)$/

/** "dual pod: app -> mapped VIP:80 from POD (1)" */
export function asked({ case: name, field, iptables, merbridge }: Difference): Asked {
  const [, who = '', arrow = '', host = '', port = '', way = ''] = /^.*?: (.+?) (->|=>) ((?:mapped )?[^ ]+):(\d+)(.*)$/.exec(name) ?? []
  const udp = /^[^:]*: udp /.test(name)
  const errors = field === 'reported by' || (field === 'outcome' && (errno.test(iptables) || errno.test(merbridge)))
  return { who, inbound: arrow === '=>', host, port: Number(port), way, udp, field, decisive: !udp && !told.test(field), errors }
}

const isMarked = (who: string) => /mark/i.test(who)
const near = (ports: readonly number[], port: number) => ports.includes(port) || ports.includes(port - 1)
const symbols = new Map<string, string>(Object.entries(address).map(([symbol, text]) => [text, symbol]))
const namesOf = (networks: readonly string[]) => new Set(networks.flatMap(edges).map((text) => symbols.get(text) ?? text))
const networksOf = ({ ruled, networks }: About['interest']) => ruled?.networks ?? networks
const kept = new WeakMap<About, ReadonlySet<string>>()

function hostsOf(mesh: About): ReadonlySet<string> {
  const hosts = kept.get(mesh) ?? namesOf(networksOf(mesh.interest))
  kept.set(mesh, hosts)
  return hosts
}

const outbound = (each: Asked) => each.decisive && !each.inbound
const inbound = (each: Asked) => each.decisive && each.inbound
/** Bound to nothing, and to an address that is one without an interface. */
const plain = ({ way, host }: Asked) => !/ (from|by) /.test(way) && !/LINK$|NOSCOPE/.test(host)
const client = (who: string, inside: boolean) => (each: Asked) =>
  outbound(each) && plain(each) && each.who === who && local.test(each.host) === inside
const takesDns = ({ layout }: About) => layout.dns !== undefined

export const features: readonly Feature[] = [
  { name: 'app to outside', has: client('app', false) },
  { name: "app to its pod's addresses and loopback", has: client('app', true) },
  { name: 'proxy to outside', has: client('proxy', false) },
  { name: "proxy to its pod's addresses and loopback", has: client('proxy', true) },
  { name: 'users and groups', has: (each) => outbound(each) && each.who !== 'app' && each.who !== 'proxy' && !isMarked(each.who) },
  {
    name: 'marked sockets',
    has: (each) => outbound(each) && isMarked(each.who),
  },
  { name: 'bound sources', has: (each) => outbound(each) && each.way.includes(' from ') },
  {
    name: 'outbound ports',
    has: (each, { interest }) => outbound(each) && near(interest.ruled?.outboundPorts ?? interest.outboundPorts, each.port),
    ruled: ({ interest }) => (interest.ruled?.outboundPorts ?? interest.outboundPorts).length > 0,
  },
  {
    name: 'outbound networks',
    has: (each, mesh) => outbound(each) && hostsOf(mesh).has(each.host),
    ruled: ({ interest }) => networksOf(interest).length > 0,
  },
  { name: 'inbound', has: inbound },
  {
    name: 'inbound ports',
    has: (each, { interest }) => inbound(each) && near(interest.inboundPorts, each.port),
    ruled: ({ interest }) => interest.inboundPorts.length > 0,
  },
  {
    name: 'inbound sources',
    has: (each) => inbound(each) && / from [A-Z]/.test(each.way),
    ruled: ({ interest }) => interest.sources.length > 0,
  },
  { name: 'SO_ORIGINAL_DST', has: ({ udp, field }) => !udp && field.includes('SO_ORIGINAL_DST') },
  { name: 'getpeername and getsockname', has: ({ udp, field }) => !udp && /^get|^address seen/.test(field) },
  { name: 'source that the proxy sees', has: ({ udp, field }) => !udp && field === 'source seen' },
  { name: 'IPv6', has: (each) => each.decisive && six.test(each.host), ruled: ({ interest }) => interest.ipv6 },
  { name: 'IPv4 on sockets of IPv6', has: (each) => each.decisive && each.host.startsWith('mapped ') },
  { name: 'DNS over UDP', has: ({ udp }) => udp, ruled: takesDns },
  { name: 'DNS over TCP', has: (each) => outbound(each) && each.port === 53, ruled: takesDns },
  { name: 'errors (errno)', has: ({ udp, errors }) => !udp && errors },
]

/** Of a set-up. */
export interface Evidence {
  readonly about: About
  /** Every field of every case, as iptables has it. */
  readonly cases: readonly Difference[]
  /** With the row that names it. */
  readonly differences: readonly (Difference & { readonly row: Named })[]
}

/** What names differences: rows of one name in a section of the document count once. */
export interface Place {
  readonly section: string
  readonly name: string
}

export type Verdict = { readonly kind: 'same' | 'none' } | { readonly kind: 'but'; readonly rows: readonly Place[] }

function placesOf(rows: readonly Named[]): readonly Place[] {
  const all = new Map(rows.map(({ name, section = '' }) => [`${section}: ${name}`, { section, name }]))
  return [...all].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, place]) => place)
}

export function verdictOf(feature: Feature, all: readonly Evidence[]): Verdict {
  const ruled = all.filter(({ about }) => feature.ruled?.(about) ?? true)
  const has = (about: About) => (each: Difference) => feature.has(asked(each), about)
  const rows = placesOf(ruled.flatMap(({ about, differences }) => differences.filter(has(about)).map(({ row }) => row)))
  if (rows.length > 0) return { kind: 'but', rows }
  const tried = ruled.some(({ about, cases }) => cases.some(has(about)))
  return { kind: tried ? 'same' : 'none' }
}
