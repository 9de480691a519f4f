/** What the rules depend on: the options, overridden by the pod's annotations, by its sidecar's container, and with init by the environment. */
import type { Container, IdSpec, Kit, Pod, PortSpec } from '../../core/plugin.ts'
import { isLoopback } from '../shared/networks.ts'
import { Reader } from '../shared/reader.ts'
import { short } from '../shared/text.ts'
import { type Families, familiesOf } from './families.ts'
import { mostOwnerGroups, type Options } from './options.ts'
import { environmentOf, sidecarOf } from './sidecar.ts'
import { groups, interfaces, loopbackNetwork, type Networks, networks, networksOrAll, onePort, ports, portsOrAll } from './values.ts'

type Environment = Container['env']

export interface Settings extends Families {
  /** REDIRECT, TPROXY or NONE */
  readonly mode: string
  readonly proxyPort: number
  readonly inboundPort: number
  readonly dnsPort: number
  readonly proxyUid: readonly IdSpec[]
  readonly proxyGid: readonly IdSpec[]
  readonly includeOutbound: Networks
  readonly excludeOutboundCidrs: readonly string[]
  readonly includeOutboundPorts: readonly PortSpec[]
  readonly excludeOutboundPorts: readonly PortSpec[]
  readonly includeInboundPorts: readonly PortSpec[]
  readonly excludeInboundPorts: readonly PortSpec[]
  readonly excludeInterfaces: readonly string[]
  /** Interfaces of virtual machines in the pod. */
  readonly rerouted: readonly string[]
  readonly ownerGroups: { readonly include: '*' | readonly IdSpec[]; readonly exclude: readonly IdSpec[] }
  readonly loopbackCidr: string
}

export interface Reading {
  readonly settings: Settings
  /** Values that Istio does not start a pod with, each with its annotation and with what was expected. */
  readonly refused: readonly string[]
  /** Values that Istio takes and this plugin cannot. */
  readonly impossible: readonly string[]
}

/** Metrics and health of the agent, readiness, metrics of Envoy: never captured inbound. */
const statusPorts = [15020, 15021, 15090]

function modeOf(setup: Options['setup']): (text: string) => string {
  const modes = setup === 'cni' ? ['REDIRECT', 'TPROXY'] : ['REDIRECT', 'TPROXY', 'NONE']
  return (text) => {
    if (modes.includes(text)) return text
    throw new Error(`expected ${modes.slice(0, -1).join(', ')} or ${modes.at(-1)}, got '${short(text)}'`)
  }
}

/** Excluded inbound, as the CNI plugin or the template of istio-init completes the list of the annotation. */
function excludedInbound(annotated: readonly PortSpec[], setup: Options['setup'], statusPort: number): PortSpec[] {
  if (setup === 'cni') return [...new Set([...annotated, ...statusPorts])]
  return [...new Set([15090, 15021, ...annotated, ...(statusPort === 0 ? [] : [statusPort])])]
}

function groupsFrom(environment: Environment, options: Options, refused: Reader, impossible: Reader) {
  const [include, exclude] = [environment.ISTIO_OUTBOUND_OWNER_GROUPS, environment.ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE]
  const read = (name: string, text: string | undefined, fallback: readonly IdSpec[]) =>
    impossible.read<string, readonly IdSpec[]>(`environment variable ${name}`, text, groups, fallback)
  const all = include === undefined ? options.ownerGroupsInclude[0] === '*' : include === '*'
  // Excluded groups count only when all others are included, and are not even looked at otherwise.
  if (all) return { include: '*' as const, exclude: read('ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE', exclude, options.ownerGroupsExclude) }
  const count = (include ?? '').split(',').filter((element) => element !== '').length
  if (count > mostOwnerGroups) {
    refused.complaints.push(`environment variable ISTIO_OUTBOUND_OWNER_GROUPS: expected at most ${mostOwnerGroups} groups, got ${count}`)
  }
  return { include: read('ISTIO_OUTBOUND_OWNER_GROUPS', include, options.ownerGroupsInclude), exclude: [] }
}

export function readSettings(pod: Pod, options: Options, kit: Kit): Reading {
  const { setup } = options
  const [refused, impossible, sidecar] = [new Reader(), new Reader(), sidecarOf(pod)]
  const environment = setup === 'init' ? environmentOf(pod, setup) : {}
  const read = <T>(name: string, parse: (text: string) => T, fallback: T): T =>
    refused.read(`annotation ${name}`, pod.annotations[name], parse, fallback)
  const excludedByDefault = setup === 'cni' ? [15020] : []
  const ownInclude: Networks = { cidrs: options.includeOutboundCidrs, loopback: options.includeOutboundCidrs.some(isLoopback) }
  // Istio takes root for "not set".
  const proxyUid = sidecar?.uid ? [sidecar.uid] : options.proxyUid
  const proxyGid = setup === 'cni' && sidecar?.gid ? [sidecar.gid] : (options.proxyGid ?? (setup === 'cni' ? [1337] : proxyUid))
  const reroute = 'istio.io/reroute-virtual-interfaces'
  const kubevirt = 'traffic.sidecar.istio.io/kubevirtInterfaces'
  const settings: Settings = {
    mode: read('sidecar.istio.io/interceptionMode', modeOf(setup), 'REDIRECT'),
    proxyPort: options.proxyPort,
    inboundPort: options.inboundPort,
    dnsPort: options.dnsPort,
    ...familiesOf(pod, options, kit),
    proxyUid,
    proxyGid,
    includeOutbound: read('traffic.sidecar.istio.io/includeOutboundIPRanges', networksOrAll, ownInclude),
    excludeOutboundCidrs: read('traffic.sidecar.istio.io/excludeOutboundIPRanges', (text) => networks(text).cidrs, options.excludeOutboundCidrs),
    excludeInboundPorts: excludedInbound(
      read('traffic.sidecar.istio.io/excludeInboundPorts', (text) => ports(text.trim()), options.excludeInboundPorts ?? excludedByDefault),
      setup,
      read('status.sidecar.istio.io/port', onePort, 15020),
    ),
    includeInboundPorts: read('traffic.sidecar.istio.io/includeInboundPorts', portsOrAll, options.includeInboundPorts),
    excludeOutboundPorts: read('traffic.sidecar.istio.io/excludeOutboundPorts', ports, options.excludeOutboundPorts ?? excludedByDefault),
    includeOutboundPorts: read('traffic.sidecar.istio.io/includeOutboundPorts', ports, options.includeOutboundPorts),
    excludeInterfaces: read('traffic.sidecar.istio.io/excludeInterfaces', interfaces, options.excludeInterfaces),
    rerouted: read(pod.annotations[reroute] === undefined ? kubevirt : reroute, interfaces, []),
    ownerGroups: groupsFrom(environment, options, refused, impossible),
    loopbackCidr: refused.read(
      'environment variable ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR',
      environment.ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR,
      loopbackNetwork,
      loopbackNetwork(options.loopbackCidr),
    ),
  }
  return { settings, refused: refused.complaints, impossible: impossible.complaints }
}
