/**
 * The pod of the parity tests, its neighbours and their listeners. Two of them are built, alike to the last address: one gets the mesh's
 * iptables rules, the other the agent.
 */
import { basename } from 'node:path'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { address } from './addresses.ts'
import { giveIPv6 } from './ipv6.ts'
import { type Identity, type ListenerSpec, serve } from './probe.ts'

export { address, type Symbolic } from './addresses.ts'

export const app: Identity = { uid: 1000, gid: 1000 }
export const proxy: Identity = { uid: 1337, gid: 1337 }

/**
 * Where the proxy listens: on every IPv4 address, on 127.0.0.1, or on a dual-stack socket. `cookies`: as `any`, and SYN cookies always. `both`: a socket
 * for each family; `v6only`: on every IPv6 address alone; `loopbacks`: on 127.0.0.1 and ::1. `nodns`: as `both`, and no DNS proxy.
 */
export type Mode = 'any' | 'loopback' | 'dual' | 'cookies' | 'both' | 'v6only' | 'loopbacks' | 'nodns'

const proxyAddresses: Readonly<Record<Mode, readonly Pick<ListenerSpec, 'address' | 'v6only'>[]>> = {
  any: [{ address: '0.0.0.0' }],
  cookies: [{ address: '0.0.0.0' }],
  loopback: [{ address: '127.0.0.1' }],
  dual: [{ address: '::' }],
  both: [{ address: '0.0.0.0' }, { address: '::', v6only: true }],
  nodns: [{ address: '0.0.0.0' }, { address: '::', v6only: true }],
  v6only: [{ address: '::', v6only: true }],
  loopbacks: [{ address: '127.0.0.1' }, { address: '::1' }],
}

/** The pod's addresses: IPv4, both, or IPv6 alone. Its neighbours have both but for the first. */
export type Kind = 'v4' | 'dual' | 'v6'

const routes: readonly (readonly string[])[] = [
  ['throw', '10.66.1.0/24'],
  ['blackhole', '10.66.2.0/24'],
  ['unreachable', '10.66.3.0/24'],
  ['prohibit', '10.66.4.0/24'],
  ['local', '10.55.0.0/16', 'dev', 'lo'],
]

/** Ports that somebody listens on besides the proxy's; the pod and the peer have the same ones. */
export const appPorts = [22, 80, 8080, 15020, 15021, 15090, 31000]

export interface Site extends AsyncDisposable {
  readonly lab: Lab
  readonly pod: LabPod
  readonly peer: LabPod
  /** Starts the listeners anew. */
  listen(mode: Mode): Promise<void>
}

export async function createSite(prefix: string, kind: Kind = 'v4'): Promise<Site> {
  const lab = await Lab.create(prefix, { subnet: '10.77.0' })
  const everywhere = kind === 'v4' ? '0.0.0.0' : '::'
  try {
    const pod = await lab.pod('pod', { address: `${address.POD}/24`, secondary: [`${address.POD2ND}/24`], routes })
    const peer = await lab.pod('peer', { address: `${address.PEER}/24` })
    await secondInterface(lab, pod)
    await serviceAddresses(lab, pod, peer)
    if (kind !== 'v4') await giveIPv6(lab, pod, peer)
    if (kind === 'v6') await takeIPv4(pod)
    // 0x607: data in the SYN without a cookie, for every listener. Low ports for everybody, as in Kubernetes.
    const settings = ['net.ipv4.tcp_fastopen=1543', 'net.ipv4.ip_unprivileged_port_start=0']
    for (const each of [pod, peer]) await must(each.command(['sysctl', '-q', '-w', ...settings]))
    // Short memories in conntrack: an old connection's port is otherwise in the way of a new one for two minutes.
    const closed = ['time_wait', 'close', 'close_wait', 'last_ack', 'fin_wait'].map((state) => `net.netfilter.nf_conntrack_tcp_timeout_${state}=1`)
    await must(pod.command(['sysctl', '-q', '-e', '-w', ...closed]))
    // No answer is left out because there were many of its kind.
    const errors = [
      'net.ipv4.icmp_ratelimit=0',
      'net.ipv6.icmp.ratelimit=0',
      'net.ipv4.icmp_msgs_per_sec=1000000',
      'net.ipv4.icmp_msgs_burst=1000000',
    ]
    for (const each of [pod, peer, lab.node]) await must(each.command(['sysctl', '-q', '-e', '-w', ...errors]))
    await startPeer(peer, everywhere)
    let running: readonly { stop(): Promise<void> }[] = []
    const listen = async (mode: Mode) => {
      await Promise.all(running.map((each) => each.stop()))
      await must(pod.command(['sysctl', '-q', '-w', `net.ipv4.tcp_syncookies=${mode === 'cookies' ? 2 : 1}`]))
      running = await startPod(pod, mode, everywhere)
    }
    return { lab, pod, peer, listen, [Symbol.asyncDispose]: () => lab.close() }
  } catch (error) {
    await lab.close()
    throw error
  }
}

