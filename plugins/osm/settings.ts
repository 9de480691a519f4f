/** What the rules depend on, and who says so: script.ts reads it from the container osm-init, annotations.ts from the annotations and options. */
import type { Pod, PortSpec } from '../../core/plugin.ts'
import { short } from '../shared/text.ts'
import type { Flavour } from './flavours.ts'
import { firstIpv4 } from './values.ts'

export interface Settings {
  readonly proxyUid: number
  readonly proxyPort: number
  readonly inboundPort: number
  /** The pod's own address, where it stands for 127.0.0.1 of the sidecar's connections. */
  readonly podIp?: string | undefined
  readonly dns: boolean
  readonly outboundInterfaces: readonly string[]
  readonly inboundInterfaces: readonly string[]
  readonly excludedNetworks: readonly string[]
  readonly includedNetworks: '*' | readonly string[]
  readonly excludedOutboundPorts: readonly PortSpec[]
  readonly excludedInboundPorts: readonly PortSpec[]
  /** Metrics and health probes of the sidecar: never captured inbound. */
  readonly ownPorts: readonly PortSpec[]
}

/** `refused`: what the mesh does not start a pod with. `cannot`: what this plugin does not know. `more`: lists with more ports than a rule of iptables takes. */
export type Reading =
  | { readonly settings: Settings; readonly more: readonly string[] }
  | { readonly refused: readonly string[] }
  | { readonly cannot: string }

/** Of a rule of iptables. */
export const mostPorts = 15

/** The address for POD_IP; a text: why there is none. */
export function podAddress(pod: Pod, { title }: Flavour): { readonly podIp: string } | { readonly refused: string[] } | { readonly cannot: string } {
  const podIp = firstIpv4(pod.addresses)
  if (podIp !== undefined) return { podIp }
  if (pod.addresses.length === 0) return { cannot: "localProxyMode PodIP: the pod's address is not known yet" }
  return {
    refused: [
      `localProxyMode PodIP: expected an IPv4 address of the pod, got '${short(pod.addresses[0] ?? '')}': ${title} writes rules for IPv4 alone`,
    ],
  }
}
