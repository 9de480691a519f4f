/**
 * One namespace's routes as entries of a longest-prefix trie that answers as the kernel's routing would. The kernel asks its tables one after
 * the other and takes the longest match of the first that has one; the trie asks once. So the entry of a prefix is the answer of all tables for
 * that prefix, and every prefix of every table and of every rule has an entry.
 */
import { type Cidr, contains, type Address as Ip, network, parseAddress, parseCidr, type Words, zeroWords } from '../address.ts'
import { RouteKind, type RouteRecord, routeCodec, routeKeyCodec } from '../contract.ts'
import type { Address, Entry, Route, Rule } from '../native/api.ts'
import { everything, isFor, isHost, type Lookup, lookupsOf, routeType } from './lookups.ts'

/** Linux's numbers, the same on amd64 and arm64. */
const EACCES = 13
const EINVAL = 22
const ENETUNREACH = 101
const EHOSTUNREACH = 113

/** RT_TABLE_*: default, main, local */
const kernelTables: ReadonlySet<number> = new Set([253, 254, 255])

const scopeUniverse = 0
const scopeLink = 253

/** A pod with more addresses of IPv6 has no say in how long a look takes. */
const MOST_SOURCES = 8

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

function recordOf({ cidr, route }: Row, addresses: readonly Address[]): RouteRecord {
  const error = errors.get(route.type)
  if (error !== undefined) return unreachable(error)
  const index = route.index ?? 0
  const preferred = route.source === undefined ? undefined : ipOf(route.source).words
  // A route to one own address without a preferred source: the source is that address. For a network it depends on the destination.
  const own = route.type === routeType.local && isHost(cidr) ? cidr.words : zeroWords
  if (isStranger(route, cidr.family)) return unreachable(ENETUNREACH)
  if (route.type === routeType.local || route.type === routeType.anycast)
    return { kind: RouteKind.LOCAL, error: 0, source: preferred ?? own, interface: index }
  // IPv6 chooses per destination (RFC 6724); what is not known here is left to the kernel.
  const source = preferred ?? (cidr.family === 4 ? selectSource(route, addresses) : zeroWords)
  return { kind: RouteKind.UNICAST, error: 0, source, interface: index }
}

interface Row {
  readonly cidr: Cidr
  readonly route: Pick<Route, 'type'> & Partial<Route>
}

/** One row for each prefix, and the lengths that occur, longest first. */
interface Table {
  readonly rows: ReadonlyMap<string, Row>
  readonly lengths: readonly number[]
}

const idOf = ({ words, length }: Cidr): string => `${words.join('.')}/${length}`

/** Of several rows of one prefix the first counts. */
function tableOf(all: readonly Row[]): Table {
  const rows = new Map<string, Row>()
  for (const row of all) if (!rows.has(idOf(row.cidr))) rows.set(idOf(row.cidr), row)
  return { rows, lengths: [...new Set(all.map(({ cidr }) => cidr.length))].sort((a, b) => b - a) }
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
    const { rows, lengths } = lookup.table
    const length = lengths.find((bits) => bits <= prefix.length && rows.has(idAt(bits)))
    const row = length === undefined ? undefined : rows.get(idAt(length))
    if (row === undefined || row.route.type === routeType.throw) continue
    if (row.cidr.length > lookup.suppress || isError(row)) return row
  }
  return undefined
}

/**
 * The kernel looks again once the source is known, and then rules for sources count. IPv4 does so with the source that the first answer gave.
 * IPv6 does so only after an error; which of several addresses it takes is for RFC 6724, here it is the first one with an answer.
 */
function recordAt(asked: readonly Asked[], prefix: Cidr, addresses: readonly Address[]): RouteRecord {
  const look = (source?: Ip): RouteRecord => {
    const row = answer(asked, prefix, source)
    return row === undefined ? unreachable(ENETUNREACH) : recordOf(row, addresses)
  }
  const first = look()
  if (asked.every(({ from }) => from === undefined)) return first
  if (prefix.family === 6) {
    if (first.kind !== RouteKind.UNREACHABLE) return first
    const sources = addresses.filter(({ family, scope }) => family === 6 && scope === scopeUniverse).slice(0, MOST_SOURCES)
    return sources.map(({ address }) => look(ipOf(address))).find(({ kind }) => kind !== RouteKind.UNREACHABLE) ?? first
  }
  if (first.kind === RouteKind.UNREACHABLE || first.source[0] === 0) return first
  const second = look({ family: 4, words: first.source as Words })
  return second.kind === RouteKind.UNREACHABLE ? second : { ...second, source: first.source }
}

/**
 * Throws TypeError for text that is no address: the kernel's own answers are always valid. Without `rules` the namespace has the kernel's
 * default ones.
 */
export function compileRoutes(netns: bigint, routes: readonly Route[], addresses: readonly Address[], rules: readonly Rule[] = []): Entry[] {
  return ([4, 6] as const).flatMap((family) => {
    const own = routes
      .filter((route) => route.family === family)
      .map((route) => ({ cidr: network(ipOf(route.destination), route.prefix), route }))
      .sort((a, b) => a.route.metric - b.route.metric)
    const group = (numbers: readonly number[]) => tableOf(numbers.flatMap((number) => own.filter(({ route }) => route.table === number)))
    const known = new Map<string, Table>() // many rules may ask one table
    const tableFor = ({ ask }: Lookup): Table => {
      if (!('tables' in ask)) return tableOf([{ cidr: everything(family), route: { type: ask.type } }])
      const name = ask.tables.join()
      const table = known.get(name) ?? group(ask.tables)
      known.set(name, table)
      return table
    }
    const lookups = lookupsOf(family, rules).map((lookup) => ({ ...lookup, table: tableFor(lookup) }))
    const asked = [{ ask: { tables: [] }, inverted: false, suppress: -1, table: never[family] }, ...lookups]
    const prefixes = new Map(asked.flatMap(({ table }) => [...table.rows].map(([id, { cidr }]) => [id, cidr] as const)))
    for (const { to } of lookups) if (to !== undefined) prefixes.set(idOf(to), to)
    return [...prefixes.values()].map((prefix) => {
      const key = routeKeyCodec.encode({ prefixlen: 96 + prefix.length, family, netns, addr: prefix.words })
      return { key, value: routeCodec.encode(recordAt(asked, prefix, addresses)) }
    })
  })
}
