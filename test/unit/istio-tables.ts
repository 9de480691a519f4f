/** Istio's nat tables OUTPUT and PREROUTING for IPv4 as pseudo code, rule by rule: the judge of the plugin. Knows no plugin and no policy. */
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

/** The routes of the pod in the tests: its own addresses by lo, one network by a second interface. */
export function outInterface(to: string): string {
  if (to.startsWith('127.') || to === own) return 'lo'
  return to.startsWith('192.0.2.') ? 'net2' : 'eth0'
}

/** nat OUTPUT */
export function outputTable(tables: Tables, { proto, to, port, from = '', uid = 0, gid = 0 }: Packet): string {
  if (to.includes(':')) return 'pass' // iptables has IPv4 rules only
  const destination = to === '0.0.0.0' ? from || '127.0.0.1' : to
  const out = outInterface(destination)
  const [lo, tcp] = [out === 'lo', proto === 'tcp']
  const loopbackIncluded = tables.includeOutboundCidrs.some((cidr) => cidr.startsWith('127.') || cidr.startsWith('::1'))
  const LB = inCidr(destination, tables.loopbackCidr)
  const [redirect, inRedirect] = [`127.0.0.1:${tables.proxyPort}`, `127.0.0.1:${tables.inboundPort}`]
  if (tables.excludeInterfaces.includes(out)) return 'pass'
  if (tables.excludeOutboundPorts.includes(port)) return 'pass'
  if (lo && from === '127.0.0.6') return 'pass'
  for (const [id, ids] of [
    [uid, tables.proxyUid],
    [gid, tables.proxyGid],
  ] as const) {
    for (const one of ids) {
      if (lo && tcp && !LB && port !== 15008 && id === one) return inRedirect
      if (!loopbackIncluded && lo && id !== one) return 'pass'
      if (id === one) return 'pass'
    }
  }
  if (tables.ownerGroupsInclude === '*') {
    if (tables.ownerGroupsExclude.includes(gid)) return 'pass'
  } else if (tables.ownerGroupsInclude.every((group) => gid !== group)) return 'pass'
  if (LB) return 'pass'
  if (tables.excludeOutboundCidrs.some((cidr) => inCidr(destination, cidr))) return 'pass'
  if (tcp && tables.includeOutboundPorts.includes(port)) return redirect
  if (tcp && tables.includeOutboundCidrs.some((cidr) => inCidr(destination, cidr))) return redirect
  return 'pass'
}

/** nat PREROUTING */
export function preroutingTable(tables: Tables, { proto, to, port, iif = 'eth0' }: Packet): string {
  if (to.includes(':') || tables.excludeInterfaces.includes(iif)) return 'pass'
  if (tables.includeInboundPorts.length === 0 || proto !== 'tcp' || port === 15008) return 'pass'
  const redirect = `127.0.0.1:${tables.inboundPort}`
  if (!tables.includeInboundPorts.includes('*')) return tables.includeInboundPorts.includes(port) ? redirect : 'pass'
  return tables.excludeInboundPorts.includes(port) ? 'pass' : redirect
}
