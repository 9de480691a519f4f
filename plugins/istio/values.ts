/**
 * Values of annotations and environment variables as Istio reads them: ports as Go's ParseUint takes them, networks as netip.ParsePrefix does. A
 * reader throws an Error that says what was expected; it takes time in proportion to the text, which may have 256 kB.
 */
import type { IdSpec, PortSpec } from '../../core/plugin.ts'

/** Networks of both families, and whether one of them was written with an address of loopback. */
export interface Networks {
  readonly cidrs: readonly string[]
  readonly loopback: boolean
}

const longest = 60

/** The text as a message can have it: short, on one line, nothing that a terminal would obey. */
export function short(text: string): string {
  const start = text.length > longest ? `${text.slice(0, longest)}...` : text
  return start.replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, '?')
}

/** An element of the list `text` that is not what was expected. */
function unexpected(expected: string, element: string, text: string): Error {
  const where = element === text ? '' : ` in '${short(text)}'`
  return new Error(`expected ${expected}, got '${short(element)}'${where}`)
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

const octet = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const ipv4 = new RegExp(`^${octet}(?:\\.${octet}){3}$`)

/** The network without the bits of the host, as iptables takes it. */
function network(address: string, length: number): string {
  const bits = address.split('.').reduce((number, part) => number * 256 + Number(part), 0)
  const hosts = 2 ** (32 - length)
  const first = bits - (bits % hosts)
  return `${[24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join('.')}/${length}`
}

/** The eight groups of an IPv6 address; undefined: it is none. The last two may be written as an IPv4 address. */
function groupsOf(address: string): readonly number[] | undefined {
  const tail = address.slice(address.lastIndexOf(':') + 1)
  const [a = 0, b = 0, c = 0, d = 0] = tail.split('.').map(Number)
  const pair = `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
  const halves = (ipv4.test(tail) ? `${address.slice(0, -tail.length)}${pair}` : address).split('::')
  const [head = [], rest = []] = halves.map((half) => (half === '' ? [] : half.split(':')))
  const left = 8 - head.length - rest.length
  if (halves.length > 2 || (halves.length === 2 ? left < 1 : left !== 0)) return undefined
  const groups = [...head, ...Array<string>(left).fill('0'), ...rest]
  return groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group)) ? groups.map((group) => Number.parseInt(group, 16)) : undefined
}

/** As people write it: the longest run of zeros is left out. */
function textOf(groups: readonly number[]): string {
  const text = groups.map((group) => group.toString(16)).join(':')
  const runs = [...text.matchAll(/\b0(?::0)+\b/g)].sort((a, b) => b[0].length - a[0].length)
  const [{ 0: run, index } = { 0: '', index: 0 }] = runs
  return run === '' ? text : `${text.slice(0, index) || ':'}${text.slice(index + run.length) || ':'}`
}

/** As `network`; undefined: an IPv4 address in IPv6 form, which no packet of IPv6 has. */
function network6(groups: readonly number[], length: number): string | undefined {
  const kept = groups.map((group, index) => group & (0xffff << (16 - Math.min(16, Math.max(0, length - 16 * index)))))
  return length >= 96 && isMapped(groups) ? undefined : `${textOf(kept)}/${length}`
}

const isMapped = (groups: readonly number[]): boolean => groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff

/** ::1, and 127.0.0.0/8 written as an IPv6 address */
function isLoopback6(groups: readonly number[]): boolean {
  const [last = 0, before = 0] = [groups[7], groups[6]]
  const start = groups.slice(0, 5).every((group) => group === 0)
  return start && ((groups[5] === 0 && before === 0 && last === 1) || (groups[5] === 0xffff && before >> 8 === 127))
}

/** `cidr` is absent where nothing can match. undefined: not a prefix. */
function prefixOf(element: string): { readonly cidr?: string | undefined; readonly loopback: boolean } | undefined {
  const slash = element.lastIndexOf('/')
  const [address, length] = [element.slice(0, Math.max(slash, 0)), element.slice(slash + 1)]
  if (!/^(?:0|[1-9]\d{0,2})$/.test(length)) return undefined
  if (ipv4.test(address)) {
    return Number(length) <= 32 ? { cidr: network(address, Number(length)), loopback: address.startsWith('127.') } : undefined
  }
  const groups = address.length > 45 ? undefined : groupsOf(address)
  return groups !== undefined && Number(length) <= 128 ? { cidr: network6(groups, Number(length)), loopback: isLoopback6(groups) } : undefined
}

export const isIpv6 = (network: string): boolean => network.includes(':')

/** The address of a name server; one of IPv4 in IPv6 form is of IPv4. undefined: not an address. */
export function serverAddress(text: string): string | undefined {
  if (ipv4.test(text)) return text
  const groups = text.length > 45 ? undefined : groupsOf(text)
  if (groups === undefined) return undefined
  const [high = 0, low = 0] = groups.slice(6)
  return isMapped(groups) ? [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.') : textOf(groups)
}

/** What is wrong with a name server that has no such address. */
export function serverExpected(text: string): string {
  if (text.includes('%')) return 'expected an address without a zone (%eth0): queries to link-local name servers are not captured'
  return `expected the address of a name server, like "10.96.0.10" or "fd00:10:96::a"${text.includes('/') ? ', not a network' : ''}`
}

/** Is the address of loopback, whatever the length of the prefix? */
export const isLoopback = (cidr: string): boolean => prefixOf(cidr.includes('/') ? cidr : `${cidr}/32`)?.loopback === true

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
