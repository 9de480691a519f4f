/** What an interception decides, by reading its rules as docs say they are meant: no compiler, no maps. Rules are judged one by one, so that their order can be changed. */
import type { Interception, Match, Rule, SetSpec } from '../../core/plugin.ts'
import { endpointText } from '../parity/addresses.ts'
import { within } from '../parity/networks.ts'
import type { FirstPacket } from '../parity/tables.ts'

/** `to`: 0.0.0.0 and :: have become what routing makes of them; IPv6 has a colon. `device`: lo for the pod's own addresses. `bound`: inbound, the source. */
export interface Packet extends FirstPacket {
  readonly direction: 'outbound' | 'inbound'
}

const list = (names: string | readonly string[] | undefined): readonly string[] =>
  names === undefined ? [] : typeof names === 'string' ? [names] : names

function inRange(value: number, specs: readonly (number | string)[] = []): boolean {
  return specs.some((spec) => {
    if (spec === '*') return true
    const [low, high = low] = String(spec).split('-').map(Number)
    return value >= (low as number) && value <= (high as number)
  })
}

const inNetwork = (address: string, cidrs: readonly string[] = []) => cidrs.some((cidr) => cidr === '*' || within(address, cidr))

type Use = 'port' | 'to' | 'from'

const isMarked = (mark: number, masks: SetSpec['mark'] = []) => masks.some(({ value, mask }) => (mark & mask) >>> 0 === value >>> 0)

/** A name that ends in '+' stands for all that begin so, as in iptables. */
const isBy = (device: string, names: readonly string[] = []) =>
  names.some((name) => (name.endsWith('+') ? device.startsWith(name.slice(0, -1)) : device === name))

function member(use: Use, spec: SetSpec, packet: Packet): boolean {
  const { to, port, bound = '', uid, gid, mark = 0, device } = packet
  if (use === 'port') return inRange(port, spec.ports)
  const byInterface = isBy(device, spec.interfaces)
  if (use === 'to') return inNetwork(to, spec.cidrs) || byInterface
  const bySource = bound !== '' && inNetwork(bound, spec.cidrs)
  if (packet.direction === 'inbound') return byInterface || bySource
  return inRange(uid, spec.uid) || inRange(gid, spec.gid) || isMarked(mark, spec.mark) || bySource
}

const facts: Readonly<Record<string, (packet: Packet) => boolean>> = {
  'to pod': ({ direction, device }) => direction === 'inbound' || device === 'lo',
  'to loopback': ({ to }) => to === '127.0.0.1' || to === '::1',
  'from passthrough': ({ direction, bound }) => direction === 'outbound' && (bound === '127.0.0.6' || bound === '::6'),
  'from loopback': ({ direction, bound = '' }) => direction === 'outbound' && bound !== '127.0.0.6' && (bound.startsWith('127.') || bound === '::1'),
}

function conditions(match: Match, sets: Interception['sets'] = {}, packet: Packet): readonly boolean[] {
  const named = (use: Use) =>
    list(match[use]).map((name) => {
      const fact = facts[`${use} ${name}`]
      if (fact !== undefined) return fact(packet)
      const spec = sets[name]
      if (spec === undefined) throw new Error(`no set ${name}`)
      return member(use, spec, packet)
    })
  const six = packet.to.includes(':')
  return [
    ...(match.proto === undefined ? [] : [match.proto === packet.proto]),
    ...(match.family === undefined ? [] : [(match.family === 'ipv6') === six]),
    ...named('port'),
    ...named('to'),
    ...named('from'),
  ]
}

export function matches({ sets }: Interception, rule: Rule, packet: Packet): boolean {
  return conditions(rule.when ?? {}, sets, packet).every(Boolean) && !conditions(rule.unless ?? {}, sets, packet).some(Boolean)
}

const localhost: readonly string[] = ['127.0.0.1', '::1']

/** 'pass', 'drop', 'refused', the port of the proxy, or ADDRESS:PORT ([ADDRESS]:PORT) of another target. Inbound only a target's port counts. */
export function verdict({ targets = {} }: Interception, then: string | undefined, packet: Packet): string {
  if (then === undefined || then === 'pass') return 'pass'
  if (then === 'drop') return 'drop'
  const target = targets[then]
  if (target === undefined) throw new Error(`no target ${then}`)
  const address = packet.to.includes(':') ? target.ipv6 : target.ipv4
  if (address === false) return 'refused'
  const port = target.port ?? packet.port
  return packet.direction === 'inbound' || address === undefined || localhost.includes(address) ? String(port) : endpointText(address, port)
}
