/** The nat tables of OSM as pseudo code: what OUTPUT and PREROUTING do with the first packet of a connection. */
import { within } from '../../parity/networks.ts'
import type { FirstPacket } from '../../parity/tables.ts'
import type { OsmRules } from './rules.ts'

const isExcluded = (names: readonly string[], device: string) =>
  names.some((name) => (name.endsWith('+') ? device.startsWith(name.slice(0, -1)) : name === device))

/** 'pass', the port of the proxy, or another address with its port. */
export function osmOutput(rules: OsmRules, { proto, to, port, uid, device }: FirstPacket): string {
  if (to.includes(':')) return 'pass'
  if (proto === 'udp') return rules.dns && to === '127.0.0.153' && port === 53 ? '127.0.0.153:5300' : 'pass'
  const [lo, proxy, localhost] = [device === 'lo', uid === rules.uid, to === '127.0.0.1']
  if (rules.podIp !== false && lo && localhost && proxy) return `${rules.podIp}:${port}`
  if (lo && !localhost && proxy) return String(rules.inboundPort)
  if (lo && !proxy) return 'pass'
  if (proxy) return 'pass'
  if (localhost) return 'pass'
  if (isExcluded(rules.interfaces, device)) return 'pass'
  if (rules.rangeExclusions.some((range) => within(to, range))) return 'pass'
  if (rules.outboundPortExclusions.includes(port)) return 'pass'
  if (rules.rangeInclusions.length > 0 && !rules.rangeInclusions.some((range) => within(to, range))) return 'pass'
  return String(rules.outboundPort)
}

export function osmPrerouting(rules: OsmRules, { proto, to, port, device }: FirstPacket): string {
  if (to.includes(':') || proto !== 'tcp') return 'pass'
  if (rules.inboundPortExclusions.includes(port)) return 'pass'
  if (isExcluded(rules.interfaces, device)) return 'pass'
  if (rules.ownPorts.includes(port)) return 'pass'
  return String(rules.inboundPort)
}
