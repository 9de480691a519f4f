/** What a set of an interception has in it, as intervals of numbers: enough to tell whether one set contains another, or has nothing in common with it. */
import { type Cidr, parseAddress } from '../address.ts'
import type { SetSpec } from '../plugin.ts'
import { cidrPrefix, cidrsOf, idRange, portRange, prefixValue, type Range } from '../prefix.ts'

export type Use = 'port' | 'to' | 'from'

/** Both ends belong to it. */
export type Interval = readonly [low: bigint, high: bigint]

/** By kind: 'port', 'ipv4', 'ipv6', 'uid', 'gid'; sorted, not overlapping. What cannot be compared as numbers is one text each in `others`. */
export interface Members {
  readonly intervals: ReadonlyMap<string, readonly Interval[]>
  readonly others: ReadonlySet<string>
}

const bitsOf = (family: 4 | 6) => (family === 4 ? 32 : 128)
const kindOf = (family: 4 | 6) => (family === 4 ? 'ipv4' : 'ipv6')

const ofRange = ({ low, high }: Range): Interval => [BigInt(low), BigInt(high)]

function ofCidr(cidr: Cidr): Interval {
  const prefix = cidrPrefix(cidr)
  const low = prefixValue(prefix, bitsOf(cidr.family))
  return [low, low + (1n << BigInt(bitsOf(cidr.family) - prefix.length)) - 1n]
}

function merged(intervals: readonly Interval[]): Interval[] {
  const result: Interval[] = []
  for (const [low, high] of [...intervals].sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
    const last = result.at(-1)
    if (last === undefined || low > last[1] + 1n) result.push([low, high])
    else if (high > last[1]) result[result.length - 1] = [last[0], high]
  }
  return result
}

export function membersOf(use: Use, spec: SetSpec): Members {
  const cidrs = use === 'port' ? [] : (spec.cidrs ?? []).flatMap(cidrsOf)
  const named = (family: 4 | 6) => [kindOf(family), cidrs.filter((cidr) => cidr.family === family).map(ofCidr)] as const
  const own: (readonly [string, readonly Interval[]])[] =
    use === 'port' ? [['port', (spec.ports ?? []).map((port) => ofRange(portRange(port)))]] : [named(4), named(6)]
  if (use === 'from')
    own.push(['uid', (spec.uid ?? []).map((id) => ofRange(idRange(id)))], ['gid', (spec.gid ?? []).map((id) => ofRange(idRange(id)))])
  const others = [
    ...(use === 'from' ? (spec.mark ?? []).map(({ value, mask }) => `mark ${value}/${mask}`) : []),
    ...(use === 'from' ? (spec.cgroup ?? []).map((id) => `cgroup ${id}`) : []),
    ...(use === 'port' ? [] : (spec.interfaces ?? []).map((name) => `interface ${name}`)),
  ]
  const intervals = own.map(([kind, list]) => [kind, merged(list)] as const).filter(([, list]) => list.length > 0)
  return { intervals: new Map(intervals), others: new Set(others) }
}

const covers = (list: readonly Interval[] = [], [low, high]: Interval) => list.some(([from, to]) => from <= low && high <= to)

export const isEmpty = ({ intervals, others }: Members) => intervals.size === 0 && others.size === 0

export const has = ({ intervals }: Members, kind: string) => intervals.has(kind)

export const containsValue = ({ intervals }: Members, kind: string, value: bigint) => covers(intervals.get(kind), [value, value])

export function containsAddress(members: Members, text: string): boolean {
  const address = parseAddress(text)
  if (address === undefined) return false
  const [low] = ofCidr({ ...address, length: bitsOf(address.family) })
  return containsValue(members, kindOf(address.family), low)
}

const widths: Readonly<Record<string, number>> = { port: 16, ipv4: 32, ipv6: 128 }

/** Every value of the kind is in it. */
export const isFull = ({ intervals }: Members, kind: string) => covers(intervals.get(kind), [0n, (1n << BigInt(widths[kind] ?? 32)) - 1n])

export const contains = (outer: Members, inner: Members) =>
  [...inner.intervals].every(([kind, list]) => list.every((each) => covers(outer.intervals.get(kind), each))) &&
  [...inner.others].every((each) => outer.others.has(each))

const overlap = (a: readonly Interval[], b: readonly Interval[] = []) => a.some(([low, high]) => b.some(([from, to]) => from <= high && low <= to))

/** No connection can be in both. Of different kinds, such as uid and gid, any connection may be. */
export function disjoint(use: Use, a: Members, b: Members): boolean {
  if (a.others.size + b.others.size > 0) return false
  const kinds = new Set([...a.intervals.keys(), ...b.intervals.keys()])
  if (use === 'from' && kinds.size > 1) return false
  return [...a.intervals].every(([kind, list]) => !overlap(list, b.intervals.get(kind)))
}
