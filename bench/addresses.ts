/** Each pod of the bench has an IPv6 address that follows from its IPv4 address. */
import { addIpv6 as add } from '../test/lab/ipv6.ts'
import type { LabPod } from '../test/lab/net.ts'

/** How a client writes an address: 'mapped' is IPv4 on an IPv6 socket, as default JVMs do it. */
export const FORMS = ['IPv4', 'IPv6', 'mapped'] as const
export type Form = (typeof FORMS)[number]

/** 10.77.0.12 -> fd77::12 */
export const ipv6Of = (address: string): string => `fd77::${address.split('.').at(-1)}`

export function written(address: string, form: Form): string {
  if (form === 'IPv4') return address
  return form === 'IPv6' ? ipv6Of(address) : `::ffff:${address}`
}

/** What is outside goes to the node, which has no answer: enough for a destination that is intercepted. */
export const addIpv6 = (pod: LabPod, secondary: readonly string[] = []): Promise<void> => add(pod, [pod.address, ...secondary].map(ipv6Of))
