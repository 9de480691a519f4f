/** What an interception decides, by reading its rules as docs say they are meant: no compiler, no maps. Rules are judged one by one, so that their order can be changed. */
import type { Interception, Match, Rule, SetSpec } from '../../core/plugin.ts'
import { within } from '../parity/networks.ts'
import type { FirstPacket } from '../parity/tables.ts'

/** `to`: 0.0.0.0 and :: have become what routing makes of them; IPv6 has a colon. `device`: lo for the pod's own addresses. */
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

function member(use: Use, spec: SetSpec, packet: Packet): boolean {
  const { to, port, bound = '', uid, gid, device } = packet
  if (use === 'port') return inRange(port, spec.ports)
  const byInterface = (spec.interfaces ?? []).includes(device)
  if (use === 'to') return inNetwork(to, spec.cidrs) || byInterface
  const owner = inRange(uid, spec.uid) || inRange(gid, spec.gid)
  return packet.direction === 'inbound' ? byInterface : owner || (bound !== '' && inNetwork(bound, spec.cidrs))
}

const facts: Readonly<Record<string, (packet: Packet) => boolean>> = {
  'to pod': ({ direction, device }) => direction === 'inbound' || device === 'lo',
  'to loopback': ({ to }) => to === '127.0.0.1' || to === '::1',
  'from passthrough': ({ bound }) => bound === '127.0.0.6' || bound === '::6',
  'from loopback': ({ bound = '' }) => bound !== '127.0.0.6' && (bound.startsWith('127.') || bound === '::1'),
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

/** 'pass', 'drop', 'refused', or the port of the proxy. */
export function verdict({ targets = {} }: Interception, then: string | undefined, packet: Packet): string {
  if (then === undefined || then === 'pass') return 'pass'
  if (then === 'drop') return 'drop'
  const target = targets[then]
  if (target === undefined) throw new Error(`no target ${then}`)
  const address = packet.to.includes(':') ? target.ipv6 : target.ipv4
  return address === false ? 'refused' : String(target.port ?? packet.port)
}
