/** What a set's pod is asked besides plain IPv4: IPv6, mapped addresses, and UDP by each kind of socket. */
import { address, mapped } from '../addresses.ts'
import type { DatagramCase, Do } from '../exchange.ts'
import type { Case, Endpoint } from '../probe.ts'
import type { Kind } from '../shape.ts'
import { choose } from './connections.ts'
import { destinations6, everybody, few, local6, openPorts, outboundPorts, reachable, type Subject, shown } from './worth.ts'

const COUNT = { connections: { v4: 40, dual: 40, v6: 110 }, datagrams: 20 }

const hosts4 = [...(['PEER', 'VIP', 'SRC2ND', 'POD', 'POD2ND'] as const).map((symbol) => address[symbol]), '127.0.0.1', '127.0.0.9', '0.0.0.0']

const ways6: Readonly<Record<string, Partial<Case>>> = {
  '': {},
  ' ': {},
  ' from POD6': { bind: [address.POD6, 0] },
  ' from PODNET26': { bind: [address.PODNET26, 0] },
  ' non-blocking': { nonblock: true },
}
/** Of no use but within the pod: outside nothing answers them. */
const localWays6: Readonly<Record<string, Partial<Case>>> = { ...ways6, ' from ::6': { bind: ['::6', 0] } }
/** Linux drops the reset of a closed port to ::1, and the client would wait in vain. */
const openWays6: Readonly<Record<string, Partial<Case>>> = { ...localWays6, ' from ::1': { bind: ['::1', 0] } }

const waysTo = (host: string, port: number, open: ReadonlySet<number>) => (!local6.includes(host) ? ways6 : open.has(port) ? openWays6 : localWays6)
const mappedWays: Readonly<Record<string, Partial<Case>>> = {
  '': {},
  ' ': {},
  ' from mapped POD': { bind: [mapped(address.POD), 0] },
  ' from mapped 127.0.0.6': { bind: [mapped('127.0.0.6'), 0] },
  ' non-blocking': { nonblock: true },
}

/** Connections by sockets of IPv6. */
export function sixCases(subject: Subject, kind: Kind, salt: number): readonly Case[] {
  const open = openPorts(subject)
  const sixes = kind === 'v4' ? ['::1', address.VIP6] : destinations6(subject)
  const hosts = [
    ...sixes.map((host) => ({ host, name: shown(host), ways: (port: number) => waysTo(host, port, open) })),
    ...(kind === 'v6' ? [] : hosts4).map((host) => ({ host: mapped(host), name: `mapped ${shown(host)}`, ways: () => mappedWays })),
  ]
  const ports = [...outboundPorts(subject), 53].filter((port) => port !== 0)
  const cases = everybody(subject).flatMap(({ name: who, ...as }) =>
    hosts.flatMap(({ host, name, ways }) =>
      ports.flatMap((port) =>
        Object.entries(ways(port)).map(([way, change]) => ({
          id: `${who} -> ${name}:${port}${way.trimEnd()}`,
          ...as,
          to: [[host, port]] as const,
          ...change,
        })),
      ),
    ),
  )
  return choose(cases, COUNT.connections[kind], salt)
}

/** Ports that have a server everywhere, so that no case waits for an answer. */
const serverPorts = [53, 53, 5353, 8080, 15020]

interface Server {
  readonly name: string
  readonly family: 4 | 6
  readonly host: string
}

const isSix = (host: string) => host.includes(':')

/** The usual ones of the test's network, and those that the rules name. */
function servers({ interest }: Subject, kind: Kind): readonly Server[] {
  const known = few(interest.nameservers, 6).filter(reachable)
  const fours = [address.VIP, address.PEER, address.SRC2ND, address.POD, '127.0.0.1', '127.0.0.53', ...known.filter((host) => !isSix(host))]
  const sixes = [address.VIP6, address.PEER6, address.SRC2ND6, address.POD6, '::1', ...known.filter(isSix)]
  return [
    ...(kind === 'v6' ? ['127.0.0.1'] : fours).flatMap((host): Server[] => [
      { name: shown(host), family: 4, host },
      { name: `mapped ${shown(host)}`, family: 6, host: mapped(host) },
    ]),
    ...(kind === 'v4' ? [] : sixes).map((host): Server => ({ name: shown(host), family: 6, host })),
  ]
}

const scripts: Readonly<Record<string, (to: Endpoint, other: Endpoint) => readonly Do[]>> = {
  connected: (to) => [{ do: 'connect', to }, { do: 'names' }, { do: 'send', data: 'q1' }, { do: 'recv' }],
  unconnected: (to) => [{ do: 'sendto', data: 'q1', to }, { do: 'recv' }, { do: 'names' }],
  'and another': (to, other) => [
    { do: 'sendto', data: 'q1', to },
    { do: 'sendto', data: 'q2', to: other },
    { do: 'recv', count: 2 },
    { do: 'sendto', data: 'q3', to },
    { do: 'recv' },
  ],
}

export function datagramsFor(subject: Subject, kind: Kind, salt: number): readonly DatagramCase[] {
  if (!subject.interest.udp) return []
  const all = servers(subject, kind)
  const cases = everybody(subject).flatMap(({ name: who, ...as }) =>
    all.flatMap(({ name, family, host }, index) =>
      serverPorts.flatMap((port) =>
        Object.entries(scripts).map(([script, steps]): DatagramCase => {
          const { host: next } = all.slice(index + 1).find((each) => each.family === family) ?? { host }
          return { id: `udp ${who} -> ${name}:${port} ${script}`, ...as, family, steps: steps([host, port], [next, 53]) }
        }),
      ),
    ),
  )
  return choose(cases, COUNT.datagrams, salt)
}
