/**
 * The tables of a namespace's routes, and what the look-ups of policy routing find in them for everything under a prefix.
 */
import { type Cidr, contains, type Address as Ip, network, parseAddress, parseCidr, zeroWords } from '../address.ts'
import type { Route, Rule } from '../native/api.ts'
import { cidrOf, everything, isFor, type Lookup, lookupsOf, routeType } from './lookups.ts'

export function ipOf(text: string): Ip {
  const address = parseAddress(text)
  if (address === undefined) throw new TypeError(`not an address: ${text}`)
  return address
}

export interface Row {
  readonly cidr: Cidr
  readonly route: Pick<Route, 'type'> & Partial<Route>
}

/** One row for each prefix, those that are only for some sources, and the lengths that occur, longest first. */
interface Table {
  readonly rows: ReadonlyMap<string, Row>
  readonly sourced: ReadonlyMap<string, readonly (Row & { readonly from: Cidr })[]>
  readonly lengths: readonly number[]
}

export const idOf = ({ words, length }: Cidr): string => `${words.join('.')}/${length}`

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
export interface Asked extends Lookup {
  readonly table: Table
}

const isError = ({ route }: Row): boolean =>
  route.type === routeType.blackhole || route.type === routeType.unreachable || route.type === routeType.prohibit

/** What all look-ups say about everything under the prefix; a `throw` route sends the question to the next one. undefined: nobody knows. */
export function answer(asked: readonly Asked[], prefix: Cidr, source?: Ip): Row | undefined {
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

/** Linux's order within one prefix. */
const isBefore = (a: Route, b: Route): number => a.metric - b.metric || (b.preference ?? 0) - (a.preference ?? 0)

/** What all look-ups of a namespace ask, in order. */
export function askedBy(family: 4 | 6, all: readonly Route[], rules: readonly Rule[]): readonly Asked[] {
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
export function writtenPrefixes(asked: readonly Asked[], family: 4 | 6): ReadonlyMap<string, Cidr> {
  const rows = asked.flatMap(({ table }) => [...table.rows.values(), ...[...table.sourced.values()].flat()])
  const all = [...rows.map(({ cidr }) => cidr), ...asked.flatMap(({ to }) => to ?? [])]
  return new Map(all.filter((cidr) => cidr.family === family).map((cidr) => [idOf(cidr), cidr]))
}
