/** IPv6 for the pod of the parity tests and its neighbours: what they have of IPv4, once more. */
import { type Lab, type LabPod, must } from '../lab/net.ts'
import { address } from './addresses.ts'

const ip = (pod: LabPod, commands: readonly string[]) => must(pod.command(['ip', '-6', '-batch', '-']), { input: `${commands.join('\n')}\n` })

/** Link-local addresses that are known beforehand, in place of those that the kernel makes, which are of no use for a second. */
async function own(pod: LabPod, device: string, link: string, addresses: readonly string[]): Promise<void> {
  await must(pod.command(['ip', 'link', 'set', device, 'addrgenmode', 'none']))
  await must(pod.command(['ip', '-6', 'address', 'flush', 'dev', device]))
  await ip(
    pod,
    [`${link}/64`, ...addresses].map((each) => `address add ${each} dev ${device} nodad`),
  )
}

const bare = (text: string) => text.replace(/%.*/, '')

export async function giveIPv6(lab: Lab, pod: LabPod, peer: LabPod): Promise<void> {
  const node = lab.node
  await must(node.command(['sysctl', '-q', '-w', 'net.ipv6.conf.all.forwarding=1']))
  await must(node.command(['sysctl', '-q', '-e', '-w', 'net.bridge.bridge-nf-call-ip6tables=0']))
  await own(node, 'br0', 'fe80::1', [`${address.NODE6}/64`])
  await own(node, 'net2', 'fe80::9', [`${address.NET26}/64`])
  // The one that came last is preferred as a source.
  await own(pod, 'eth0', bare(address.PODLINK), [`${address.POD2ND6}/128`, `${address.POD6}/64`])
  await own(pod, 'net2', 'fe80::2', [`${address.PODNET26}/64`])
  await own(peer, 'eth0', bare(address.PEERLINK), [`${address.PEER6}/64`])
  for (const each of [pod, peer]) await ip(each, [`route add default via ${address.NODE6} dev eth0`])
  await ip(pod, [
    ...['throw', 'blackhole', 'unreachable', 'prohibit'].map((type, index) => `route add ${type} fd00:66:${index + 1}::/48`),
    'route add local fd00:55::/32 dev lo',
    `route add ${address.SRC2ND6}/128 via ${address.NODE6} dev eth0 src ${address.POD2ND6}`,
  ])
  await ip(
    peer,
    [address.VIP6, address.SRC2ND6].map((each) => `address add ${each}/128 dev lo nodad`),
  )
  await ip(node, [
    `route add ${address.POD2ND6}/128 dev br0`,
    ...[address.VIP6, address.SRC2ND6].map((each) => `route add ${each}/128 via ${address.PEER6} dev br0`),
    `address add ${address.LOSTVIP6}/128 dev lo nodad`,
  ])
}
