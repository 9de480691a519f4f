/** UDP cases: resolvers as they are written (connected, one socket for all servers, several sockets), and what may be wrong with them. */

import { type Clients, isMain } from './clients.ts'
import type { DatagramCase, Do } from './exchange.ts'
import { hostOf } from './families.ts'
import { identities } from './matrix.ts'
import type { Endpoint } from './probe.ts'
import { app } from './shape.ts'

/** How a socket speaks: IPv4, IPv6, or IPv4 with a socket of IPv6. */
type Flavour = 'v4' | 'v6' | 'mapped'

const twins: Readonly<Record<string, string>> = { '127.0.0.1': '::1', '127.0.0.53': '::6', '0.0.0.0': '::' }

function host(flavour: Flavour, name: string): string {
  if (flavour === 'v4') return hostOf(name)
  if (flavour === 'mapped') return hostOf(`mapped ${name}`)
  return hostOf(name.includes(':') ? name : (twins[name] ?? `${name}6`))
}

/** Steps are written with the names of IPv4 addresses. */
type To = readonly [host: string, port: number]

const connect = (to: To): Do => ({ do: 'connect', to })
const send = (data: string): Do => ({ do: 'send', data })
const sendto = (data: string, to: To, source?: string): Do => ({ do: 'sendto', data, to, ...(source === undefined ? {} : { source }) })
const recv = (count = 1): Do => ({ do: 'recv', count })
const on = (socket: number, step: Do): Do => ({ ...step, on: socket })
const names: Do = { do: 'names' }
const disconnect: Do = { do: 'disconnect' }
const errors: Do = { do: 'want', what: 'errors' }
const info: Do = { do: 'want', what: 'info' }

const first: To = ['VIP', 53]
const second: To = ['PEER', 53]
const third: To = ['SRC2ND', 53]
const other: To = ['VIP', 5353]
const excluded: To = ['VIP', 15020]

interface Script {
  readonly steps: readonly Do[]
  readonly bind?: To
  /** A port of its own in place of 0. */
  readonly port?: true
  readonly sockets?: number
  /** An answer does not come, or not always: the first one after a disconnect of IPv6 is lost anyhow. */
  readonly silent?: true
}

const query = (data: string) => [send(data), recv()]
const queryTo = (data: string, to: To) => [sendto(data, to), recv()]

