/** An Interception evaluated as it is written, without compiling it: first match wins. For facts that the compiled judge does not have yet in tests. */
import { parseAddress } from '../../core/address.ts'
import type { Interception, Match, PortSpec, SetSpec } from '../../core/plugin.ts'
import { idRange, portRange } from '../../core/prefix.ts'
import { inCidr } from './reference.ts'

export interface Facts {
  readonly direction: 'outbound' | 'inbound'
  readonly proto: 'tcp' | 'udp'
  readonly to: string
  readonly port: number
  /** The address that the socket is bound to; inbound: the peer. */
  readonly from?: string
  readonly uid?: number
  readonly gid?: number
  /** Where the route leaves, or where the connection came in. */
  readonly device: string
}

const listed = (names: string | readonly string[] | undefined) => [names ?? []].flat()
const within = (number: number, { low, high }: { low: number; high: number }) => low <= number && number <= high
const familyOf = (text: string) => parseAddress(text)?.family

function inSet({ ports, cidrs, uid, gid, interfaces }: SetSpec, use: 'port' | 'to' | 'from', facts: Facts): boolean {
  const address = use === 'to' ? facts.to : (facts.from ?? '0.0.0.0')
  if (use === 'port') return (ports ?? []).some((spec: PortSpec) => within(facts.port, portRange(spec)))
  const inNetwork = (cidrs ?? []).some((cidr) => cidr === '*' || (familyOf(cidr.split('/')[0] ?? '') === familyOf(address) && inCidr(address, cidr)))
  const byDevice = (use === 'to') === (facts.direction === 'outbound') && (interfaces ?? []).includes(facts.device)
  const owned = (uid ?? []).some((id) => within(facts.uid ?? 0, idRange(id))) || (gid ?? []).some((id) => within(facts.gid ?? 0, idRange(id)))
  return inNetwork || byDevice || (use === 'from' && facts.direction === 'outbound' && owned)
}

const passthrough = ['127.0.0.6', '::6']

/** Each condition of the match, true or false. */
function conditions(match: Match, facts: Facts, sets: Readonly<Record<string, SetSpec>>): boolean[] {
  const from = facts.direction === 'outbound' ? (facts.from ?? '') : ''
  const known: Readonly<Record<string, boolean>> = {
    'to pod': facts.direction === 'inbound' || facts.device === 'lo',
    'to loopback': ['127.0.0.1', '::1'].includes(facts.to),
    'from passthrough': passthrough.includes(from),
    'from loopback': from.startsWith('127.') && !passthrough.includes(from),
  }
  const bySets = (['port', 'to', 'from'] as const).flatMap((use) =>
    listed(match[use]).map((name) => known[`${use} ${name}`] ?? inSet(sets[name] ?? {}, use, facts)),
  )
  return [
    ...(match.proto === undefined ? [] : [match.proto === facts.proto]),
    ...(match.family === undefined ? [] : [(match.family === 'ipv6') === (familyOf(facts.to) === 6)]),
    ...bySets,
  ]
}

/** 'pass', 'drop', or where the connection goes: '127.0.0.1:15001' */
export function evaluate({ sets = {}, targets = {}, outbound, inbound }: Interception, facts: Facts): string {
  const rules = facts.direction === 'outbound' ? outbound : inbound
  const rule = rules.find(
    ({ when = {}, unless = {} }) => conditions(when, facts, sets).every(Boolean) && !conditions(unless, facts, sets).some(Boolean),
  )
  const target = targets[rule?.then ?? 'pass']
  return target === undefined ? (rule?.then ?? 'pass') : `127.0.0.1:${target.port ?? facts.port}`
}
