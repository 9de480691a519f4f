/** Kuma's nat tables as pseudo code: what OUTPUT and PREROUTING do with the first packet of a connection. The judge where no kernel is asked. */
import { within } from '../../parity/networks.ts'
import type { FirstPacket } from '../../parity/tables.ts'
import { type KumaRules, serversOf, type UserRule } from './rules.ts'

/** In a list like 22,3000:5000 */
const listed = (list: string, value: number) =>
  list.split(',').some((element) => {
    const [low = 0, high = low] = element.split(':').map(Number)
    return value >= low && value <= high
  })

const excluded = ({ protocol, ports, uids }: UserRule, { proto, port, uid }: FirstPacket) =>
  proto === protocol && listed(ports, port) && listed(uids, uid)

/** 'pass' or the port of the proxy. */
export function outputTable(rules: KumaRules, packet: FirstPacket): string {
  const { proto, to, port, uid } = packet
  const six = to.includes(':')
  if (six && !rules.ipv6) return 'pass'
  const servers = serversOf(rules, six ? 'ipv6' : 'ipv4')
  const dns = servers === '*' || servers.length > 0
  const toServer = port === 53 && (servers === '*' || servers.includes(to))
  if (rules.outbound.users.some((rule) => excluded(rule, packet))) return 'pass'
  if (rules.outbound.ips.some((each) => within(to, each))) return 'pass'
  const sidecar = uid === rules.uid
  if (proto === 'udp') return toServer && !sidecar ? String(rules.dns.port) : 'pass'
  const left = dns && port === 53 && !sidecar && (rules.version === '2.14' || rules.version === '2.11')
  return left && !rules.outbound.insert ? 'pass' : meshOutbound(rules, packet, dns, toServer)
}

function meshOutbound(rules: KumaRules, { to, port, bound, uid, device }: FirstPacket, dns: boolean, toServer: boolean): string {
  const { outbound, inbound, version } = rules
  const [six, sidecar, localhost] = [to.includes(':'), uid === rules.uid, to === '127.0.0.1' || to === '::1']
  if (!outbound.enabled) return 'pass'
  if (outbound.include.length === 0 && outbound.exclude.includes(port)) return 'pass'
  if (device === 'lo' && bound === (six ? '::6' : '127.0.0.6')) return 'pass'
  if (device === 'lo' && (version === '2.14' || !dns || port !== 53)) {
    if (sidecar && !localhost) return String(six ? inbound.port6 : inbound.port)
    if (!sidecar) return 'pass'
  }
  if (sidecar) return 'pass'
  if (toServer && (version === '2.9' || version === '2.7')) return String(rules.dns.port)
  if (localhost) return 'pass'
  return outbound.include.length === 0 || outbound.include.includes(port) ? String(outbound.port) : 'pass'
}

/** `bound`: the source */
export function preroutingTable({ inbound, ipv6 }: KumaRules, { proto, to, port, bound = '' }: FirstPacket): string {
  const six = to.includes(':')
  if (proto !== 'tcp' || (six && !ipv6) || !inbound.enabled || inbound.open > 0) return 'pass'
  if (bound !== '' && inbound.ips.some((each) => within(bound, each))) return 'pass'
  const taken = inbound.include.length > 0 ? inbound.include.includes(port) : !inbound.exclude.includes(port)
  return taken ? String(six ? inbound.port6 : inbound.port) : 'pass'
}
