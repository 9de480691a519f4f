/**
 * The pod of the parity tests, its neighbours and their listeners. Two of them are built, alike to the last address: one gets the mesh's
 * iptables rules, the other the agent.
 */
import { basename } from 'node:path'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { address } from './addresses.ts'
import { giveIPv6 } from './ipv6.ts'
import { appListeners, istioLayout, type Mode, peerListeners, proxyListeners } from './listeners.ts'
import type { Layout } from './mesh.ts'
import { type Identity, serve } from './probe.ts'

export { address, type Symbolic } from './addresses.ts'
export { istioLayout, type Mode } from './listeners.ts'

export const app: Identity = { uid: 1000, gid: 1000 }
export const proxy: Identity = istioLayout.proxy

/** The pod's addresses: IPv4, both, or IPv6 alone. Its neighbours have both but for the first. */
export type Kind = 'v4' | 'dual' | 'v6'

const routes: readonly (readonly string[])[] = [
  ['throw', '10.66.1.0/24'],
  ['blackhole', '10.66.2.0/24'],
  ['unreachable', '10.66.3.0/24'],
  ['prohibit', '10.66.4.0/24'],
  ['local', '10.55.0.0/16', 'dev', 'lo'],
]

export interface Site extends AsyncDisposable {
  readonly lab: Lab
  readonly pod: LabPod
  readonly peer: LabPod
  /** Starts the listeners anew. */
  listen(mode: Mode): Promise<void>
}

/** `layout`: of the mesh whose proxy listens in the pod. */
export async function createSite(prefix: string, kind: Kind = 'v4', layout: Layout = istioLayout): Promise<Site> {
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
    await serve(peer, app, peerListeners(layout, everywhere))
    let running: readonly { stop(): Promise<void> }[] = []
    const listen = async (mode: Mode) => {
      await Promise.all(running.map((each) => each.stop()))
      await must(pod.command(['sysctl', '-q', '-w', `net.ipv4.tcp_syncookies=${mode === 'cookies' ? 2 : 1}`]))
      running = await Promise.all([
        serve(pod, layout.proxy, proxyListeners(layout, mode, everywhere)),
        serve(pod, app, appListeners(layout, everywhere)),
      ])
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
