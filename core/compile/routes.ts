/**
 * One namespace's routes as entries of a longest-prefix trie that answers as the kernel's routing would. The kernel asks its tables one after
 * the other and takes the longest match of the first that has one; the trie asks once. So the entry of a prefix is the answer of all tables for
 * that prefix, and every prefix of every table and of every rule has an entry.
 */
import { type Cidr, contains, type Address as Ip, network, parseAddress, parseCidr, type Words, zeroWords } from '../address.ts'
import { RouteKind, type RouteRecord, routeCodec, routeKeyCodec } from '../contract.ts'
import type { Address, Entry, Route, Rule } from '../native/api.ts'
import { cidrOf, everything, isFor, isHost, type Lookup, lookupsOf, routeType } from './lookups.ts'
import { bordersOf, type Candidates, candidatesOf, chooseSource, isAmbiguous } from './source6.ts'

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

function ipOf(text: string): Ip {
  const address = parseAddress(text)
  if (address === undefined) throw new TypeError(`not an address: ${text}`)
  return address
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

/** `prefix` is a part of the row's. */
function recordOf({ cidr, route }: Row, prefix: Cidr, { addresses, candidates }: Sources): RouteRecord {
  const error = errors.get(route.type)
  if (error !== undefined) return unreachable(error)
  if (isStranger(route, cidr.family)) return unreachable(ENETUNREACH)
  const isLocal = route.type === routeType.local || route.type === routeType.anycast
  const kind = isLocal ? RouteKind.LOCAL : RouteKind.UNICAST
  const index = route.index ?? 0
  const record = (source: Words): RouteRecord => ({ kind, error: 0, source, interface: index })
  if (route.source !== undefined) return record(ipOf(route.source).words)
  if (cidr.family === 6) {
    if (!isLocal && isAmbiguous(candidates, prefix)) return { kind, error: 0, source: zeroWords, interface: 0 }
    const source = chooseSource(candidates, prefix, index)
    return source === undefined ? unreachable(EADDRNOTAVAIL) : record(source.words)
  }
  // A route to one own address without a preferred source: the source is that address. For a network it depends on the destination.
  if (isLocal) return record(route.type === routeType.local && isHost(cidr) ? cidr.words : zeroWords)
  return record(selectSource(route, addresses))
}

interface Row {
  readonly cidr: Cidr
  readonly route: Pick<Route, 'type'> & Partial<Route>
}

/** One row for each prefix, those that are only for some sources, and the lengths that occur, longest first. */
interface Table {
  readonly rows: ReadonlyMap<string, Row>
  readonly sourced: ReadonlyMap<string, readonly (Row & { readonly from: Cidr })[]>
  readonly lengths: readonly number[]
}

const idOf = ({ words, length }: Cidr): string => `${words.join('.')}/${length}`

/** Of several rows of one prefix the first counts; of those for sources the one for the smallest network. */
function tableOf(all: readonly Row[]): Table {
  const rows = new Map<string, Row>()
  const sourced = new Map<string, (Row & { from: Cidr })[]>()
  for (const row of all) {
    const id = idOf(row.cidr)
    if (row.route.from !== undefined) sourced.set(id, [...(sourced.get(id) ?? []), { ...row, from: cidrOf(row.route.from) }])
    else if (!rows.has(id)) rows.set(id, row)
  }
  for (const own of sourced.values()) own.sort((a, b) => b.from.length - a.from.length)
  return { rows, sourced, lengths: [...new Set(all.map(({ cidr }) => cidr.length))].sort((a, b) => b - a) }
}

const nowhere: Ip = { family: 6, words: zeroWords }

/**
 * Rows that are only for some sources hide the one of the same prefix that is for all, but for a default route: so does Linux. While the source is
 * still open, it compares `::`.
 */
function rowAt({ rows, sourced }: Table, id: string, length: number, source: Ip = nowhere): Row | undefined {
  const own = sourced.get(id)
  if (own === undefined) return rows.get(id)
  return own.find(({ from }) => contains(from, source)) ?? (length === 0 ? rows.get(id) : undefined)
}

/** Destinations that TCP refuses whatever the tables say. */
const neverTable = (...networks: string[]): Table =>
  tableOf(networks.map((text) => ({ cidr: parseCidr(text), route: { type: routeType.multicast } })))
const never = { 4: neverTable('224.0.0.0/4', '255.255.255.255'), 6: neverTable('ff00::/8') }

/** A look-up of the kernel with the table that it asks. */
interface Asked extends Lookup {
  readonly table: Table
}

const isError = ({ route }: Row): boolean =>
  route.type === routeType.blackhole || route.type === routeType.unreachable || route.type === routeType.prohibit

/** What all look-ups say about everything under the prefix; a `throw` route sends the question to the next one. undefined: nobody knows. */
function answer(asked: readonly Asked[], prefix: Cidr, source?: Ip): Row | undefined {
  const ids: string[] = [] // by length, the same for all tables
  const idAt = (bits: number): string => (ids[bits] ??= idOf(network(prefix, bits)))
  for (const lookup of asked) {
    if (!isFor(lookup, prefix, source)) continue
    let row: Row | undefined
    for (const bits of lookup.table.lengths) {
      if (bits <= prefix.length) row = rowAt(lookup.table, idAt(bits), bits, source)
      if (row !== undefined) break
    }
    if (row === undefined || row.route.type === routeType.throw) continue
    if (row.cidr.length > lookup.suppress || isError(row)) return row
  }
  return undefined
}

const isMulticast6 = ({ words, length }: Cidr): boolean => length >= 8 && words[0] >>> 24 === 0xff

/**
 * The kernel looks again once the source is known, and then rules and routes for sources count. IPv4 does so with the source that the first answer
 * gave; IPv6 only after an error, with the source that it takes when no interface is known.
 */
function recordAt(asked: readonly Asked[], prefix: Cidr, sources: Sources): RouteRecord {
  const look = (source?: Ip): RouteRecord => {
    const row = answer(asked, prefix, source)
    return row === undefined ? unreachable(ENETUNREACH) : recordOf(row, prefix, sources)
  }
  const again = (source: Ip): RouteRecord => {
    const second = look(source)
    return second.kind === RouteKind.UNREACHABLE ? second : { ...second, source: source.words }
  }
  const first = look()
  const isOnce = asked.every(({ from, table }) => from === undefined && table.sourced.size === 0)
  if (prefix.family === 4) {
    if (isOnce || first.kind === RouteKind.UNREACHABLE || first.source[0] === 0) return first
    return again({ family: 4, words: first.source as Words })
  }
  if (first.kind !== RouteKind.UNREACHABLE || isMulticast6(prefix)) return first
  const source = chooseSource(sources.candidates, prefix, 0)
  if (source === undefined) return unreachable(EADDRNOTAVAIL)
  return isOnce ? first : again(source)
}

/** Linux's order within one prefix. */
const isBefore = (a: Route, b: Route): number => a.metric - b.metric || (b.preference ?? 0) - (a.preference ?? 0)

/** What all look-ups of a namespace ask, in order. */
function askedBy(family: 4 | 6, all: readonly Route[], rules: readonly Rule[]): readonly Asked[] {
  const own = all
    .filter((route) => route.family === family)
    .sort(isBefore)
    .map((route) => ({ cidr: network(ipOf(route.destination), route.prefix), route }))
    .filter(({ cidr }) => cidr.family === family) // routes of IPv6 for mapped addresses: nothing of IPv4 asks them
  const known = new Map<string, Table>() // many rules may ask one table
  const tableFor = ({ ask }: Lookup): Table => {
    if (!('tables' in ask)) return tableOf([{ cidr: everything(family), route: { type: ask.type } }])
    const name = ask.tables.join()
    const table = known.get(name) ?? tableOf(ask.tables.flatMap((number) => own.filter(({ route }) => route.table === number)))
    known.set(name, table)
    return table
  }
  const lookups = lookupsOf(family, rules).map((lookup) => ({ ...lookup, table: tableFor(lookup) }))
  return [{ ask: { tables: [] }, inverted: false, suppress: -1, table: never[family] }, ...lookups]
}

/** The prefixes for which somebody wrote a route or a rule. */
function writtenPrefixes(asked: readonly Asked[], family: 4 | 6): ReadonlyMap<string, Cidr> {
  const rows = asked.flatMap(({ table }) => [...table.rows.values(), ...[...table.sourced.values()].flat()])
  const all = [...rows.map(({ cidr }) => cidr), ...asked.flatMap(({ to }) => to ?? [])]
  return new Map(all.filter((cidr) => cidr.family === family).map((cidr) => [idOf(cidr), cidr]))
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

/**
 * Throws TypeError for text that is no address: the kernel's own answers are always valid. Without `rules` the namespace has the kernel's
 * default ones.
 */
export function compileRoutes(netns: bigint, routes: readonly Route[], addresses: readonly Address[], rules: readonly Rule[] = []): Entry[] {
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
