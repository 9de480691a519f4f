/**
 * The source that Linux chooses for an IPv6 destination: RFC 6724 in the kernel's own order (ipv6_dev_get_saddr), for a socket without preferences
 * of its own. A destination is a prefix here: what is asked is the answer for everything under it that is under no longer border.
 */
import { type Cidr, contains, formatCidr, type Address as Ip, network, parseAddress, parseCidr, type Words } from '../address.ts'
import type { Address } from '../native/api.ts'

/** IFA_F_*: see linux/if_addr.h */
const flag = { temporary: 0x01, optimistic: 0x04, deprecated: 0x20, tentative: 0x40 } as const

/** A pod makes its own addresses: of those that may be the source of a route only so many are compared, the route's own interface's first. */
const MOST_SOURCES = 8
const MOST_BORDERS = 256

const scope = { link: 2, site: 5, global: 14 } as const

const [linkLocal, siteLocal, loopback, compatible] = ['fe80::/10', 'fec0::/10', '::1/128', '::/96'].map(parseCidr) as [Cidr, Cidr, Cidr, Cidr]
const orchid = parseCidr('2001:10::/28')

/** The kernel's table (`ip addrlabel`), longest prefix first, but for the mapped addresses: they are IPv4 here. */
const labels: readonly { readonly cidr: Cidr; readonly label: number }[] = [
  { cidr: loopback, label: 0 },
  { cidr: compatible, label: 3 },
  { cidr: parseCidr('2001::/32'), label: 6 },
  { cidr: orchid, label: 7 },
  { cidr: parseCidr('3ffe::/16'), label: 12 },
  { cidr: parseCidr('2002::/16'), label: 2 },
  { cidr: siteLocal, label: 11 },
  { cidr: parseCidr('fc00::/7'), label: 5 },
]
const everythingElse = 1

const isUnder = (to: Cidr, outer: Cidr): boolean => to.length >= outer.length && contains(outer, to)

function scopeOf(to: Cidr): number {
  if (isUnder(to, linkLocal) || isUnder(to, loopback)) return scope.link
  return isUnder(to, siteLocal) ? scope.site : scope.global
}

const labelOf = (to: Cidr): number => labels.find(({ cidr }) => isUnder(to, cidr))?.label ?? everythingElse

/** An address that may be a source. */
interface Candidate {
  /** With all of its bits. */
  readonly host: Cidr
  readonly prefix: number
  readonly index: number
  readonly scope: number
  readonly label: number
  readonly isAvoided: boolean
  readonly isTemporary: boolean
  readonly isOptimistic: boolean
}

export interface Candidates {
  /**
   * Those that are compared for a route over the interface (0: over none), its own first. In the kernel's order, which decides between equals: by
   * interface, and in each as the kernel shows them.
   */
  near(index: number): readonly Candidate[]
  /** The interfaces that have any. */
  readonly interfaces: readonly number[]
  /** Several interfaces have link-local addresses. */
  readonly severalLinks: boolean
}

function candidateOf({ address, prefix, index, flags = 0 }: Address): Candidate[] {
  const ip = parseAddress(address)
  if (ip?.family !== 6) return [] // a mapped one is nobody's source
  const host = network(ip, 128)
  const has = (bits: number): boolean => (flags & bits) !== 0
  const isOptimistic = has(flag.optimistic)
  if (has(flag.tentative) && !isOptimistic) return []
  const isAvoided = (isOptimistic || has(flag.deprecated)) && !isUnder(host, compatible)
  return [{ host, prefix, index, scope: scopeOf(host), label: labelOf(host), isAvoided, isTemporary: has(flag.temporary), isOptimistic }]
}

