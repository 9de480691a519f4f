/** TCP by sockets of IPv6, to IPv6 and to mapped addresses; for pods of every kind, whatever they have of it. */
import { address, mapped, type Symbolic } from './addresses.ts'
import { type Clients, isMain } from './clients.ts'
import { fixedPort, identities } from './matrix.ts'
import type { Case, Endpoint } from './probe.ts'
import type { Kind } from './shape.ts'

/** An address or a symbol; "mapped X" for IPv4 on a socket of IPv6. */
type Destination = readonly [host: string, port: number]

const outside: readonly Destination[] = [
  ['PEER6', 8080],
  ['VIP6', 80],
  ['VIP6', 53],
  ['VIP6', 31000],
  ['VIP6', 15020],
  ['VIP6', 15008],
  ['PEER6', 15001],
  ['PEER6', 15006],
  ['PEER6', 9999],
  ['LOSTVIP6', 80],
  ['SRC2ND6', 80],
  ['NODE6', 9999],
  ['NET26', 80],
  ['VIP6', 0],
  ['PEERLINK', 8080],
  ['NOSCOPE', 8080],
  ['MULTICAST6', 80],
  ['THROW6', 80],
  ['THROW6', 15020],
  ['BLACKHOLE6', 80],
  ['UNREACHABLE6', 80],
  ['PROHIBIT6', 80],
  ['64:ff9b::a60:a', 80],
  ['::10.96.0.10', 80],
]

const local: readonly Destination[] = [
  ...[8080, 8081, 8082, 15008, 9999, 15001, 15006, 15020].map((port): Destination => ['POD6', port]),
  ['POD2ND6', 8080],
  ['PODNET26', 8080],
  ['PODLINK', 8080],
  ['ANYIP6', 8080],
  ...[8080, 8081, 8082, 9999, 15001, 15006].map((port): Destination => ['::1', port]),
  ['::1', 53],
  ['::6', 8080],
  ['::6', 15002],
  ['::', 8080],
  ['::', 9999],
  ['POD6', 0],
]

const mappedOnes: readonly Destination[] = [
  ...[80, 53, 15020, 0].map((port): Destination => ['mapped VIP', port]),
  ['mapped PEER', 8080],
  ['mapped LOSTVIP', 80],
  ['mapped SRC2ND', 80],
  ['mapped NET2', 80],
  ['mapped THROW', 80],
  ['mapped BLACKHOLE', 80],
  ['mapped PROHIBIT', 80],
  ['mapped BROADCAST', 80],
  ...[8080, 9999, 15001, 15006, 15008].map((port): Destination => ['mapped POD', port]),
  ['mapped POD2ND', 8080],
  ['mapped ANYIP', 8080],
  ...[8080, 9999, 15001].map((port): Destination => ['mapped 127.0.0.1', port]),
  ['mapped 127.0.0.9', 8080],
  ['mapped 127.0.0.6', 15002],
  ['mapped 0.0.0.0', 8080],
]

const plain: readonly Destination[] = [
  ['VIP', 80],
  ['VIP', 15020],
  ['POD', 8080],
  ['127.0.0.1', 8080],
  ['127.0.0.9', 8080],
]

export function hostOf(name: string): string {
  if (name.startsWith('mapped ')) return mapped(hostOf(name.slice(7)))
  return name in address ? address[name as Symbolic] : name
}

const endpoint = ([host, port]: Destination): Endpoint => [hostOf(host), port]

interface How {
  readonly name: string
  readonly change: (to: Endpoint, index: number) => Partial<Case>
}

/** A TCP socket keeps to the family that it first connected to: the kernel loses what it sends to the other one. */
const isMapped = ([host]: Endpoint) => host.startsWith('::ffff:')

const bound = (name: string, port?: true): How => ({
  name: `from ${name}${port ? ':port' : ''}`,
  change: (_, index) => ({ bind: [hostOf(name), port ? fixedPort(index) : 0] }),
})

const ways: readonly How[] = [
  bound('::', true),
  bound('::1'),
  bound('::6'),
  bound('POD6'),
  bound('POD6', true),
  bound('POD2ND6'),
  bound('PODNET26'),
  bound('mapped POD'),
  bound('mapped POD2ND'),
  bound('mapped 127.0.0.1'),
  bound('mapped 127.0.0.6'),
  bound('mapped 0.0.0.0', true),
  { name: 'by lo', change: () => ({ device: 'lo', alone: true }) },
  { name: 'IPv6 only', change: () => ({ v6only: true }) },
  { name: 'non-blocking', change: () => ({ nonblock: true }) },
  { name: 'fast open', change: () => ({ fastopen: true }) },
  { name: 'then outside and back', change: (to) => ({ to: [to, [isMapped(to) ? mapped(address.VIP) : address.VIP6, 80], to] }) },
  { name: 'then own and back', change: (to) => ({ to: [to, [isMapped(to) ? mapped('127.0.0.1') : '::1', 8080], to] }) },
  { name: 'from POD6, then own address', change: (to) => ({ bind: [address.POD6, 0], to: [to, [address.POD6, 8080]] }) },
]

