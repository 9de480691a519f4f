/**
 * Values of annotations, of kuma-init's flags and of Kuma's own configuration as Kuma reads them: numbers as Go's ParseUint takes them, addresses as
 * its net package does, and after that as iptables takes what Kuma hands on. A reader throws an Error that says what was expected.
 */
import type { PortSpec } from '../../core/plugin.ts'
import { isIpv6, prefixOf, serverAddress } from '../shared/networks.ts'
import { unexpected } from '../shared/text.ts'

const bools: ReadonlyMap<string, boolean> = new Map([
  ...['true', 'yes'].map((text) => [text, true] as const),
  ...['false', 'no'].map((text) => [text, false] as const),
])
const switches: ReadonlyMap<string, boolean> = new Map([...bools, ['enabled', true], ['disabled', false]])

const readFrom = (values: ReadonlyMap<string, boolean>, expected: string) => (text: string) => {
  const value = values.get(text)
  if (value === undefined) throw unexpected(expected, text, text)
  return value
}

export const truth = readFrom(bools, 'true, false, yes or no')
export const enabled = readFrom(switches, 'enabled, disabled, true, false, yes or no')

/** Decimal digits without a sign; NaN: none, or more than `most`. */
export function decimal(text: string, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  return value <= most ? value : Number.NaN
}

export function onePort(text: string): number {
  const port = decimal(text, 65535)
  if (port > 0) return port
  throw unexpected('a port from 1 to 65535', text, text)
}

/** A port of an annotation that Kuma hands on to kuma-init as a flag, which is left out for 0. */
export function portOrUsual(text: string): number | undefined {
  const port = decimal(text, 65535)
  if (port >= 0) return port === 0 ? undefined : port
  throw unexpected('a port from 1 to 65535, or 0 for the usual one', text, text)
}

export function portOrNone(text: string): number {
  const port = decimal(text, 65535)
  if (port >= 0) return port
  throw unexpected('a port from 1 to 65535, or 0 for none', text, text)
}

/** Elements are trimmed, empty ones dropped. */
export function ports(text: string): PortSpec[] {
  const elements = text.split(',').map((element) => element.trim())
  const read = (element: string): number => {
    const port = decimal(element, 65535)
    if (port > 0) return port
    throw unexpected('ports from 1 to 65535, separated by commas, no ranges', element, text)
  }
  return [...new Set(elements.filter((element) => element !== '').map(read))]
}

/** What iptables reads in octal, because it begins with 0; undefined: 08 is none. */
export function handedOn(digits: string): number | undefined {
  if (!/^0\d/.test(digits)) return Number(digits)
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : undefined
}

/** An address with or without a length. An address of IPv4 in IPv6 form is one of IPv4 to Go and to iptables. */
function networkOf(element: string): string | undefined {
  if (/[^\S \t]/.test(element)) return undefined // a line break would end the rule
  const [address = '', length, ...more] = element.trim().split('/')
  const known = serverAddress(address)
  if (known === undefined || more.length > 0) return undefined
  const most = isIpv6(known) ? 128 : 32
  if (length === undefined) return `${known}/${most}`
  const bits = Number.isNaN(decimal(length, isIpv6(address) ? 128 : 32)) ? undefined : handedOn(length)
  return bits === undefined || bits > most ? undefined : prefixOf(`${known}/${bits}`)?.cidr
}

/** Elements are trimmed; those without a character are dropped. */
export function networks(text: string): string[] {
  const elements = [...new Set(text.split(','))].filter((element) => element !== '')
  const read = (element: string): string => {
    const network = networkOf(element)
    if (network !== undefined) return network
    throw unexpected('addresses or networks like 10.0.0.1, 10.0.0.0/8 or fd00::/8, separated by commas', element, text)
  }
  return [...new Set(elements.map(read))]
}

/** What is no "ipv4" letter by letter is dual stack, also "IPv4": Kuma looks at letters only when it checks the value. */
export function familyMode(text: string): 'dualstack' | 'ipv4' {
  if (!['', 'dualstack', 'ipv4'].includes(text.toLowerCase())) throw unexpected('dualstack or ipv4', text, text)
  return text === 'ipv4' ? 'ipv4' : 'dualstack'
}

/** One less than the largest: iptables does not take that one. */
export const maxUser = 0xfffffffe

/** The id of a user; one that has a name only cannot be looked up from outside the pod. undefined: the usual one. */
export function userId(text: string): number | undefined {
  if (text === '') return undefined
  const id = decimal(text, maxUser)
  if (id >= 0) return id
  throw unexpected(`the id of a user, up to ${maxUser}; names cannot be looked up here`, text, text)
}
