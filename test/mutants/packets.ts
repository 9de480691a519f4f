/** The packets that the rules of a pod are about: by whom they speak of, to and from where, and what is next to it; no kernel is asked. */
import { destinations, destinations6, edgesOf, everybody, inboundPorts, outboundPorts, type Subject } from '../parity/random/worth.ts'
import { address } from '../parity/shape.ts'
import type { Packet } from './decide.ts'

/** Packets of each direction in a set: enough that what survives is equivalent, few enough for a unit test. */
const COUNT = { outbound: 150, inbound: 40 }

const own6 = address.POD6
const own: readonly string[] = [address.POD, address.POD2ND, address.PODNET2, address.ANYIP, address.POD2ND6, address.PODNET26, '::1', '::6', own6]

function deviceOf(to: string): string {
  if (to.startsWith('127.') || own.includes(to)) return 'lo'
  return to.startsWith('10.88.0.') || to.startsWith('fd00:88:') ? 'net2' : 'eth0'
}

type Pick = <T>(list: readonly T[]) => T

/** The same numbers in each run (Numerical Recipes' generator). */
function numbers(seed: number): Pick {
  let state = seed >>> 0
  return (list) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return list[Math.floor((state / 2 ** 32) * list.length)] as never
  }
}

const protocols = ['tcp', 'tcp', 'tcp', 'udp'] as const
const bounds = {
  ipv4: [undefined, undefined, undefined, '127.0.0.6', '127.0.0.1', address.POD],
  ipv6: [undefined, undefined, undefined, '::6', '::1', own6],
} as const

interface Owner {
  readonly uid: number
  readonly gid: number
  readonly mark?: number
}

/** Everybody as they are, and each user with each group and each mark. */
function owners(subject: Subject): (pick: Pick) => Owner {
  const all = everybody(subject).map(
    ({ as, creator = as, mark }): Owner => ({ uid: creator.uid, gid: creator.gid, ...(mark === undefined ? {} : { mark }) }),
  )
  const [uids, gids] = [[...new Set(all.map(({ uid }) => uid))], [...new Set(all.map(({ gid }) => gid))]]
  const marks = [...new Set(all.flatMap(({ mark = [] }) => mark)), undefined]
  return (pick) => {
    if (pick([true, false])) return pick(all)
    const [uid, gid, mark] = [pick(uids), pick(gids), pick(marks)]
    return { uid, gid, ...(mark === undefined ? {} : { mark }) }
  }
}

const isSix = (host: string) => host.includes(':')

/** Where 0.0.0.0 and :: lead. */
function routed(asked: string, bound: string | undefined): string {
  if (asked === '0.0.0.0') return bound ?? '127.0.0.1'
  return asked === '::' ? '::1' : asked
}

function outbound(subject: Subject, pick: Pick): () => Packet {
  const { nameservers, networks } = subject.interest
  const fours = destinations(subject)
  const sixes = ['fd00:96::10', '2001:db8::9', '::', '::1', own6, own6, ...edgesOf(networks, 6), ...nameservers.filter(isSix)]
  const where = [fours, [...fours, ...nameservers.filter((server) => !isSix(server))], [...sixes, ...destinations6(subject)]]
  const ports = [...outboundPorts(subject), 53]
  const owner = owners(subject)
  return () => {
    const asked = pick(pick(where))
    const bound = pick(isSix(asked) ? bounds.ipv6 : bounds.ipv4)
    const to = routed(asked, bound)
    const packet = { direction: 'outbound', proto: pick(protocols), to, port: pick(ports), device: deviceOf(to), ...owner(pick) } as const
    return bound === undefined ? packet : { ...packet, bound }
  }
}

function inbound(subject: Subject, pick: Pick): () => Packet {
  const { sources } = subject.interest
  const from = {
    ipv4: [address.PEER, address.VIP, address.SRC2ND, ...edgesOf(sources, 4)],
    ipv6: [address.PEER6, address.VIP6, address.SRC2ND6, ...edgesOf(sources, 6)],
  }
  const ports = [...inboundPorts(subject), 53]
  return () => {
    const to = pick([address.POD, address.PODNET2, own6])
    const bound = pick(isSix(to) ? from.ipv6 : from.ipv4)
    return { direction: 'inbound', proto: pick(protocols), to, port: pick(ports), bound, uid: 0, gid: 0, device: pick(['eth0', 'net2']) }
  }
}

export function packetsOf(subject: Subject, salt: number): readonly Packet[] {
  const pick = numbers(salt)
  const [out, back] = [outbound(subject, pick), inbound(subject, pick)]
  return [...Array.from({ length: COUNT.outbound }, out), ...Array.from({ length: COUNT.inbound }, back)]
}