async function secondInterface(lab: Lab, pod: LabPod): Promise<void> {
  await must(pod.command(['ip', 'link', 'add', 'net2', 'type', 'veth', 'peer', 'name', 'net2', 'netns', basename(lab.node.netns)]))
  for (const [each, own] of [
    [pod, address.PODNET2],
    [lab.node, address.NET2],
  ] as const) {
    await must(each.command(['ip', 'address', 'add', `${own}/24`, 'dev', 'net2']))
    await must(each.command(['ip', 'link', 'set', 'net2', 'up']))
  }
}

async function serviceAddresses(lab: Lab, pod: LabPod, peer: LabPod): Promise<void> {
  for (const each of [address.VIP, address.SRC2ND]) {
    await must(peer.command(['ip', 'address', 'add', `${each}/32`, 'dev', 'lo']))
    await must(lab.node.command(['ip', 'route', 'add', each, 'via', address.PEER]))
  }
  await must(lab.node.command(['ip', 'address', 'add', `${address.LOSTVIP}/32`, 'dev', 'lo']))
  await must(pod.command(['ip', 'route', 'add', `${address.SRC2ND}/32`, 'via', address.NODE, 'src', address.POD2ND]))
}

async function takeIPv4(pod: LabPod): Promise<void> {
  for (const device of ['eth0', 'net2']) await must(pod.command(['ip', '-4', 'address', 'flush', 'dev', device]))
}

/** Name servers that are not the proxy's: the peer has them, and so has the pod itself. */
const datagramPorts = [53, 5353, 8080, 15020]
const datagramServers = (name: string, at: string) =>
  datagramPorts.map((port) => ({ name: `${name}:${port}`, address: at, port, protocol: 'udp' as const }))

function startPeer(peer: LabPod, at: string): Promise<unknown> {
  const ports = [...appPorts, 53, 15001, 15006, 15008]
  const listeners = ports.map((port) => ({ name: `peer:${port}`, address: at, port }))
  return serve(peer, app, [...listeners, ...datagramServers('peer', at)])
}

async function startPod(pod: LabPod, mode: Mode, at: string): Promise<readonly { stop(): Promise<void> }[]> {
  const proxies: ListenerSpec[] = [15001, 15006].flatMap((port) => proxyAddresses[mode].map((where) => ({ name: `proxy:${port}`, port, ...where })))
  // The tunnel port is the proxy's own and is never redirected to, so it needs its real address.
  proxies.push({ name: 'proxy:15008', address: at, port: 15008 })
  const dns = (['tcp', 'udp'] as const).flatMap((protocol) =>
    ['127.0.0.1', '::1'].map((address) => ({ name: 'dns:15053', address, port: 15053, protocol })),
  )
  const apps: ListenerSpec[] = appPorts.map((port) => ({ name: `app:${port}`, address: at, port }))
  apps.push({ name: 'app:8081', address: '0.0.0.0', port: 8081 }, { name: 'app:8082', address: '::', port: 8082, v6only: true })
  return Promise.all([
    serve(pod, proxy, mode === 'nodns' ? proxies : [...proxies, ...dns]),
    serve(pod, app, [...apps, ...datagramServers('app', at)]),
  ])
}
