/** Istio's nat tables as pseudo code: what OUTPUT and PREROUTING do with the first packet of a connection. The judge where no kernel is asked. */
import type { IstioRuleOptions } from '../lab/istio-iptables.ts'
import { within } from './networks.ts'

export interface FirstPacket {
  readonly proto: 'tcp' | 'udp'
  readonly to: string
  readonly port: number
  /** The bound source, where it matters; PREROUTING: the source. */
  readonly bound?: string
  /** Of the socket; default 0 */
  readonly mark?: number
  readonly uid: number
  readonly gid: number
  /** OUTPUT: the route's interface; PREROUTING: the one that it came in by. */
  readonly device: string
}

type Tables = Required<IstioRuleOptions>

/** 'pass' or the port of the proxy. */
export function outputTable(tables: Tables, { proto, to, port, bound, uid, gid, device }: FirstPacket): string {
  const { proxyUids, proxyGids, ownerGroupsInclude, ownerGroupsExclude, outboundRangesInclude, loopbackCidr } = tables
  const six = to.includes(':')
  if (six && !tables.ipv6) return 'pass' // there are no rules for IPv6
  const tcp = proto === 'tcp'
  const lo = device === 'lo'
  const loopback = within(to, six ? '::1/128' : loopbackCidr)
  const loopbackIncluded =
    outboundRangesInclude !== '*' && outboundRangesInclude.some((range) => range.startsWith('127.') || range.startsWith('::1/'))
  if (tables.excludeInterfaces.includes(device)) return 'pass'
  if (tables.outboundPortsExclude.includes(port)) return 'pass'
  if (lo && (bound === '127.0.0.6' || bound === '::6')) return 'pass'
  const dns = tables.dns === 'all' || (tables.dns === 'servers' && tables.nameservers.length > 0)
  for (const [id, ids, own] of [
    [uid, proxyUids, dns && port === 53],
    [gid, proxyGids, false],
  ] as const) {
    for (const one of ids) {
      if (lo && !loopback && tcp && port !== tables.tunnelPort && !own && id === one) return String(tables.inboundPort)
      if (lo && !loopbackIncluded && id !== one && (!dns || (tcp && port !== 53))) return 'pass'
      if (id === one) return 'pass'
    }
  }
  if (ownerGroupsInclude === '*' ? ownerGroupsExclude.includes(gid) : !ownerGroupsInclude.includes(gid)) return 'pass'
  if (dns && port === 53 && (tables.dns === 'all' || tables.nameservers.includes(to))) return '15053'
  if (loopback) return 'pass'
  if (tables.outboundRangesExclude.some((range) => within(to, range))) return 'pass'
  const captured =
    tables.outboundPortsInclude.includes(port) || outboundRangesInclude === '*' || outboundRangesInclude.some((range) => within(to, range))
  return tcp && captured ? String(tables.outboundPort) : 'pass'
}

export function preroutingTable(tables: Tables, { proto, to, port, device }: FirstPacket): string {
  const { inboundPortsInclude, inboundPortsExclude } = tables
  if ((to.includes(':') && !tables.ipv6) || proto !== 'tcp' || tables.excludeInterfaces.includes(device)) return 'pass'
  if (port === tables.tunnelPort) return 'pass'
  const captured = inboundPortsInclude === '*' ? !inboundPortsExclude.includes(port) : inboundPortsInclude.includes(port)
  return captured ? String(tables.inboundPort) : 'pass'
}
