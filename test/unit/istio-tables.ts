/** Istio's nat tables OUTPUT and PREROUTING as pseudo code, rule by rule: the judge of the plugin. Knows no plugin and no policy. */
import { inCidr } from './reference.ts'

export interface Tables {
  readonly excludeInterfaces: readonly string[]
  readonly proxyUid: readonly number[]
  readonly proxyGid: readonly number[]
  readonly includeOutboundCidrs: readonly string[]
  readonly excludeOutboundCidrs: readonly string[]
  readonly includeOutboundPorts: readonly number[]
  readonly excludeOutboundPorts: readonly number[]
  readonly includeInboundPorts: readonly (number | '*')[]
  /** Complete, with the ports that Istio adds. */
  readonly excludeInboundPorts: readonly number[]
  readonly ownerGroupsInclude: '*' | readonly number[]
  readonly ownerGroupsExclude: readonly number[]
  readonly loopbackCidr: string
  readonly proxyPort: number
  readonly inboundPort: number
  /** There are rules for IPv6. */
  readonly ipv6: boolean
  readonly dns: false | 'all' | readonly string[]
}

export interface Packet {
  readonly proto: 'tcp' | 'udp'
  readonly to: string
  readonly port: number
  readonly from?: string
  readonly uid?: number
  readonly gid?: number
  /** The interface that it comes in by; where it goes out follows from the destination. */
  readonly iif?: string
}

export const own = '10.9.0.2'
export const own6 = 'fd09::2'

/** The routes of the pod in the tests: its own addresses by lo, one network by a second interface. */
export function outInterface(to: string): string {
  if (to.startsWith('127.') || ['::1', '::6', own, own6].includes(to)) return 'lo'
  return to.startsWith('192.0.2.') ? 'net2' : 'eth0'
}

/** nat OUTPUT */
export function outputTable(tables: Tables, { proto, to, port, from = '', uid = 0, gid = 0 }: Packet): string {
  const six = to.includes(':')
  if (six && !tables.ipv6) return 'pass'
  const destination = to === '0.0.0.0' ? from || '127.0.0.1' : to === '::' ? '::1' : to
  const out = outInterface(destination)
  const [lo, tcp] = [out === 'lo', proto === 'tcp']
  const loopbackIncluded = tables.includeOutboundCidrs.some((cidr) => cidr.startsWith('127.') || cidr.startsWith('::1'))
  const LB = inCidr(destination, six ? '::1/128' : tables.loopbackCidr)
  const loopback = six ? '[::1]' : '127.0.0.1'
  const [redirect, inRedirect] = [`${loopback}:${tables.proxyPort}`, `${loopback}:${tables.inboundPort}`]
  const dns = tables.dns !== false && (tables.dns === 'all' || tables.dns.length > 0)
  if (tables.excludeInterfaces.includes(out)) return 'pass'
  if (tables.excludeOutboundPorts.includes(port)) return 'pass'
  if (lo && (from === '127.0.0.6' || from === '::6')) return 'pass'
  const users: readonly number[] = dns ? [53, 15008] : [15008]
  const groups: readonly number[] = [15008]
  for (const [id, ids, skipped] of [
    [uid, tables.proxyUid, users],
    [gid, tables.proxyGid, groups],
  ] as const) {
    for (const one of ids) {
      if (lo && tcp && !LB && !skipped.includes(port) && id === one) return inRedirect
      if (!loopbackIncluded && lo && id !== one && (!dns || (tcp && port !== 53))) return 'pass'
      if (id === one) return 'pass'
    }
  }
  if (tables.ownerGroupsInclude === '*') {
    if (tables.ownerGroupsExclude.includes(gid)) return 'pass'
  } else if (tables.ownerGroupsInclude.every((group) => gid !== group)) return 'pass'
  if (tables.dns !== false && port === 53 && (tables.dns === 'all' || tables.dns.includes(destination))) return `${loopback}:15053`
  if (LB) return 'pass'
  if (tables.excludeOutboundCidrs.some((cidr) => inCidr(destination, cidr))) return 'pass'
  if (tcp && tables.includeOutboundPorts.includes(port)) return redirect
  if (tcp && tables.includeOutboundCidrs.some((cidr) => inCidr(destination, cidr))) return redirect
  return 'pass'
}

/** nat PREROUTING */
export function preroutingTable(tables: Tables, { proto, to, port, iif = 'eth0' }: Packet): string {
  if ((to.includes(':') && !tables.ipv6) || tables.excludeInterfaces.includes(iif)) return 'pass'
  if (tables.includeInboundPorts.length === 0 || proto !== 'tcp' || port === 15008) return 'pass'
  const redirect = `${to.includes(':') ? '[::1]' : '127.0.0.1'}:${tables.inboundPort}`
  if (!tables.includeInboundPorts.includes('*')) return tables.includeInboundPorts.includes(port) ? redirect : 'pass'
  return tables.excludeInboundPorts.includes(port) ? 'pass' : redirect
}