const scripts: Readonly<Record<string, Script>> = {
  connected: { steps: [connect(first), names, ...query('q1'), names, ...query('q2')] },
  'one server after another': { steps: [connect(first), ...query('q1'), disconnect, names, connect(second), ...query('q2'), names] },
  'another server without a disconnect': { steps: [connect(first), ...query('q1'), connect(third), names, ...query('q2'), names] },
  'to and from a server that is not captured': {
    steps: [connect(first), ...query('q1'), connect(other), names, ...query('q2'), connect(first), ...query('q3'), names],
  },
  'disconnected, then unconnected': {
    silent: true,
    steps: [connect(first), ...query('q1'), disconnect, ...queryTo('q2', second), ...queryTo('q3', first), names],
  },
  unconnected: { steps: [...queryTo('q1', first), names, ...queryTo('q2', first), names] },
  'several servers': {
    steps: [sendto('q1', first), sendto('q2', second), sendto('q3', third), recv(3), ...queryTo('q4', second), ...queryTo('q5', first)],
  },
  'several servers, alternating': {
    steps: [...queryTo('q1', second), ...queryTo('q2', first), ...queryTo('q3', second), ...queryTo('q4', third), ...queryTo('q5', first), names],
  },
  'several servers by sendmmsg': {
    steps: [
      {
        do: 'several',
        datagrams: [
          ['q1', ...first],
          ['q2', ...second],
          ['q3', ...other],
          ['q4', ...first],
        ],
      },
      recv(4),
    ],
  },
  'captured and not': { steps: [sendto('q1', first), sendto('q2', other), sendto('q3', excluded), recv(3), ...queryTo('q4', first)] },
  'not captured first': { steps: [...queryTo('q1', other), ...queryTo('q2', first), ...queryTo('q3', second), names] },
  'connected, with an address': { steps: [connect(first), ...query('q1'), ...queryTo('q2', first), names] },
  'connected, another address': { silent: true, steps: [connect(first), ...queryTo('q1', second), names, ...query('q2')] },
  'connected later': { steps: [...queryTo('q1', first), connect(first), names, ...query('q2')] },
  'connected later to another server': {
    silent: true,
    steps: [...queryTo('q1', first), connect(second), names, ...query('q2'), disconnect, ...queryTo('q3', first)],
  },
  'two sockets': {
    sockets: 2,
    steps: [sendto('q1', first), on(1, sendto('r1', first)), sendto('q2', second), on(1, sendto('r2', second)), recv(2), on(1, recv(2))],
  },
  'two sockets, one connected': {
    sockets: 2,
    steps: [connect(first), on(1, sendto('r1', first)), send('q1'), on(1, sendto('r2', second)), recv(), on(1, recv(2)), on(1, names)],
  },
  "arrival's address": { steps: [info, ...queryTo('q1', first), ...queryTo('q2', second), ...queryTo('q3', other)] },
  "arrival's address, connected": { steps: [info, connect(first), ...query('q1')] },
  SO_ORIGINAL_DST: { steps: [connect(first), { do: 'origin' }] },
  'source by message': { steps: [sendto('q1', first, 'POD'), recv(), sendto('q2', second, 'POD2ND'), recv(), sendto('q3', first, 'POD2ND'), recv()] },
  'source by message, loopback': { silent: true, steps: [sendto('q1', first, '127.0.0.1'), recv()] },
  'source by message, not its own': { steps: [sendto('q1', first, 'PEER')] },
  'from its address': { silent: true, bind: ['POD', 0], steps: [connect(first), names, ...query('q1'), disconnect, ...queryTo('q2', second), names] },
  'from its second address': {
    bind: ['POD2ND', 0],
    steps: [...queryTo('q1', first), ...queryTo('q2', second), connect(first), names, ...query('q3')],
  },
  'from its address and a port': {
    bind: ['POD', 0],
    port: true,
    steps: [...queryTo('q1', first), ...queryTo('q2', third), connect(second), ...query('q3'), names],
  },
  'from loopback': { silent: true, bind: ['127.0.0.1', 0], steps: [...queryTo('q1', first), connect(first), names, ...query('q2')] },
  'from any address': { bind: ['0.0.0.0', 0], steps: [connect(first), names, ...query('q1'), names] },
  'from a port': { bind: ['0.0.0.0', 0], port: true, steps: [connect(first), names, ...query('q1'), names] },
  'from a port, unconnected': {
    bind: ['0.0.0.0', 0],
    port: true,
    steps: [...queryTo('q1', first), ...queryTo('q2', second), names, ...queryTo('q3', other)],
  },
  'port 0': { steps: [sendto('q1', ['VIP', 0]), connect(['VIP', 0]), names, send('q2')] },
  'with errors wanted': { silent: true, steps: [errors, connect(first), ...query('q1'), disconnect, ...queryTo('q2', second), { do: 'errqueue' }] },
}

const destinations: readonly To[] = [
  first,
  third,
  other,
  excluded,
  ['LOSTVIP', 53],
  ['LOSTVIP', 5353],
  ['NET2', 53],
  ['THROW', 53],
  ['THROW', 5353],
  ['BLACKHOLE', 53],
  ['UNREACHABLE', 53],
  ['PROHIBIT', 53],
  ['POD', 53],
  ['POD', 5353],
  ['POD', 9999],
  ['POD2ND', 53],
  ['ANYIP', 53],
  ['127.0.0.1', 53],
  ['127.0.0.1', 5353],
  ['127.0.0.1', 15053],
  ['127.0.0.53', 53],
  ['0.0.0.0', 53],
  ['0.0.0.0', 5353],
]

const onlyV4: readonly To[] = [
  ['SUBNETCAST', 53],
  ['BROADCAST', 53],
  ['MULTICAST', 53],
]

/** Where several may answer, and chance decides who is first. */
const crowded = /^MULTICAST/

/** Where nobody may answer an unconnected socket. */
const quiet = /LOSTVIP|NET2|9999|BROADCAST|MULTICAST|SUBNETCAST/

const single = (to: To): Readonly<Record<string, Script>> => {
  const silent = quiet.test(to.join(':')) ? ({ silent: true } as const) : {}
  return {
    [`${to.join(':')} connected`]: { ...silent, steps: [errors, connect(to), names, ...query('q1'), { do: 'errqueue' }] },
    ...(crowded.test(to[0]) ? {} : { [`${to.join(':')} unconnected`]: { ...silent, steps: [...queryTo('q1', to), names] } }),
  }
}

