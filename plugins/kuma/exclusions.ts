/** Rules of exclude-outbound-ports-for-uids, `[protocols:][ports:]uids`: read as Kuma and then iptables read them, and joined. */
import type { IdSpec, PortSpec } from '../../core/plugin.ts'
import { unexpected } from '../shared/text.ts'
import { decimal, handedOn } from './values.ts'

export type Protocols = 'tcp' | 'udp' | 'both'

/** These users reach these ports past the sidecar. */
export interface Exclusion {
  readonly protocols: Protocols
  readonly ports: readonly PortSpec[]
  readonly uids: readonly IdSpec[]
}

/** A rule of iptables holds no more; a range counts as two. */
const mostPorts = 15

/** "80" or "80-90", both within 16 bits; undefined: neither. `equal`: a range may have one element. */
function rangeOf(text: string, equal: boolean): number | string | undefined {
  const parts = text.split('-')
  if (parts.length > 2 || parts.some((part) => Number.isNaN(decimal(part, 65535)))) return undefined
  const [low, high] = parts.map(handedOn)
  if (parts.length === 1 || low === undefined) return low
  if (high === undefined || low > high || (low === high && !equal)) return undefined
  return low === high ? low : `${low}-${high}`
}

function protocolsOf(text: string, rule: string): Protocols {
  if (text === '' || text === '*') return 'both'
  const all = new Set(text.split(',').map((each) => each.trim().toLowerCase()))
  for (const each of all) if (each !== 'tcp' && each !== 'udp') throw unexpected("the protocols tcp and udp, '*' or none", text, rule)
  return all.size === 2 ? 'both' : all.has('tcp') ? 'tcp' : 'udp'
}

function portsOf(text: string, rule: string): PortSpec[] {
  if (text === '' || text === '*') return ['1-65535']
  const ports = text.split(',').map((element) => rangeOf(element, false))
  const words = text.split(/[,-]/).length
  if (words > mostPorts) throw unexpected(`at most ${mostPorts} ports in a rule, where a range counts as two`, text, rule)
  return ports.map((each) => {
    if (each !== undefined) return each
    throw unexpected("ports from 0 to 65535 or ranges like 3000-5000, separated by commas, '*' or none", text, rule)
  })
}

function uidsOf(text: string, rule: string): IdSpec[] {
  const uids = rangeOf(text, true)
  if (uids === undefined) throw unexpected('the id of one user from 0 to 65535, or one range like 1000-1999', text, rule)
  return [uids]
}

export function exclusion(rule: string): Exclusion {
  const parts = rule.split(':')
  if (parts.length > 3) throw unexpected('[protocols:][ports:]uids, like tcp:22,3000-5000:1000-1999', rule, rule)
  const [uids = '', ports = '', protocols = ''] = parts.reverse()
  return { uids: uidsOf(uids, rule), ports: portsOf(ports, rule), protocols: protocolsOf(protocols, rule) }
}

const union = <T>(lists: readonly (readonly T[])[]): T[] => [...new Set(lists.flat())]

const sameList = (list: readonly (number | string)[]): string => [...list].map(String).sort().join(',')

/** Exclusions with the same key become one. */
function joinBy(
  list: readonly Exclusion[],
  key: (each: Exclusion) => string,
  join: (first: Exclusion, group: readonly Exclusion[]) => Exclusion,
): Exclusion[] {
  const groups = [...Map.groupBy(list, key).values()]
  return groups.flatMap((group) => group.slice(0, 1).map((first) => (group.length === 1 ? first : join(first, group))))
}

/** As few as it takes: all of them let pass what they match, so those that differ in one respect are one. */
export function joined(list: readonly Exclusion[]): Exclusion[] {
  const byPorts = joinBy(
    list,
    ({ protocols, ports }) => `${protocols} ${sameList(ports)}`,
    (first, group) => ({ ...first, uids: union(group.map(({ uids }) => uids)) }),
  )
  const byUids = joinBy(
    byPorts,
    ({ protocols, uids }) => `${protocols} ${sameList(uids)}`,
    (first, group) => ({ ...first, ports: union(group.map(({ ports }) => ports)) }),
  )
  return joinBy(
    byUids,
    ({ ports, uids }) => `${sameList(ports)} ${sameList(uids)}`,
    (first) => ({ ...first, protocols: 'both' }),
  )
}
