/**
 * Values as the mesh reads them, in Go, and then iptables, which it hands them to. A reader throws an Error that says what was expected; it takes time in
 * proportion to the text, which may have 256 kB.
 */
import { ipv4, isIpv6, prefixOf } from '../shared/networks.ts'
import { unexpected } from '../shared/text.ts'

/** Go's strings.TrimSpace: it knows a line break more than JavaScript, and does not know the byte order mark. */
function trimmed(text: string): string {
  const isSpace = (index: number) => /[\t-\r\u0085\p{Z}]/u.test(text.charAt(index))
  let [start, end] = [0, text.length]
  while (start < end && isSpace(start)) start += 1
  while (end > start && isSpace(end - 1)) end -= 1
  return text.slice(start, end)
}

const mostPort = 65535
export const portsExpected = `ports from 1 to ${mostPort}, separated by commas`

/** Go's strconv.Atoi; the mesh writes the number in decimal again. */
const portOf = (element: string): number => (/^\+?\d+$/.test(element) ? Number(element) : Number.NaN)

export function ports(text: string): number[] {
  const all = text.split(',').map((element) => {
    const port = portOf(trimmed(element))
    if (port >= 1 && port <= mostPort) return port
    throw unexpected(portsExpected, trimmed(element), text)
  })
  return [...new Set(all)]
}

export const networksExpected = 'networks of IPv4 like 10.0.0.0/8, separated by commas'

/** Go reads the length in decimal; iptables gets the same text and reads one that begins with 0 in octal: /010 is /8, and /08 is none. */
function networkOf(element: string): string | undefined {
  const [, address = '', digits = ''] = /^([\d.]+)\/(\d{1,9})$/.exec(element) ?? []
  if (!ipv4.test(address) || Number(digits) > 32) return undefined
  if (!/^0\d/.test(digits)) return prefixOf(element)?.cidr
  return /^[0-7]+$/.test(digits) ? prefixOf(`${address}/${Number.parseInt(digits, 8)}`)?.cidr : undefined
}

/** The mesh takes networks of IPv6 as well, and then iptables-restore fails: it writes rules for IPv4 alone. */
export function networks(text: string): string[] {
  const all = text.split(',').map((element) => {
    const network = networkOf(trimmed(element))
    if (network !== undefined) return network
    throw unexpected(networksExpected, trimmed(element), text)
  })
  return [...new Set(all)]
}

export const interfaceExpected = 'the name of a network interface, at most 15 bytes without blanks, "/" and what means something to a shell'
/** As iptables takes it: one that ends in "+" stands for every name that begins so. */
export const isInterface = (name: string): boolean =>
  /^[^\s/\p{C}"'`$\\]+$/u.test(name) && new TextEncoder().encode(name).length <= 15 && !['.', '..'].includes(name)

/** The address that the mesh calls POD_IP, where its rules can have it: they are of IPv4. */
export const firstIpv4 = (addresses: readonly string[]): string | undefined => addresses.find((address) => !isIpv6(address))