/** When there is no DNS proxy. */
const unanswered: Readonly<Record<string, Script>> = {
  connected: { silent: true, steps: [connect(first), send('q1'), recv(), send('q2'), recv(), names, { do: 'errqueue' }] },
  unconnected: { silent: true, steps: [...queryTo('q1', first), ...queryTo('q2', second), { do: 'errqueue' }] },
  'unconnected, with errors wanted': { silent: true, steps: [errors, ...queryTo('q1', first), { do: 'errqueue' }, { do: 'errqueue' }] },
  'several, with errors wanted': {
    silent: true,
    steps: [errors, ...queryTo('q1', first), { do: 'errqueue' }, ...queryTo('q2', second), { do: 'errqueue' }],
  },
  'connected, with errors wanted': { silent: true, steps: [errors, connect(first), ...query('q1'), { do: 'errqueue' }, { do: 'errqueue' }] },
  'connected to one that is not captured': { silent: true, steps: [connect(first), ...query('q1'), connect(other), ...query('q2'), names] },
}

/** The steps with real addresses. */
function translated(flavour: Flavour, step: Do): Do {
  const real = ([name, port]: Endpoint): Endpoint => [host(flavour, name), port]
  if (step.do === 'connect') return { ...step, to: real(step.to) }
  if (step.do === 'several') return { ...step, datagrams: step.datagrams.map(([data, ...to]) => [data, ...real(to)] as const) }
  if (step.do === 'sendto') return { ...step, to: real(step.to), ...(step.source === undefined ? {} : { source: host(flavour, step.source) }) }
  return step
}

export interface DatagramChoice {
  readonly flavours: readonly Flavour[]
  /**
   * The first of the ports that cases bind: another one for each set-up of a mesh, so that none meets what conntrack remembers, and none that the kernel
   * chooses by itself (32768 and more), or an answer that another socket did not wait for would come to this one.
   */
  readonly ports: number
  readonly unanswered?: true
}

/** Two families with one socket of IPv6. */
const mixed: readonly DatagramCase[] = ['VIP6', 'mapped VIP'].map((start, index) => {
  const [one, two]: readonly [Endpoint, Endpoint] = [
    [hostOf(start), 53],
    [hostOf(['mapped VIP', 'VIP6'][index] ?? ''), 53],
  ]
  const steps = [
    ...queryTo('q1', one),
    ...queryTo('q2', two),
    sendto('q3', one),
    sendto('q4', two),
    recv(2),
    connect(two),
    names,
    ...query('q5'),
    names,
  ]
  return { id: `udp app -> both families from ${start}`, as: app, family: 6, steps }
})

/** Of a mesh: who asks, and servers besides the usual ones (addresses). */
export interface Asking {
  readonly clients?: Clients
  readonly servers?: readonly string[]
}

const speaks = (flavour: Flavour, server: string) => (flavour === 'v6') === server.includes(':')

export function datagramCases({ flavours, ports, unanswered: without }: DatagramChoice, asking: Asking = {}): readonly DatagramCase[] {
  const { clients = identities, servers = [] } = asking
  const cases: DatagramCase[] = []
  const add = (who: string, flavour: Flavour, all: Readonly<Record<string, Script>>) => {
    const { rare: _, ...client } = clients[who] ?? { as: app }
    for (const [name, { steps, bind, port, sockets, silent }] of Object.entries(all)) {
      cases.push({
        id: `udp ${who} -> ${flavour} ${name}`,
        ...client,
        family: flavour === 'v4' ? 4 : 6,
        ...(bind === undefined ? {} : { bind: [host(flavour, bind[0]), port ? ports + cases.length : 0] as const }),
        ...(sockets === undefined ? {} : { sockets }),
        ...(silent ? { alone: true } : {}),
        steps: steps.map((step) => translated(flavour, step)),
      })
    }
  }
  for (const flavour of flavours) {
    if (without) {
      add('app', flavour, unanswered)
      continue
    }
    const more = servers.filter((server) => speaks(flavour, server)).map((server): To => [server, 53])
    add('app', flavour, scripts)
    for (const who of ['app', 'proxy'])
      for (const to of [...destinations, ...more, ...(flavour === 'v4' ? onlyV4 : [])]) add(who, flavour, single(to))
    for (const who of Object.keys(clients).filter((name) => !isMain(name)))
      for (const to of [first, ['127.0.0.53', 53], ['POD', 53], ...more] as const) add(who, flavour, single(to))
  }
  return flavours.length === 3 && !without ? [...cases, ...mixed] : cases
}
