/**
 * The pod of the parity tests, its neighbours and their listeners. Two of them are built, alike to the last address: one gets the mesh's
 * iptables rules, the other the agent.
 */
import { basename } from 'node:path'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { type Identity, type ListenerSpec, serve } from './probe.ts'

export const app: Identity = { uid: 1000, gid: 1000 }
export const proxy: Identity = { uid: 1337, gid: 1337 }

/** Where the proxy listens: on every address, only on loopback, or on a dual-stack socket. `cookies`: every address, and SYN cookies always. */
export type Mode = 'any' | 'loopback' | 'dual' | 'cookies'

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
} as const

export type Symbolic = keyof typeof address

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

export async function createSite(prefix: string): Promise<Site> {
  const lab = await Lab.create(prefix, { subnet: '10.77.0' })
  try {
    const pod = await lab.pod('pod', { address: `${address.POD}/24`, secondary: [`${address.POD2ND}/24`], routes })
    const peer = await lab.pod('peer', { address: `${address.PEER}/24` })
    await secondInterface(lab, pod)
    await serviceAddresses(lab, pod, peer)
    // 0x607: data in the SYN without a cookie, for every listener. Low ports for everybody, as in Kubernetes.
    const settings = ['net.ipv4.tcp_fastopen=1543', 'net.ipv4.ip_unprivileged_port_start=0']
    for (const each of [pod, peer]) await must(each.command(['sysctl', '-q', '-w', ...settings]))
    // Short memories in conntrack: an old connection's port is otherwise in the way of a new one for two minutes.
    const closed = ['time_wait', 'close', 'close_wait', 'last_ack', 'fin_wait'].map((state) => `net.netfilter.nf_conntrack_tcp_timeout_${state}=1`)
    await must(pod.command(['sysctl', '-q', '-e', '-w', ...closed]))
    await startPeer(peer)
    let running: readonly { stop(): Promise<void> }[] = []
    const listen = async (mode: Mode) => {
      await Promise.all(running.map((each) => each.stop()))
      await must(pod.command(['sysctl', '-q', '-w', `net.ipv4.tcp_syncookies=${mode === 'cookies' ? 2 : 1}`]))
      running = await startPod(pod, mode)
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

function startPeer(peer: LabPod): Promise<unknown> {
  const ports = [...appPorts, 53, 15001, 15006, 15008]
  return serve(
    peer,
    app,
    ports.map((port) => ({ name: `peer:${port}`, address: '0.0.0.0', port })),
  )
}

async function startPod(pod: LabPod, mode: Mode): Promise<readonly { stop(): Promise<void> }[]> {
  const at = { any: '0.0.0.0', cookies: '0.0.0.0', loopback: '127.0.0.1', dual: '::' }[mode]
  const proxies: ListenerSpec[] = [15001, 15006].map((port) => ({ name: `proxy:${port}`, address: at, port }))
  // The tunnel port is the proxy's own and is never redirected to, so it needs its real address.
  proxies.push({ name: 'proxy:15008', address: '0.0.0.0', port: 15008 })
  const apps = appPorts.map((port) => ({ name: `app:${port}`, address: '0.0.0.0', port }))
  return Promise.all([serve(pod, proxy, proxies), serve(pod, app, apps)])
}
