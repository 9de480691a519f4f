/**
 * One namespace's routes as entries of a longest-prefix trie that answers as the kernel's routing would. The kernel asks its tables one after
 * the other and takes the longest match of the first that has one; the trie asks once. So the entry of a prefix is the answer of all tables for
 * that prefix, and every prefix of every table and of every rule has an entry.
 */
import { type Cidr, contains, type Address as Ip, network, parseAddress, type Words, zeroWords } from '../address.ts'
import { RouteKind, type RouteRecord, routeCodec, routeKeyCodec } from '../contract.ts'
import type { Address, Entry, Route, Rule } from '../native/api.ts'
import { isHost, routeType } from './lookups.ts'
import { bordersOf, type Candidates, candidatesOf, chooseSource, isAmbiguous } from './source6.ts'
import { type Asked, answer, askedBy, idOf, ipOf, type Row, writtenPrefixes } from './tables.ts'

/** Linux's numbers, the same on amd64 and arm64. */
const EACCES = 13
const EINVAL = 22
const EADDRNOTAVAIL = 99
const ENETUNREACH = 101
const EHOSTUNREACH = 113

/** RT_TABLE_*: default, main, local */
const kernelTables: ReadonlySet<number> = new Set([253, 254, 255])

const scopeUniverse = 0
const scopeLink = 253

/** What connect() of a TCP socket gets (measured on Linux 6.18, both families). */
const errors: ReadonlyMap<number, number> = new Map([
  [routeType.broadcast, ENETUNREACH],
  [routeType.multicast, ENETUNREACH],
  [routeType.blackhole, EINVAL],
  [routeType.unreachable, EHOSTUNREACH],
  [routeType.prohibit, EACCES],
])

const unreachable = (error: number): RouteRecord => ({ kind: RouteKind.UNREACHABLE, error, source: zeroWords, interface: 0 })

/**
 * The source that the kernel chooses for an IPv4 route without a preferred one (inet_select_addr): an address of the interface in the gateway's
 * subnet, else its first, else the first of any other interface; never a secondary address, and none of a narrower scope than the route's.
 */
function selectSource(route: Row['route'], addresses: readonly Address[]): Words {
  const scope = route.gateway === undefined ? scopeLink : scopeUniverse
  const usable = addresses.filter((address) => address.family === 4 && !address.secondary && address.scope <= scope)
  const here = usable.filter((address) => address.index === route.index)
  const gateway = route.gateway === undefined ? undefined : parseAddress(route.gateway)
  const near = gateway && here.find((address) => contains(network(ipOf(address.address), address.prefix), gateway))
  const others = usable.filter((address) => address.scope !== scopeLink)
  const chosen = near ?? here[0] ?? others[0]
  return chosen === undefined ? zeroWords : ipOf(chosen.address).words
}

/**
 * A destination of IPv4 that is local by a table of the user's: without a preferred source it would be its own source, and the kernel takes only
 * sources that are in table local.
 */
const isStranger = ({ type, table, source }: Row['route'], family: 4 | 6): boolean =>
  family === 4 && type === routeType.local && source === undefined && table !== undefined && !kernelTables.has(table)

/** What a namespace has to choose sources from. */
interface Sources {
  readonly addresses: readonly Address[]
  readonly candidates: Candidates
}

/** `prefix` is a part of the row's; `known`: the source is not to be chosen any more. */
function recordOf({ cidr, route }: Row, prefix: Cidr, { addresses, candidates }: Sources, known?: Ip): RouteRecord {
  const error = errors.get(route.type)
  if (error !== undefined) return unreachable(error)
  if (isStranger(route, cidr.family)) return unreachable(ENETUNREACH)
  const isLocal = route.type === routeType.local || route.type === routeType.anycast
  const kind = isLocal ? RouteKind.LOCAL : RouteKind.UNICAST
  const index = route.index ?? 0
  const record = (source: Words): RouteRecord => ({ kind, error: 0, source, interface: index })
  if (cidr.family === 6 && !isLocal && isAmbiguous(candidates, prefix)) return { kind, error: 0, source: zeroWords, interface: 0 }
  if (known !== undefined) return record(known.words)
  if (route.source !== undefined) return record(ipOf(route.source).words)
  if (cidr.family === 6) {
    const source = chooseSource(candidates, prefix, index)
    return source === undefined ? unreachable(EADDRNOTAVAIL) : record(source.words)
  }
  // A route to one own address without a preferred source: the source is that address. For a network it depends on the destination.
  if (isLocal) return record(route.type === routeType.local && isHost(cidr) ? cidr.words : zeroWords)
  return record(selectSource(route, addresses))
}

