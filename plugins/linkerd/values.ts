/**
 * Texts as Linkerd reads them: numbers and networks as Go does, lists as its command line takes them apart. A reader throws an Error that says what was expected; it
 * takes time in proportion to the text, which may have 256 kB.
 */
import type { PortSpec } from '../../core/plugin.ts'
import { prefixOf } from '../shared/networks.ts'
import { short, unexpected } from '../shared/text.ts'
import { maxOwner } from './options.ts'

const maxPort = 65535

/** Go's strconv.Atoi; undefined: not a number. */
export const integer = (text: string): number | undefined => (/^[+-]?\d+$/.test(text) ? Number(text) : undefined)

/** A number that the proxy can listen on. */
export function listenPort(text: string): number {
  const port = integer(text) ?? Number.NaN
  if (port >= 1 && port <= maxPort) return port
  throw unexpected('a port from 1 to 65535', text, text)
}

/** An id for a rule; 0 and less: no rule. */
export function owner(text: string): number {
  const id = integer(text) ?? Number.NaN
  if (id <= maxOwner) return id
  throw unexpected(`a number up to ${maxOwner}`, text, text)
}

/** 8080 or 8000-8100, without blanks; undefined: Linkerd drops it. A number may have zeros before it, and a plus sign. */
function portRange(element: string): PortSpec | undefined {
  const [first = '', last = first, ...more] = element.split('-')
  const [low = Number.NaN, high = Number.NaN] = [integer(first), integer(last)]
  if (more.length > 0 || !(low <= high && high <= maxPort)) return undefined
  return low === high ? low : `${low}-${high}`
}

export interface PortList {
  readonly ports: readonly PortSpec[]
  /** Elements that are no ports. */
  readonly dropped: readonly string[]
}

export function portList(elements: readonly string[]): PortList {
  const read = elements.map((element) => ({ element, port: portRange(element) }))
  return {
    ports: [...new Set(read.flatMap(({ port }) => port ?? []))],
    dropped: read.flatMap(({ element, port }) => (port === undefined ? [element] : [])),
  }
}

/** What stands between two quotation marks, of which two together are one, and where it ends; undefined: it does not. */
function quotedAt(text: string, start: number): { readonly field: string; readonly end: number } | undefined {
  let field = ''
  for (let from = start + 1; ; ) {
    const mark = text.indexOf('"', from)
    if (mark < 0) return undefined
    field += text.slice(from, mark)
    if (text[mark + 1] !== '"') return { field, end: mark + 1 }
    field += '"'
    from = mark + 2
  }
}

/** As Go's encoding/csv reads a line. */
function quotedFields(text: string): string[] {
  const wrong = () => unexpected('a list whose quotation marks stand around whole elements, in one line', text, text)
  const line = text.replace(/\r?\n$/, '')
  const fields: string[] = []
  for (let at = 0; at <= line.length; at++) {
    const comma = line.indexOf(',', at)
    const plain = line.slice(at, comma < 0 ? line.length : comma)
    const { field, end } = plain.startsWith('"') ? (quotedAt(line, at) ?? { field: '', end: -1 }) : { field: plain, end: at + plain.length }
    const stray = !plain.startsWith('"') && /["\n]/.test(plain)
    if (stray || end < 0 || (end < line.length && line[end] !== ',')) throw wrong()
    fields.push(field)
    at = end
  }
  return fields
}

/** The elements of a flag: one line of comma-separated values. An empty text is no element at all. */
export function flagElements(text: string): string[] {
  if (text.includes('"')) return quotedFields(text)
  const [line = '', ...rest] = text.split(/\r?\n/).filter((each) => each !== '')
  if (rest.length > 0) throw unexpected('a list in one line', text, text)
  return line === '' ? [] : line.split(',')
}

/** A mask that begins with 0 is octal to iptables, to which Linkerd hands the text. */
const withDecimalMask = (element: string): string => element.replace(/\/0([0-7]{1,3})$/, (_, digits: string) => `/${Number.parseInt(digits, 8)}`)

/** Networks, each without the blanks around it. */
export function subnets(elements: readonly string[]): string[] {
  const prefixes = elements.map((element) => {
    const prefix = prefixOf(withDecimalMask(element.trim()))
    if (prefix !== undefined) return prefix
    throw unexpected('networks like 10.0.0.0/8, separated by commas', element, elements.join(','))
  })
  return [...new Set(prefixes.flatMap(({ cidr }) => cidr ?? []))]
}

const mostNamed = 4

/** The elements for a message. */
export function quoted(elements: readonly string[]): string {
  const names = elements.slice(0, mostNamed).map((element) => `'${short(element)}'`)
  return `${names.join(', ')}${elements.length > mostNamed ? ` and ${elements.length - mostNamed} more` : ''}`
}
