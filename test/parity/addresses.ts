/** The addresses of the parity tests by the names that cases and results use. Every IPv4 address has its twin. */
export const address = {
  POD: '10.77.0.20',
  POD2ND: '10.77.0.21',
  /** On the pod's second interface, and the source of its routes there. */
  PODNET2: '10.88.0.1',
  PEER: '10.77.0.30',
  NODE: '10.77.0.1',
  /** Services: the first one is answered by the peer, the second one by nobody (the node resets it). */
  VIP: '10.96.0.10',
  LOSTVIP: '10.96.0.99',
  /** A whole network that is local to the pod without being an address of an interface. */
  ANYIP: '10.55.1.2',
  /** Behind the pod's second interface: the node, where nobody listens. */
  NET2: '10.88.0.9',
  /** Reached by a route that names the secondary address as its source; answered by the peer. */
  SRC2ND: '10.97.0.10',
  THROW: '10.66.1.1',
  BLACKHOLE: '10.66.2.1',
  UNREACHABLE: '10.66.3.1',
  PROHIBIT: '10.66.4.1',
  SUBNETCAST: '10.77.0.255',
  BROADCAST: '255.255.255.255',
  MULTICAST: '224.0.0.1',

  POD6: 'fd00:77::20',
  POD2ND6: 'fd00:77::21',
  PODNET26: 'fd00:88::1',
  PEER6: 'fd00:77::30',
  NODE6: 'fd00:77::1',
  VIP6: 'fd00:96::10',
  LOSTVIP6: 'fd00:96::99',
  ANYIP6: 'fd00:55::12',
  NET26: 'fd00:88::9',
  SRC2ND6: 'fd00:97::10',
  THROW6: 'fd00:66:1::1',
  BLACKHOLE6: 'fd00:66:2::1',
  UNREACHABLE6: 'fd00:66:3::1',
  PROHIBIT6: 'fd00:66:4::1',
  MULTICAST6: 'ff02::1%eth0',
  PODLINK: 'fe80::20%eth0',
  PEERLINK: 'fe80::30%eth0',
  /** A link-local address without its interface. */
  NOSCOPE: 'fe80::30',
} as const

export type Symbolic = keyof typeof address

export const mapped = (host: string) => `::ffff:${host}`

const names = new Map<string, string>(Object.entries(address).map(([symbol, text]) => [text, symbol]))

/** Of an endpoint as the probe writes it. */
const endpoints = /\[([\da-f:.]+(?:%\w+)?)\](?::(\d+))?|(\d+\.\d+\.\d+\.\d+)(?::(\d+))?/g

/** As the probe writes it. */
export const endpointText = (host: string, port: number) => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`)

/** Addresses become symbols, what was asked for becomes "asked", a port of `own` becomes "eph"; an IPv4 address on an IPv6 socket is "mapped". */
export function normaliser(asked: string, own: ReadonlySet<string>): (text: string) => string {
  const show = (host: string, port: string | undefined): string => {
    const four = /^::ffff:(\d.*)$/.exec(host)?.[1]
    if (four !== undefined && `[${host}]:${port}` !== asked) return `mapped ${show(four, port)}`
    const text = host.includes(':') ? `[${host}]` : host
    if (port === undefined) return names.get(host) ?? text
    if (asked === `[::ffff:${host}]:${port}`) return 'asked as IPv4'
    return `${text}:${port}` === asked ? 'asked' : `${names.get(host) ?? text}:${own.has(port) ? 'eph' : port}`
  }
  return (text) =>
    text.replace(endpoints, (_, six?: string, sixPort?: string, four?: string, fourPort?: string) => show(six ?? four ?? '', sixPort ?? fourPort))
}
