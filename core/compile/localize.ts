/**
 * Names and ids of an interception in the terms of the kernel programs: interfaces as indexes of the pod's network namespace, users and groups
 * as ids of the initial user namespace. Two pods with equal interceptions may differ in both.
 */
import type { IdMapping, Interface } from '../native/api.ts'
import type { IdSpec, Interception, SetSpec } from '../plugin.ts'
import { idRange, type Range } from '../prefix.ts'

export interface IdMaps {
  readonly uid: readonly IdMapping[]
  readonly gid: readonly IdMapping[]
}

/** What of a pod's namespaces decides what names and ids mean. */
export interface Locality {
  readonly interfaces: readonly Interface[]
  /** Of the user namespace that owns the network namespace; absent: the initial one. */
  readonly ids?: IdMaps
}

/** Where nothing is known yet: no interface exists, ids are what they say. */
export const nowhere: Locality = { interfaces: [] }

export type LocalSet = Omit<SetSpec, 'interfaces'> & {
  readonly interfaces?: readonly number[]
  /** What was written, where that is not what stands here: two sets that are equal in one pod may differ in the next, and mean two things. */
  readonly written?: Pick<SetSpec, 'interfaces' | 'uid' | 'gid'>
}
export type LocalInterception = Omit<Interception, 'sets'> & { readonly sets: Readonly<Record<string, LocalSet>> }

/** The ids of the initial user namespace; those without a mapping are nobody's. */
export function outsideIds(range: Range, map: readonly IdMapping[]): Range[] {
  return map.flatMap(({ inside, outside, count }) => {
    const [low, high] = [Math.max(range.low, inside), Math.min(range.high, inside + count - 1)]
    return low > high ? [] : [{ low: low - inside + outside, high: high - inside + outside }]
  })
}

/** The id as the pod has it; undefined: no id of the pod is meant. */
export function insideId(id: number, map: readonly IdMapping[]): number | undefined {
  const line = map.find(({ outside, count }) => id >= outside && id < outside + count)
  return line && id - line.outside + line.inside
}

/** The id of the node that the pod's id stands for; undefined: none does. */
export const outsideId = (id: number, map: readonly IdMapping[] | undefined): number | undefined =>
  map === undefined ? id : outsideIds({ low: id, high: id }, map)[0]?.low

/** As the mesh's rules have it, for people; an id of the node that the pod has not stays what it is. */
export const shownId = (id: number, map: readonly IdMapping[] | undefined): number => (map && insideId(id, map)) ?? id

const rangeText = ({ low, high }: Range): string => (low === high ? `${low}` : `${low}-${high}`)

const translated = (specs: readonly IdSpec[], map: readonly IdMapping[]): IdSpec[] =>
  specs.flatMap((spec) => outsideIds(idRange(spec), map).map(rangeText))

/** As iptables' -i and -o: a name that ends in '+' means every name that begins so. */
export const isNamed = (pattern: string, name: string): boolean => (pattern.endsWith('+') ? name.startsWith(pattern.slice(0, -1)) : name === pattern)

const indexesOf = (patterns: readonly string[], { interfaces }: Locality): number[] =>
  interfaces.filter(({ name }) => patterns.some((pattern) => isNamed(pattern, name))).map(({ index }) => index)

function localSet({ interfaces, uid, gid, ...rest }: SetSpec, locality: Locality): LocalSet {
  const { ids } = locality
  const own = (specs: readonly IdSpec[], map: readonly IdMapping[] | undefined) => (map === undefined ? specs : translated(specs, map))
  const changed = interfaces !== undefined || (ids !== undefined && (uid !== undefined || gid !== undefined))
  return {
    ...rest,
    ...(changed && { written: { ...(interfaces && { interfaces }), ...(uid && { uid }), ...(gid && { gid }) } }),
    ...(uid && { uid: own(uid, ids?.uid) }),
    ...(gid && { gid: own(gid, ids?.gid) }),
    ...(interfaces && { interfaces: indexesOf(interfaces, locality) }),
  }
}

export function localize({ sets = {}, ...rest }: Interception, locality: Locality): LocalInterception {
  return { ...rest, sets: Object.fromEntries(Object.entries(sets).map(([name, set]) => [name, localSet(set, locality)])) }
}

const size = ({ low, high }: Range): number => high - low + 1

/** A warning for each id or range that the pod's user namespace does not map, or not whole. */
export function unmappedIds({ sets = {} }: Interception, { ids }: Locality): string[] {
  if (ids === undefined) return []
  return Object.entries(sets).flatMap(([name, set]) =>
    (['uid', 'gid'] as const).flatMap((kind) =>
      (set[kind] ?? []).flatMap((spec) => {
        const mapped = outsideIds(idRange(spec), ids[kind]).reduce((sum, range) => sum + size(range), 0)
        if (mapped === size(idRange(spec))) return []
        const what = mapped === 0 ? 'is not mapped' : 'is mapped in part only'
        return [`${kind} ${spec} (set '${name}') ${what} in the pod's user namespace: what is not mapped matches nothing`]
      }),
    ),
  )
}
