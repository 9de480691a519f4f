/** IPv6 for pods that the lab made with IPv4 alone, in the network of the node's bridge. */
import type { LabPod } from './net.ts'
import { must } from './process.ts'

const GATEWAY = 'fd77::1'

/** `addresses`: host addresses of fd77::/64; the first is the pod's own. They are usable at once, without duplicate address detection. */
export async function addIpv6(pod: LabPod, addresses: readonly string[]): Promise<void> {
  const commands = [
    ...addresses.map((each) => `address add ${each}/64 dev eth0 nodad`),
    `route add default via ${GATEWAY} dev eth0 src ${addresses[0]} onlink`,
  ]
  await must(pod.command(['ip', '-6', '-batch', '-']), { input: `${commands.join('\n')}\n` })
}
