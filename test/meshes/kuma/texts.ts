/** Texts as Kuma reads them, and as iptables reads what Kuma hands on. */
import { isIP } from 'node:net'
import type { UserRule } from './rules.ts'

/** Kuma does not start the pod; the message names the value. */
export class Refusal extends Error {}

/** Names what is refused within. */
export function at<T>(name: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw error instanceof Refusal && error.message === '' ? new Refusal(name) : error
  }
}

export function digits(text: string, most: number): number {
  if (!/^[0-9]+$/.test(text) || Number(text) > most) throw new Refusal()
  return Number(text)
}

/** Blanks and empty elements do no harm; 0 is no port. */
export function portList(text: string): number[] {
  const elements = text.split(',').flatMap((element) => element.trim() || [])
  return elements.map((element) => {
    const port = digits(element, 65535)
    if (port === 0) throw new Refusal()
    return port
  })
}

/** A leading zero is octal to iptables. */
function octal(text: string): string {
  if (/^0+[0-9]/.test(text) && /[89]/.test(text)) throw new Refusal()
  return String(/^0+[0-9]/.test(text) ? Number.parseInt(text, 8) : Number(text))
}

function network(text: string): string {
  const [address = '', length, more] = text.trim().split('/')
  const family = address.includes('%') ? 0 : isIP(address)
  if (family === 0 || more !== undefined || /[\n\r]/.test(text)) throw new Refusal()
  const four = address.replace(/^::ffff:(?=\d+\.)/i, '')
  if (length === undefined) return four
  digits(length, family === 4 ? 32 : 128)
  if (Number(octal(length)) > (isIP(four) === 4 ? 32 : 128)) throw new Refusal()
  return `${four}/${octal(length)}`
}

/** Of an annotation: empty elements are left out. */
export const networkList = (text: string): string[] => text.split(',').filter(Boolean).map(network)

/** Elements of "a-b" with colons; a range of one is none to multiport. */
function range(text: string, one: boolean): string {
  const parts = text.split('-')
  for (const part of parts) digits(part, 65535)
  const [low = '', high] = parts.map(octal)
  if (parts.length > 2 || (high !== undefined && (Number(low) > Number(high) || (!one && low === high)))) throw new Refusal()
  return high === undefined ? low : `${low}:${high}`
}

/** [protocols:][ports:]uids */
export function userRules(text: string): UserRule[] {
  const parts = text.split(':')
  const [protocols = '', ports = '', uids = ''] = [...Array<string>(Math.max(0, 3 - parts.length)).fill(''), ...parts]
  const all = protocols === '' || protocols === '*' ? ['tcp', 'udp'] : protocols.split(',').map((each) => each.trim().toLowerCase())
  if (parts.length > 3 || ports.split(/[,-]/).length > 15) throw new Refusal()
  const list =
    ports === '' || ports === '*'
      ? '1:65535'
      : ports
          .split(',')
          .map((each) => range(each, false))
          .join(',')
  const users = range(uids, true)
  return all.map((protocol) => {
    if (protocol !== 'tcp' && protocol !== 'udp') throw new Refusal()
    return { protocol, ports: list, uids: users }
  })
}
