/** IPv6 for a lab whose pods have IPv4: fd77::/64 on the node's bridge. */
import type { Lab, LabPod } from './net.ts'
import { must } from './process.ts'

const GATEWAY = 'fd77::1'

/** `addresses`: host addresses of fd77::/64; the first is the pod's own. They are usable at once, without duplicate address detection. */
export async function addIpv6(lab: Lab, pod: LabPod, addresses: readonly string[]): Promise<void> {
  await must(lab.node.command(['ip', '-6', 'address', 'replace', `${GATEWAY}/64`, 'dev', 'br0', 'nodad']))
  await must(lab.node.command(['sysctl', '-q', '-w', 'net.ipv6.conf.all.forwarding=1']))
  const commands = [
    ...addresses.map((each) => `address add ${each}/64 dev eth0 nodad`),
    `route add default via ${GATEWAY} dev eth0 src ${addresses[0]} onlink`,
  ]
  await must(pod.command(['ip', '-6', '-batch', '-']), { input: `${commands.join('\n')}\n` })
}
