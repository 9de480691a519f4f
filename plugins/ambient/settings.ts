/** What the rules depend on: the options, overridden by the pod's annotations. And which pods are ambient's. */
import type { Kit, Pod } from '../../core/plugin.ts'
import { short } from '../shared/text.ts'
import type { Options } from './options.ts'

export interface Settings {
  readonly ipv6: boolean
  readonly dns: boolean
  /** Ingress mode: what comes in is left alone. */
  readonly inbound: boolean
  /** Sources of the node's own connections. */
  readonly probes: readonly string[]
  /** Interfaces of virtual machines in the pod. */
  readonly rerouted: readonly string[]
}

const modeLabel = 'istio.io/dataplane-mode'
const statusAnnotation = 'sidecar.istio.io/status'
export const rerouteAnnotation = 'istio.io/reroute-virtual-interfaces'

const hasSidecar = (pod: Pod): boolean => pod.annotations[statusAnnotation] !== undefined

/** The pod's own label comes first; a value that is neither counts as none at all. */
export function isAmbientPod(pod: Pod, { excludeNamespaces }: Options): boolean {
  if (hasSidecar(pod) || excludeNamespaces.includes(pod.namespace.name)) return false
  const mode = pod.labels[modeLabel]
  return mode === 'ambient' || (mode !== 'none' && pod.namespace.labels[modeLabel] === 'ambient')
}

/** Why ambient sets up nothing in a pod, whoever selects it. */
export function notAmbient(pod: Pod): string | undefined {
  if (hasSidecar(pod))
    return `it has a sidecar (annotation ${statusAnnotation}), which captures its traffic itself; the plugin istio is for such pods`
  return pod.labels[modeLabel] === 'none' ? `label ${modeLabel}: none says that it shall stay outside` : undefined
}

/** Of the sidecar's annotations these would change what is captured. */
const sidecarOnly = [
  'includeOutboundIPRanges',
  'excludeOutboundIPRanges',
  'includeOutboundPorts',
  'excludeOutboundPorts',
  'includeInboundPorts',
  'excludeInboundPorts',
  'excludeInterfaces',
  'kubevirtInterfaces',
].map((name) => `traffic.sidecar.istio.io/${name}`)

/** Says what Istio ignores without a word to the pod's owner. */
export function warnOfIgnored(pod: Pod): void {
  const labels = [
    { where: `label ${modeLabel}`, mode: pod.labels[modeLabel] },
    { where: `label ${modeLabel} of the namespace`, mode: pod.namespace.labels[modeLabel] },
  ]
  for (const { where, mode } of labels)
    if (mode !== undefined && mode !== 'ambient' && mode !== 'none')
      pod.warn(`${where}: expected ambient or none, got '${short(mode)}'; Istio ignores it`)
  for (const name of sidecarOnly)
    if (pod.annotations[name] !== undefined) pod.warn(`annotation ${name} has no effect: it is for sidecars, and ambient ignores it`)
}

/** Istio looks at nothing but blanks; iptables takes no name that has one inside or that is too long. */
const interfaces = (text: string): string[] =>
  text
    .split(',')
    .map((element) => element.trim())
    .filter((element) => element !== '')
const isInterface = (name: string): boolean => /^\S{1,15}$/.test(name)

/** What Istio does not start a pod with: its rules fail. */
export function refusedBy({ rerouted }: Settings): string | undefined {
  const wrong = rerouted.find((name) => !isInterface(name))
  if (wrong === undefined) return undefined
  return `annotation ${rerouteAnnotation}: expected names of network interfaces, at most 15 characters without blanks, got '${short(wrong)}'`
}

export function readSettings(pod: Pod, options: Options, kit: Kit): Settings {
  const flag = (name: string, fallback: boolean): boolean => {
    const text = pod.annotations[name]
    if (text === undefined) return fallback
    try {
      return kit.boolean(text)
    } catch {
      pod.warn(`annotation ${name}: expected true or false, got '${short(text)}'; Istio ignores it`)
      return fallback
    }
  }
  const { ipv6, captureDns, probeAddress, probeAddress6 } = options
  return {
    ipv6,
    dns: flag('ambient.istio.io/dns-capture', captureDns),
    inbound: !flag('ambient.istio.io/bypass-inbound-capture', false),
    probes: ipv6 ? [probeAddress, probeAddress6] : [probeAddress],
    rerouted: interfaces(pod.annotations[rerouteAnnotation] ?? ''),
  }
}
