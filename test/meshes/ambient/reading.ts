/** What ambient's rules for a pod depend on, read as istio-cni reads it. A second reading: it knows nothing of plugins/ambient but the names of its options. */
import type { Facts, Reading } from '../../parity/mesh.ts'
import type { AmbientRules } from './rules.ts'

export const names = {
  dns: 'ambient.istio.io/dns-capture',
  ingress: 'ambient.istio.io/bypass-inbound-capture',
  reroute: 'istio.io/reroute-virtual-interfaces',
  mode: 'istio.io/dataplane-mode',
} as const

/** The plugin's options as the config file has them. */
export interface AmbientOptions {
  readonly captureDns?: boolean
  readonly ipv6?: boolean
  readonly probeAddress?: string
  readonly probeAddress6?: string
}

/** Go's strconv.ParseBool; undefined: it cannot read it, and the annotation counts as absent. */
function truth(text: string): boolean | undefined {
  if (/^(?:1|t|T|true|TRUE|True)$/.test(text)) return true
  return /^(?:0|f|F|false|FALSE|False)$/.test(text) ? false : undefined
}

export function readPod({ pod, options: given }: Facts): Reading<AmbientRules> {
  const { annotations = {}, labels = {} } = pod
  const options: AmbientOptions = given
  const warned: string[] = []
  const flag = (name: string, fallback: boolean): boolean => {
    const text = annotations[name]
    const value = text === undefined ? fallback : truth(text)
    if (value === undefined) warned.push(name)
    return value ?? fallback
  }
  const rules: AmbientRules = {
    dns: flag(names.dns, options.captureDns ?? true),
    ingress: flag(names.ingress, false),
    ipv6: options.ipv6 ?? true,
    probe: options.probeAddress ?? '169.254.7.127',
    probe6: options.probeAddress6 ?? 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff',
  }
  if (!['ambient', 'none', undefined].includes(labels[names.mode])) warned.push(names.mode)
  warned.push(...Object.keys(annotations).filter((name) => name.startsWith('traffic.sidecar.istio.io/')))
  const interfaces = (annotations[names.reroute] ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
  // iptables fails on a name that is too long, or on what a blank makes of it.
  if (interfaces.some((name) => name.length > 15 || /\s/.test(name))) return { refused: names.reroute }
  return interfaces.length > 0 ? { unsupported: names.reroute } : { rules, warned }
}
