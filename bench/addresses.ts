/** Each pod of the bench has an IPv6 address that follows from its IPv4 address. */
import type { LabPod } from '../test/lab/net.ts'
import { must } from '../test/lab/process.ts'

/** How a client writes an address: 'mapped' is IPv4 on an IPv6 socket, as default JVMs do it. */
export const FORMS = ['IPv4', 'IPv6', 'mapped'] as const
export type Form = (typeof FORMS)[number]

/** 10.77.0.12 -> fd77::12 */
export const ipv6Of = (address: string): string => `fd77::${address.split('.').at(-1)}`

export function written(address: string, form: Form): string {
  if (form === 'IPv4') return address
  return form === 'IPv6' ? ipv6Of(address) : `::ffff:${address}`
}

/** The pods are on one link. What is outside goes to the node, which has no answer: enough for a destination that is intercepted. */
export async function addIpv6(pod: LabPod, secondary: readonly string[] = []): Promise<void> {
  const addresses = [pod.address, ...secondary].map((address) => `address add ${ipv6Of(address)}/64 dev eth0 nodad`)
  const commands = [...addresses, 'route add default via fd77::1 dev eth0 onlink']
  await must(pod.command(['ip', '-6', '-batch', '-']), { input: `${commands.join('\n')}\n` })
}
