/** The cases: who connects, how, and where to. The same list runs in both columns. */
import { type Clients, clientsOf, isMain, root } from './clients.ts'
import type { Case, Endpoint } from './probe.ts'
import { address, istioLayout, type Symbolic } from './shape.ts'

/** Istio's. */
export const identities: Clients = clientsOf(istioLayout)

type Destination = readonly [host: Symbolic | `127.${string}` | '0.0.0.0', port: number]

const outside: readonly Destination[] = [
  ['PEER', 8080],
  ['VIP', 80],
  ['VIP', 53],
  ['VIP', 31000],
  ['VIP', 15020],
  ['VIP', 15008],
  ['PEER', 15001],
  ['PEER', 15006],
  ['PEER', 9999],
  ['LOSTVIP', 80],
  ['SRC2ND', 80],
  ['NODE', 9999],
  ['NET2', 80],
  ['VIP', 0],
]

const withoutRoute: readonly Destination[] = [
  ['THROW', 80],
  ['BLACKHOLE', 80],
  ['UNREACHABLE', 80],
  ['PROHIBIT', 80],
  ['SUBNETCAST', 80],
  ['BROADCAST', 80],
  ['MULTICAST', 80],
  ['THROW', 15020],
]

const local: readonly Destination[] = [
  ['POD', 8080],
  ['POD', 15008],
  ['POD', 9999],
  ['POD', 15001],
  ['POD', 15006],
  ['POD', 15020],
  ['POD2ND', 8080],
  ['PODNET2', 8080],
  ['ANYIP', 8080],
  ['127.0.0.1', 8080],
  ['127.0.0.1', 9999],
  ['127.0.0.1', 15001],
  ['127.0.0.1', 15006],
  ['127.0.0.9', 8080],
  ['127.0.0.6', 15002],
  ['127.0.0.53', 53],
  ['0.0.0.0', 8080],
  ['POD', 0],
]

/** Ports of the pod that its neighbours try. */
const inboundPorts = [80, 8080, 9999, 22, 15001, 15006, 15008, 15020, 15021, 15090]

interface How {
  readonly name: string
  readonly change: (to: Endpoint, index: number) => Partial<Case>
}

/** A port of its own for every case, so that none meets the TIME_WAIT of another. */
export const fixedPort = (index: number) => 20_000 + index

const ways: readonly How[] = [
  { name: 'from 127.0.0.6', change: () => ({ bind: ['127.0.0.6', 0] }) },
  { name: 'from 127.0.0.1', change: () => ({ bind: ['127.0.0.1', 0] }) },
  { name: 'from POD', change: () => ({ bind: [address.POD, 0] }) },
  { name: 'from POD:port', change: (_, index) => ({ bind: [address.POD, fixedPort(index)] }) },
  { name: 'from POD2ND', change: () => ({ bind: [address.POD2ND, 0] }) },
  { name: 'from PODNET2', change: () => ({ bind: [address.PODNET2, 0] }) },
  { name: 'from 0.0.0.0:port', change: (_, index) => ({ bind: ['0.0.0.0', fixedPort(index)] }) },
  { name: 'by eth0', change: () => ({ device: 'eth0', alone: true }) },
  { name: 'by lo', change: () => ({ device: 'lo', alone: true }) },
  { name: 'non-blocking', change: () => ({ nonblock: true }) },
  { name: 'fast open', change: () => ({ fastopen: true }) },
  { name: 'again', change: (to) => ({ to: [to, to] }) },
  { name: 'then loopback and back', change: (to) => ({ to: [to, ['127.0.0.1', 8080], to] }) },
  { name: 'then outside and back', change: (to) => ({ to: [to, [address.VIP, 80], to] }) },
  { name: 'from POD, then own address', change: (to) => ({ bind: [address.POD, 0], to: [to, [address.POD, 8080]] }) },
  { name: 'from 0.0.0.0:port, again', change: (to, index) => ({ bind: ['0.0.0.0', fixedPort(index)], to: [to, to] }) },
]

/** Destinations that every way of connecting is tried with. */
const varied: readonly Destination[] = [
  ['PEER', 8080],
  ['VIP', 80],
  ['VIP', 15020],
  ['LOSTVIP', 80],
  ['SRC2ND', 80],
  ['THROW', 80],
  ['POD', 8080],
  ['POD', 9999],
  ['POD2ND', 8080],
  ['ANYIP', 8080],
  ['127.0.0.1', 8080],
  ['127.0.0.1', 15001],
  ['127.0.0.9', 8080],
  ['0.0.0.0', 8080],
]

/** By way of eth0 these end in an error or in silence, by the timing of neighbour resolution and of the replies' routing. */
const silentOnDevice = ['ANYIP', 'THROW']

function endpoint([host, port]: Destination): Endpoint {
  return [host in address ? address[host as Symbolic] : host, port]
}

/** What tells those apart that are neither the app nor the proxy, nor one of the test's usual clients. */
const few: readonly Destination[] = [
  ['VIP', 80],
  ['VIP', 53],
  ['VIP', 15020],
  ['SRC2ND', 80],
  ['POD', 8080],
  ['PODNET2', 8080],
  ['ANYIP', 8080],
  ['127.0.0.1', 8080],
  ['127.0.0.9', 8080],
]

/** Connections that the pod makes; `thorough`: by every way too. */
export function outboundCases(clients: Clients = identities, thorough = true): readonly Case[] {
  const cases: Case[] = []
  for (const [who, { rare, ...client }] of Object.entries(clients)) {
    for (const destination of rare ? few : [...outside, ...withoutRoute, ...local]) {
      cases.push({ id: `${who} -> ${destination.join(':')}`, ...client, to: [endpoint(destination)] })
    }
  }
  for (const [who, { rare: _, ...client }] of Object.entries(clients).filter(([name]) => thorough && isMain(name))) {
    for (const way of ways) {
      for (const destination of varied) {
        if (way.name === 'by eth0' && silentOnDevice.includes(destination[0])) continue
        const to = endpoint(destination)
        const id = `${who} -> ${destination.join(':')} ${way.name}`
        cases.push({ id, ...client, to: [to], ...way.change(to, cases.length) })
      }
    }
  }
  return cases
}

/** Connections that reach the pod: the same list is run by another pod, by the node, and by the pod itself. */
export function inboundCases(from: 'peer' | 'node' | 'self'): readonly Case[] {
  const cases: Case[] = []
  for (const to of ['POD', 'POD2ND'] as const) {
    for (const port of inboundPorts) {
      const base = { as: root, to: [[address[to], port]] as const }
      const id = `${from} => ${to}:${port}`
      cases.push({ id, ...base })
      if (port === 8080 || port === 9999 || port === 15020) {
        cases.push({ id: `${id} non-blocking`, ...base, nonblock: true })
        cases.push({ id: `${id} fast open`, ...base, fastopen: true })
        cases.push({ id: `${id} again`, ...base, to: [...base.to, ...base.to] })
        cases.push({ id: `${id} from 0.0.0.0:port`, ...base, bind: ['0.0.0.0', fixedPort(cases.length)] })
      }
    }
  }
  cases.push({ id: `${from} => PODNET2:8080`, as: root, to: [[address.PODNET2, 8080]] })
  return cases
}