export function candidatesOf(addresses: readonly Address[]): Candidates {
  const all = addresses
    .filter(({ family }) => family === 6)
    .flatMap(candidateOf)
    .sort((a, b) => a.index - b.index)
  const byInterface = Map.groupBy(all, ({ index }) => index)
  const known = new Map<number, readonly Candidate[]>() // many routes lead over one interface
  const near = (index: number): readonly Candidate[] => {
    const own = byInterface.get(index)
    if (own === undefined && index !== 0) return near(0)
    const found = known.get(index) ?? [...(own ?? []), ...all.filter((candidate) => candidate.index !== index)].slice(0, MOST_SOURCES)
    known.set(index, found)
    return found
  }
  const links = all.filter(({ host }) => isUnder(host, linkLocal)).map(({ index }) => index)
  return { near, interfaces: [...byInterface.keys()], severalLinks: new Set(links).size > 1 }
}

function commonBits(a: Words, b: Words): number {
  const word = a.findIndex((each, at) => each !== b[at])
  return word < 0 ? 128 : 32 * word + Math.clz32((a[word] ?? 0) ^ (b[word] ?? 0))
}

/** One number for each of the kernel's rules, in its order; the first that differs decides, the higher one wins. */
function rank(candidate: Candidate, to: Cidr, index: number): readonly number[] {
  const { host, scope, label, prefix } = candidate
  const common = Math.min(commonBits(host.words, to.words), to.length)
  return [
    Number(common === 128),
    scope >= scopeOf(to) ? -scope : scope - 128,
    Number(!candidate.isAvoided),
    Number(index === 0 || candidate.index === index),
    Number(label === labelOf(to)),
    Number(!candidate.isTemporary),
    Number(isUnder(host, orchid) === isUnder(to, orchid)),
    Math.min(common, prefix),
    Number(!candidate.isOptimistic),
  ]
}

function isBetter(a: readonly number[], b: readonly number[]): boolean {
  const at = a.findIndex((value, rule) => value !== b[rule])
  return at >= 0 && (a[at] ?? 0) > (b[at] ?? 0)
}

/** For a route over the interface (0: over none). undefined: the kernel has none, and says EADDRNOTAVAIL. */
export function chooseSource(all: Candidates, to: Cidr, index: number): Ip | undefined {
  const onLink = index !== 0 && scopeOf(to) === scope.link
  let best: { readonly host: Cidr; readonly rank: readonly number[] } | undefined
  for (const candidate of all.near(index)) {
    if (onLink && candidate.index !== index) continue
    const own = rank(candidate, to, index)
    if (best === undefined || isBetter(own, best.rank)) best = { host: candidate.host, rank: own }
  }
  return best?.host
}

/** A link-local destination is one of the interface that the app names beside it, and nothing here knows which. */
export const isAmbiguous = ({ severalLinks }: Candidates, to: Cidr): boolean => severalLinks && isUnder(to, linkLocal)

/** Whether the longest common prefix may have to decide between two, for a route over the interface. */
const mayTie = (a: Candidate, b: Candidate, index: number): boolean =>
  a.scope === b.scope &&
  a.isAvoided === b.isAvoided &&
  a.isTemporary === b.isTemporary &&
  (index === 0 || (a.index === index) === (b.index === index))

/** Where it turns from one to the other. */
function between(a: Candidate, b: Candidate): Cidr[] {
  const common = commonBits(a.host.words, b.host.words)
  const lead = (from: Candidate, against: Candidate): Cidr[] => {
    const length = Math.min(common, against.prefix) + 1
    return length <= from.prefix ? [network(from.host, length)] : []
  }
  return [...lead(a, b), ...lead(b, a)]
}

/** The prefixes at which chooseSource may change its answer. */
export function bordersOf({ near, interfaces }: Candidates): Cidr[] {
  const fixed = [network({ family: 6, words: [0, 0, 0, 0] }, 0), linkLocal, ...labels.map(({ cidr }) => cidr)]
  const own = new Map<string, Cidr>()
  for (const index of [0, ...interfaces]) {
    const some = near(index)
    for (const cidr of some.flatMap((a, at) => [a.host, ...some.slice(at + 1).flatMap((b) => (mayTie(a, b, index) ? between(a, b) : []))])) {
      own.set(formatCidr(cidr), cidr)
      if (own.size >= MOST_BORDERS) return [...fixed, ...own.values()]
    }
  }
  return [...fixed, ...own.values()]
}
