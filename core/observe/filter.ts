/** Which events a viewer wants to see: from the parameters of its request, which are also what the command line sends. Pure. */
import { type Cidr, contains, formatCidr, parseAddress, parseCidr } from '../address.ts'
import { listed, nearest } from '../config/nearest.ts'
import { MerbridgeError } from '../errors.ts'
import { messageOf } from '../readable.ts'
import type { EventVerdict, EventView } from '../views.ts'

export interface EventFilter {
  /** "default/web"; absent: every pod */
  readonly pod?: string
  readonly direction?: 'outbound' | 'inbound'
  readonly proto?: 'tcp' | 'udp'
  readonly family?: 'ipv4' | 'ipv6'
  /** Source and destination; a mapped address counts as IPv4. */
  readonly from?: Cidr
  readonly to?: Cidr
  /** Empty: any. */
  readonly verdicts: readonly EventVerdict[]
  /** Destination port. */
  readonly port?: number
  /** Name of the rule that decided. */
  readonly rule?: string
  /** 1: every event, n: one in n. */
  readonly sample: number
}

export const directions = ['outbound', 'inbound'] as const
export const verdicts: readonly EventVerdict[] = ['pass', 'redirect', 'drop', 'refused']
/** What the kernel's records can hold. */
export const maxSample = 65535
export const protocols = ['tcp', 'udp'] as const
export const families = ['ipv4', 'ipv6'] as const
const known = ['pod', 'direction', 'proto', 'family', 'from', 'to', 'verdict', 'port', 'rule', 'sample']
const longest = 512

const wrong = (message: string, hint: string): MerbridgeError => new MerbridgeError('USAGE', message, hint)

function oneOf<T extends string>(what: string, value: string, words: readonly T[]): T {
  const found = words.find((word) => word === value)
  if (found !== undefined) return found
  throw wrong(
    `${what}: "${value.slice(0, 40)}" is not a ${what}`,
    `Give ${listed(nearest(value, words).length > 0 ? nearest(value, words) : words)}.`,
  )
}

function wholeNumber(what: string, value: string, most: number): number {
  if (/^\d{1,9}$/.test(value) && Number(value) >= 1 && Number(value) <= most) return Number(value)
  throw wrong(`${what}: "${value.slice(0, 40)}" is not a number from 1 to ${most}`, `Give a whole number from 1 to ${most}.`)
}

function cidrOf(what: string, value: string): Cidr {
  const [, bare = value] = /^\[(.*)\]$/s.exec(value) ?? []
  const zone = bare.indexOf('%')
  if (zone !== -1) throw wrong(`${what}: "${value.slice(0, 60)}" has a zone, which events do not have`, `Leave "${bare.slice(zone, zone + 20)}" out.`)
  try {
    return parseCidr(bare)
  } catch (error) {
    throw wrong(`${what}: ${messageOf(error).slice(0, 200)}`, 'Give an address or a network of either family, as 10.0.0.0/8 or fd00::/8.')
  }
}

const familyOf = ({ family }: Cidr): string => `ipv${family}`

/** No event has two families, so whoever asks for two would wait in vain. */
function oneFamily({ family, from, to }: Pick<EventFilter, 'family' | 'from' | 'to'>): void {
  const asked = [
    ...(family === undefined ? [] : [{ what: `family ${family}`, family }]),
    ...(from === undefined ? [] : [{ what: `from ${formatCidr(from)}`, family: familyOf(from) }]),
    ...(to === undefined ? [] : [{ what: `to ${formatCidr(to)}`, family: familyOf(to) }]),
  ]
  const [first] = asked
  const other = asked.find((each) => each.family !== first?.family)
  if (first === undefined || other === undefined) return
  throw wrong(
    `${first.what} and ${other.what} never match together: one is ${first.family}, the other ${other.family}`,
    'Give both of one family; an IPv4 address on an IPv6 socket counts as IPv4.',
  )
}

/** Throws USAGE. */
export function filterOf(query: URLSearchParams): EventFilter {
  for (const [name, value] of query) {
    if (!known.includes(name)) throw wrong(`no filter "${name.slice(0, 40)}"`, `The filters are ${listed(known, 'and')}.`)
    if (value.length > longest) throw wrong(`${name}: longer than ${longest} characters`, 'Give a shorter one.')
  }
  const [pod, direction, port, rule, sample] = ['pod', 'direction', 'port', 'rule', 'sample'].map((name) => query.get(name) ?? undefined)
  const [proto, family, from, to] = ['proto', 'family', 'from', 'to'].map((name) => query.get(name) ?? undefined)
  const addresses = {
    ...(family === undefined ? {} : { family: oneOf('family', family, families) }),
    ...(from === undefined ? {} : { from: cidrOf('from', from) }),
    ...(to === undefined ? {} : { to: cidrOf('to', to) }),
  }
  oneFamily(addresses)
  return {
    ...addresses,
    ...(pod === undefined ? {} : { pod }),
    ...(direction === undefined ? {} : { direction: oneOf('direction', direction, directions) }),
    ...(proto === undefined ? {} : { proto: oneOf('protocol', proto, protocols) }),
    verdicts: query.getAll('verdict').map((verdict) => oneOf('verdict', verdict, verdicts)),
    ...(port === undefined ? {} : { port: wholeNumber('port', port, 65535) }),
    ...(rule === undefined ? {} : { rule }),
    sample: sample === undefined ? 1 : wholeNumber('sample', sample, maxSample),
  }
}

function isIn(network: Cidr | undefined, text: string): boolean {
  if (network === undefined) return true
  const address = parseAddress(text)
  return address !== undefined && contains(network, address)
}

/** Everything but the sampling. */
export function wants(filter: EventFilter, event: EventView): boolean {
  return (
    (filter.pod === undefined || filter.pod === event.pod) &&
    (filter.direction === undefined || filter.direction === event.direction) &&
    (filter.proto === undefined || filter.proto === event.protocol) &&
    (filter.family === undefined || filter.family === event.family) &&
    isIn(filter.from, event.source.address) &&
    isIn(filter.to, event.destination.address) &&
    (filter.verdicts.length === 0 || filter.verdicts.includes(event.verdict)) &&
    (filter.port === undefined || filter.port === event.destination.port) &&
    (filter.rule === undefined || filter.rule === event.rule?.name)
  )
}
