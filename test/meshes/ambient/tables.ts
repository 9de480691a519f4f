/** Ambient's nat tables as pseudo code: what OUTPUT and PREROUTING do with the first packet of a connection. */
import { within } from '../../parity/networks.ts'
import type { FirstPacket } from '../../parity/tables.ts'
import type { AmbientRules } from './rules.ts'

const isLocalhost = (to: string) => to === '127.0.0.1' || to === '::1'
const isZtunnel = (mark: number) => (mark & 0xfff) === 0x539

export function outputTable(rules: AmbientRules, { proto, to, port, mark = 0, device }: FirstPacket): string {
  const six = to.includes(':')
  if (six && !rules.ipv6) return 'pass' // there are no rules for IPv6
  const tcp = proto === 'tcp'
  if (tcp && within(to, six ? rules.probe6 : rules.probe)) return 'pass'
  if (rules.dns && port === 53 && !isZtunnel(mark) && (tcp ? !isLocalhost(to) : device !== 'lo')) return '15053'
  if (tcp && (mark & 0xfff) === 0x111) return 'pass'
  if (device === 'lo' && !isLocalhost(to)) return 'pass'
  return tcp && !isLocalhost(to) && !isZtunnel(mark) ? '15001' : 'pass'
}

export function preroutingTable(rules: AmbientRules, { proto, to, port, bound = '', mark = 0 }: FirstPacket): string {
  const six = to.includes(':')
  if ((six && !rules.ipv6) || proto !== 'tcp' || rules.ingress) return 'pass'
  if (bound !== '' && within(bound, six ? rules.probe6 : rules.probe)) return 'pass'
  return isLocalhost(to) || port === 15008 || isZtunnel(mark) ? 'pass' : '15006'
}
