/** Linkerd's nat tables as pseudo code: what OUTPUT and PREROUTING do with the first packet of a connection. */
import { within } from '../../parity/networks.ts'
import type { FirstPacket } from '../../parity/tables.ts'
import type { LinkerdRules } from './rules.ts'

const covers = (port: number) => (range: string) => {
  const [low = Number.NaN, high = low] = range.split('-').map(Number)
  return low <= port && port <= high
}

/** PROXY_INIT_REDIRECT; undefined: the packet returns from it. */
function redirectChain(rules: LinkerdRules, { proto, port, bound }: FirstPacket): string | undefined {
  if (proto === 'tcp' && rules.inboundIgnored.some(covers(port))) return undefined
  if (bound !== undefined && rules.subnets.some((subnet) => within(bound, subnet))) return undefined
  const listed = rules.redirected.length === 0 || rules.redirected.includes(port)
  return proto === 'tcp' && listed ? String(rules.inboundPort) : undefined
}

/** 'pass' or the port of the proxy. */
export function outputTable(rules: LinkerdRules, packet: FirstPacket): string {
  const { proto, to, port, uid, gid, device } = packet
  if (to.includes(':') && !rules.ipv6) return 'pass' // there are no rules for IPv6
  const user = rules.proxyUid > 0 && uid === rules.proxyUid
  if (rules.old && user && device === 'lo' && to !== '127.0.0.1') {
    const redirected = redirectChain(rules, packet)
    if (redirected !== undefined) return redirected
  }
  if (user) return 'pass'
  if (rules.proxyGid > 0 && gid === rules.proxyGid) return 'pass'
  if (device === 'lo') return 'pass'
  if (proto === 'tcp' && rules.outboundIgnored.some(covers(port))) return 'pass'
  return proto === 'tcp' ? String(rules.outboundPort) : 'pass'
}

export function preroutingTable(rules: LinkerdRules, packet: FirstPacket): string {
  if (packet.to.includes(':') && !rules.ipv6) return 'pass'
  return redirectChain(rules, packet) ?? 'pass'
}