const isMulticast6 = ({ words, length }: Cidr): boolean => length >= 8 && words[0] >>> 24 === 0xff

/**
 * The kernel looks again once the source is known, and then rules and routes for sources count. IPv4 does so with the source that the first answer
 * gave; IPv6 only after an error, with the source that it takes when no interface is known.
 */
function recordAt(asked: readonly Asked[], prefix: Cidr, sources: Sources): RouteRecord {
  const look = (source?: Ip): RouteRecord => {
    const row = answer(asked, prefix, source)
    return row === undefined ? unreachable(ENETUNREACH) : recordOf(row, prefix, sources, source)
  }
  const first = look()
  const isOnce = asked.every(({ from, table }) => from === undefined && table.sourced.size === 0)
  const failed = first.kind === RouteKind.UNREACHABLE
  if (prefix.family === 4) return isOnce || failed || first.source[0] === 0 ? first : look({ family: 4, words: first.source as Words })
  if (!failed || first.error === EADDRNOTAVAIL || isMulticast6(prefix)) return first
  const source = chooseSource(sources.candidates, prefix, 0)
  if (source === undefined) return unreachable(EADDRNOTAVAIL)
  return isOnce ? first : look(source)
}

interface Answer {
  readonly prefix: Cidr
  readonly value: Buffer
}

const noRoute = routeCodec.encode(unreachable(ENETUNREACH))

/** What the trie says for the prefix without an entry of its own. */
function inherited(answers: ReadonlyMap<string, Answer>, lengths: ReadonlySet<number>, prefix: Cidr): Buffer {
  const length = [...lengths].filter((bits) => bits < prefix.length && answers.has(idOf(network(prefix, bits)))).at(-1)
  return length === undefined ? noRoute : (answers.get(idOf(network(prefix, length)))?.value ?? noRoute)
}

/** The written prefixes, and each border at which the answer changes inside of one. */
function answersOf(asked: readonly Asked[], written: ReadonlyMap<string, Cidr>, borders: readonly Cidr[], sources: Sources): Answer[] {
  const answers = new Map<string, Answer>()
  const lengths = new Set<number>() // grows upwards
  const all = new Map([...borders.map((cidr) => [idOf(cidr), cidr] as const), ...written])
  for (const [id, prefix] of [...all].sort(([, a], [, b]) => a.length - b.length)) {
    const value = routeCodec.encode(recordAt(asked, prefix, sources))
    if (!written.has(id) && inherited(answers, lengths, prefix).equals(value)) continue
    answers.set(id, { prefix, value })
    lengths.add(prefix.length)
  }
  return [...answers.values()]
}

function entriesOf(netns: bigint, routes: readonly Route[], addresses: readonly Address[], rules: readonly Rule[]): Entry[] {
  const sources: Sources = { addresses, candidates: candidatesOf(addresses) }
  return ([4, 6] as const).flatMap((family) => {
    const asked = askedBy(family, routes, rules)
    const borders = family === 4 ? [] : bordersOf(sources.candidates)
    return answersOf(asked, writtenPrefixes(asked, family), borders, sources).map(({ prefix, value }) => {
      const key = routeKeyCodec.encode({ prefixlen: 96 + prefix.length, family, netns, addr: prefix.words })
      return { key, value }
    })
  })
}

interface Compiled {
  readonly netns: bigint
  readonly addresses: readonly Address[]
  readonly rules: readonly Rule[]
  readonly entries: readonly Entry[]
}

/** Whatever changes on a node, most namespaces were not read again: their arrays are those of before. */
const compiled = new WeakMap<readonly Route[], Compiled>()
const defaultRules: readonly Rule[] = []

/**
 * Throws TypeError for text that is no address: the kernel's own answers are always valid. Without `rules` the namespace has the kernel's
 * default ones.
 */
export function compileRoutes(netns: bigint, routes: readonly Route[], addresses: readonly Address[], rules = defaultRules): readonly Entry[] {
  const known = compiled.get(routes)
  if (known?.netns === netns && known.addresses === addresses && known.rules === rules) return known.entries
  const entries = entriesOf(netns, routes, addresses, rules)
  compiled.set(routes, { netns, addresses, rules, entries })
  return entries
}
