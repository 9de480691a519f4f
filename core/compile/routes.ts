/**
 * One namespace's routes as entries of a longest-prefix trie that answers as the kernel's routing would. The kernel asks its tables one after
 * the other and takes the longest match of the first that has one; the trie asks once. So the entry of a prefix is the answer of all tables for
 * that prefix, and every prefix of every table has an entry.
 */
import { addressBits, type Cidr, contains, type Address as Ip, network, parseAddress, parseCidr, type Words, zeroWords } from '../address.ts'
import { RouteKind, type RouteRecord, routeCodec, routeKeyCodec } from '../contract.ts'
import type { Address, Entry, Route } from '../native/api.ts'

/** Linux's numbers, the same on amd64 and arm64. */
const EACCES = 13
const EINVAL = 22
const ENETUNREACH = 101
const EHOSTUNREACH = 113

/** RTN_*: see linux/rtnetlink.h */
const routeType = { unicast: 1, local: 2, broadcast: 3, anycast: 4, multicast: 5, blackhole: 6, unreachable: 7, prohibit: 8, throw: 9 } as const

/**
 * The tables that are asked, in order; tables of one group are one trie. IPv4 keeps local (255) and main (254) in one trie until a namespace gets
 * rules of its own (`ip rule add`), which are not mirrored: a longer prefix in main wins over a shorter one in local. Then comes default (253).
 */
const tablesOf = { 4: [[255, 254], [253]], 6: [[255], [254]] } as const

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

function recordOf({ cidr, route }: Row, addresses: readonly Address[]): RouteRecord {
  const error = errors.get(route.type)
  if (error !== undefined) return unreachable(error)
  const index = route.index ?? 0
  const preferred = route.source === undefined ? undefined : ipOf(route.source).words
  // A route to one own address without a preferred source: the source is that address. For a network it depends on the destination.
  const single = cidr.length === addressBits(cidr.family)
  const own = route.type === routeType.local && single ? cidr.words : zeroWords
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

/** What all tables say about everything under the prefix; a `throw` route sends the question to the next table. undefined: nobody knows. */
function answer(tables: readonly Table[], prefix: Cidr): Row | undefined {
  for (const { rows, lengths } of tables) {
    const length = lengths.find((bits) => bits <= prefix.length && rows.has(idOf(network(prefix, bits))))
    const row = length === undefined ? undefined : rows.get(idOf(network(prefix, length)))
    if (row !== undefined && row.route.type !== routeType.throw) return row
  }
  return undefined
}

/** Throws TypeError for text that is no address: the kernel's own answers are always valid. */
export function compileRoutes(netns: bigint, routes: readonly Route[], addresses: readonly Address[]): Entry[] {
  return ([4, 6] as const).flatMap((family) => {
    const own = routes
      .filter((route) => route.family === family)
      .map((route) => ({ cidr: network(ipOf(route.destination), route.prefix), route }))
      .sort((a, b) => a.route.metric - b.route.metric)
    const group = (numbers: readonly number[]) => tableOf(numbers.flatMap((number) => own.filter(({ route }) => route.table === number)))
    const tables = [never[family], ...tablesOf[family].map(group)]
    const prefixes = new Map(tables.flatMap(({ rows }) => [...rows].map(([id, { cidr }]) => [id, cidr] as const)))
    return [...prefixes.values()].map((prefix) => {
      const row = answer(tables, prefix)
      const record = row === undefined ? unreachable(ENETUNREACH) : recordOf(row, addresses)
      const key = routeKeyCodec.encode({ prefixlen: 96 + prefix.length, family, netns, addr: prefix.words })
      return { key, value: routeCodec.encode(record) }
    })
  })
}