const varied: readonly Destination[] = [
  ['VIP6', 80],
  ['VIP6', 15020],
  ['LOSTVIP6', 80],
  ['SRC2ND6', 80],
  ['THROW6', 80],
  ['PEERLINK', 8080],
  ['POD6', 8080],
  ['POD6', 9999],
  ['ANYIP6', 8080],
  ['::1', 8080],
  ['::1', 15001],
  ['::', 8080],
  ['mapped VIP', 80],
  ['mapped SRC2ND', 80],
  ['mapped POD', 8080],
  ['mapped 127.0.0.1', 8080],
  ['mapped 127.0.0.9', 8080],
  ['mapped THROW', 80],
]

const others: readonly Destination[] = [
  ['VIP6', 80],
  ['POD6', 8080],
  ['::6', 8080],
  ['ANYIP6', 8080],
  ['mapped VIP', 80],
  ['mapped POD', 8080],
  ['mapped 127.0.0.9', 8080],
]

/** Of those that come with the rules of a mesh. */
const rareOthers: readonly Destination[] = [
  ['VIP6', 80],
  ['POD6', 8080],
  ['mapped VIP', 80],
  ['mapped POD', 8080],
  ['mapped 127.0.0.9', 8080],
]

/** Waits for what does not come: a link-local source does not get on with ::1, nor a loopback source with what is outside. */
const silent = /LINK| from ::[16]$/

/** Connections of sockets of IPv6 (but for a few plain ones); `thorough`: by every way too. */
export function familyCases(kind: Kind, thorough: boolean, clients: Clients = identities): readonly Case[] {
  const cases: Case[] = []
  const add = (who: string, { rare: _, ...client }: Clients[string], destination: Destination, way?: How) => {
    const to = endpoint(destination)
    const id = `${who} -> ${destination.join(':')}${way === undefined ? '' : ` ${way.name}`}`
    cases.push({ id, ...client, to: [to], ...(silent.test(id) ? { alone: true } : {}), ...way?.change(to, cases.length) })
  }
  const [main, besides] = [Object.entries(clients).filter(([name]) => isMain(name)), Object.entries(clients).filter(([name]) => !isMain(name))]
  for (const [who, client] of main) for (const destination of [...outside, ...local, ...mappedOnes, ...plain]) add(who, client, destination)
  for (const [who, client] of besides) for (const destination of client.rare ? rareOthers : others) add(who, client, destination)
  if (thorough) for (const [who, client] of main) for (const way of ways) for (const destination of varied) add(who, client, destination, way)
  const pointless = { v4: /LINK/, v6: /mapped .* by lo$/, dual: /^$/ }[kind]
  return cases.filter(({ id }) => !pointless.test(id))
}

const inboundPorts = [80, 8080, 8081, 9999, 22, 15001, 15006, 15008, 15020, 15021, 15090]

/** Connections that reach the pod; of link-local addresses only the peer's interface has the name that cases use. */
export function inboundFamilyCases(kind: Kind, from: 'peer' | 'node' | 'self'): readonly Case[] {
  const hosts = ['POD6', ...(kind === 'v6' ? [] : ['mapped POD']), ...(from === 'node' || kind === 'v4' ? [] : ['PODLINK'])]
  const some: readonly Destination[] = [
    ...hosts.flatMap((host) => (host === 'POD6' ? inboundPorts : [8080, 9999, 15020]).map((port): Destination => [host, port])),
    ['POD2ND6', 8080],
    ['PODNET26', 8080],
    ...(kind === 'v6' ? [] : [['POD', 8080] as const]),
  ]
  return some.flatMap((destination, index) => {
    const base = { as: { uid: 0, gid: 0 }, to: [endpoint(destination)] }
    const id = `${from} => ${destination.join(':')}`
    if (destination[1] !== 8080) return [{ id, ...base }]
    return [
      { id, ...base },
      { id: `${id} non-blocking`, ...base, nonblock: true },
      { id: `${id} fast open`, ...base, fastopen: true },
      { id: `${id} again`, ...base, to: [...base.to, ...base.to] },
      { id: `${id} from port`, ...base, bind: [destination[0] === 'POD' ? '0.0.0.0' : '::', fixedPort(index)] },
    ]
  })
}
