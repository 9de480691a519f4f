/** Who listens in the pod and in its neighbour: the proxy of a mesh in its layout, an app, and name servers of both. */
import type { Layout } from './mesh.ts'
import type { ListenerSpec } from './probe.ts'

export const istioLayout: Layout = {
  proxy: { uid: 1337, gid: 1337 },
  outboundPort: 15001,
  inboundPort: 15006,
  dns: { port: 15053 },
  ownPorts: [15008],
}

/**
 * Where the proxy listens: on every IPv4 address, on 127.0.0.1, or on a dual-stack socket. `cookies`: as `any`, and SYN cookies always. `both`: a socket
 * for each family; `v6only`: on every IPv6 address alone; `loopbacks`: on 127.0.0.1 and ::1. `nodns`: as `both`, and no DNS proxy.
 * `split`: outbound on 127.0.0.1 and ::1, inbound on every address.
 */
export type Mode = 'any' | 'loopback' | 'dual' | 'cookies' | 'both' | 'v6only' | 'loopbacks' | 'nodns' | 'split'

type Where = Pick<ListenerSpec, 'address' | 'v6only'>

const both: readonly Where[] = [{ address: '0.0.0.0' }, { address: '::', v6only: true }]
const loopbacks: readonly Where[] = [{ address: '127.0.0.1' }, { address: '::1' }]

const proxyAddresses: Readonly<Record<Mode, { readonly outbound: readonly Where[]; readonly inbound?: readonly Where[] }>> = {
  any: { outbound: [{ address: '0.0.0.0' }] },
  cookies: { outbound: [{ address: '0.0.0.0' }] },
  loopback: { outbound: [{ address: '127.0.0.1' }] },
  dual: { outbound: [{ address: '::' }] },
  both: { outbound: both },
  nodns: { outbound: both },
  v6only: { outbound: [{ address: '::', v6only: true }] },
  loopbacks: { outbound: loopbacks },
  split: { outbound: loopbacks, inbound: both },
}

/** Ports that somebody listens on besides the proxy's; the pod and the peer have the same ones. */
export const appPorts = [22, 80, 8080, 15020, 15021, 15090, 31000]

/** Name servers that are not the proxy's: the peer has them, and so has the pod itself. */
const datagramPorts = [53, 5353, 8080, 15020]
const datagramServers = (name: string, at: string) =>
  datagramPorts.map((port) => ({ name: `${name}:${port}`, address: at, port, protocol: 'udp' as const }))

const proxyPorts = ({ outboundPort, inboundPort, moreProxyPorts = [] }: Layout) => [...new Set([outboundPort, inboundPort, ...moreProxyPorts])]

/** `at`: every address of the peer. */
export function peerListeners(layout: Layout, at: string): readonly ListenerSpec[] {
  const ports = new Set([...appPorts, 53, ...proxyPorts(layout), ...layout.ownPorts])
  return [...[...ports].map((port) => ({ name: `peer:${port}`, address: at, port })), ...datagramServers('peer', at)]
}

export function proxyListeners(layout: Layout, mode: Mode, at: string): readonly ListenerSpec[] {
  const { outbound, inbound = outbound } = proxyAddresses[mode]
  const marked = layout.mark === undefined ? {} : { mark: layout.mark }
  const proxies = proxyPorts(layout).flatMap((port) =>
    (port === layout.inboundPort ? inbound : outbound).map((where) => ({ name: `proxy:${port}`, port, ...where })),
  )
  // Nothing is redirected to these, so they need their real addresses.
  const own = layout.ownPorts.map((port) => ({ name: `proxy:${port}`, address: at, port }))
  return [...proxies, ...own, ...(mode === 'nodns' ? [] : dnsListeners(layout))].map((each) => ({ ...each, ...marked }))
}

function dnsListeners({ dns }: Layout): readonly ListenerSpec[] {
  if (dns === undefined) return []
  const { port, address } = dns
  const addresses = address === undefined ? ['127.0.0.1', '::1'] : [address]
  return (['tcp', 'udp'] as const).flatMap((protocol) => addresses.map((each) => ({ name: `dns:${port}`, address: each, port, protocol })))
}

/** Where the proxy listens, no app does. */
export function appListeners(layout: Layout, at: string): readonly ListenerSpec[] {
  const taken = new Set([...proxyPorts(layout), ...layout.ownPorts])
  return [
    ...appPorts.filter((port) => !taken.has(port)).map((port) => ({ name: `app:${port}`, address: at, port })),
    { name: 'app:8081', address: '0.0.0.0', port: 8081 },
    { name: 'app:8082', address: '::', port: 8082, v6only: true },
    ...datagramServers('app', at),
  ]
}
