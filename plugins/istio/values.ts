/**
 * Values of annotations and environment variables as Istio reads them: ports as Go's ParseUint takes them, networks as netip.ParsePrefix does. A
 * reader throws an Error that says what was expected; it takes time in proportion to the text, which may have 256 kB.
 */
import type { IdSpec, PortSpec } from '../../core/plugin.ts'
import { isIpv6, prefixOf } from '../shared/networks.ts'
import { unexpected } from '../shared/text.ts'

/** Networks of both families, and whether one of them was written with an address of loopback. */
export interface Networks {
  readonly cidrs: readonly string[]
  readonly loopback: boolean
}

/** Istio looks at elements without the blanks around them. A line break stays, and is refused: it would end the rule that the element is part of. */
const withoutBlanks = (element: string): string => (/[^\S \t]/.test(element) ? element : element.trim())

/** Istio checks the number in decimal and hands the text to iptables, which reads one that begins with 0 in octal: 010 is 8, and 080 is none. */
function portOf(element: string): number {
  if (!/^\d+$/.test(element) || Number(element) > 65535) return Number.NaN
  if (!/^0\d/.test(element)) return Number(element)
  return /^[0-7]+$/.test(element) ? Number.parseInt(element, 8) : Number.NaN
}

function readPorts(text: string, expected: string): PortSpec[] {
  if (text === '') return []
  const ports = text.split(',').map((element) => {
    const port = portOf(withoutBlanks(element))
    if (port <= 65535) return port
    throw unexpected(expected, element, text)
  })
  return [...new Set(ports)]
}

export const ports = (text: string): PortSpec[] => readPorts(text, 'ports from 0 to 65535, separated by commas')

/** '*' alone stands for every port. */
export const portsOrAll = (text: string): PortSpec[] =>
  text === '*' ? ['*'] : readPorts(text, "ports from 0 to 65535, separated by commas, or '*' alone")

export function onePort(text: string): number {
  const port = portOf(text.trim())
  if (port <= 65535) return port
  throw unexpected('a port from 0 to 65535', text, text)
}

function readNetworks(text: string, expected: string): Networks {
  const prefixes = (text === '' ? [] : text.split(',')).map((element) => {
    const prefix = prefixOf(element)
    if (prefix !== undefined) return prefix
    throw unexpected(expected, element, text)
  })
  return { cidrs: [...new Set(prefixes.flatMap(({ cidr }) => cidr ?? []))], loopback: prefixes.some(({ loopback }) => loopback) }
}

export const networks = (text: string): Networks => readNetworks(text, 'networks like 10.0.0.0/8, separated by commas without blanks')

/** '*' alone stands for every destination. */
export const networksOrAll = (text: string): Networks =>
  text === '*' ? { cidrs: ['*'], loopback: false } : readNetworks(text, "networks like 10.0.0.0/8, separated by commas without blanks, or '*' alone")

/** What stands for "localhost": 127.0.0.1/32, or more of loopback. */
export function loopbackNetwork(text: string): string {
  const prefix = prefixOf(text)
  if (prefix?.cidr !== undefined && !isIpv6(text) && prefix.loopback && Number(text.slice(text.lastIndexOf('/') + 1)) >= 8) return prefix.cidr
  throw unexpected('a network of loopback from /8 to /32, like 127.0.0.1/32', text, text)
}

const interfaceName = /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}$/
export const isInterface = (name: string): boolean => interfaceName.test(name)
export const interfaceExpected = 'names of network interfaces, at most 15 letters, digits, "_", "." and "-"'

export function interfaces(text: string): string[] {
  if (text === '') return []
  return text.split(',').map((element) => {
    const name = withoutBlanks(element)
    if (isInterface(name)) return name
    throw unexpected(`${interfaceExpected}, separated by commas`, element, text)
  })
}

/** Ids or ranges of ids of groups. A name of a group is not an id. */
export function groups(text: string): IdSpec[] {
  const elements = text.split(',').filter((element) => element !== '')
  return elements.map((element) => {
    const [first = '', last = first, ...more] = withoutBlanks(element).split('-')
    const ids = [first, last].map((id) => (/^(?:0|[1-9]\d{0,9})$/.test(id) ? Number(id) : Number.NaN))
    const [low = Number.NaN, high = Number.NaN] = ids
    if (more.length === 0 && low <= high && high <= 0xffffffff) return low === high ? low : `${low}-${high}`
    throw unexpected('ids of groups, separated by commas; names cannot be looked up here', element, text)
  })
}
