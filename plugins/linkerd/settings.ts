/** What the rules depend on: the arguments of linkerd-init where the pod has it, else annotations, the proxy's container and the options. */
import type { Kit, Pod, PortSpec } from '../../core/plugin.ts'
import { isIpv6 } from '../shared/networks.ts'
import { type Complaints, complaintsOf } from './complaints.ts'
import { readFlags } from './flags.ts'
import { warnOfIgnored } from './ignored.ts'
import type { Options } from './options.ts'
import { annotationOf, initOf, isControlPlane, proxyOf } from './pods.ts'
import { flagElements, integer, listenPort, owner, quoted, subnets } from './values.ts'

export interface Settings {
  readonly inboundPort: number
  readonly outboundPort: number
  /** 0 and less: no rule. */
  readonly proxyUid: number
  readonly proxyGid: number
  readonly skipInboundPorts: readonly PortSpec[]
  readonly skipOutboundPorts: readonly PortSpec[]
  readonly skipSubnets: readonly string[]
  /** The only ports that are captured inbound; empty: all. */
  readonly portsToRedirect: readonly PortSpec[]
  readonly ipv6: boolean
  /** The argument by which linkerd-init writes no rules. */
  readonly nothing: string | undefined
}

export interface Reading {
  readonly settings: Settings
  /** What Linkerd does not start the pod with, each with where it stands and what was expected. */
  readonly refused: readonly string[]
}

const annotation = (name: string): string => `config.linkerd.io/${name}`

const portNames = { inbound: 'inboundPort', outbound: 'outboundPort', control: 'controlPort', admin: 'adminPort' } as const
type PortName = keyof typeof portNames

/** Where the proxy listens, by its environment. */
const listenVariables: Readonly<Record<PortName, readonly string[]>> = {
  inbound: ['LINKERD2_PROXY_INBOUND_LISTEN_ADDR'],
  outbound: ['LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS', 'LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR'],
  control: ['LINKERD2_PROXY_CONTROL_LISTEN_ADDR'],
  admin: ['LINKERD2_PROXY_ADMIN_LISTEN_ADDR'],
}

/** Go reads these annotations into 32 and 64 bits; a number that does not fit is none. */
const wholeNumber = (text: string, bits: 32 | 64): boolean => Math.abs(integer(text) ?? Number.NaN) < 2 ** (bits - 1)

/** The injector passes over what is not a number; it takes a number that the pod then fails with. */
function injectedNumber(pod: Pod, name: string, bits: 32 | 64, read: (text: string) => number, fallback: number, complaints: Complaints): number {
  const found = annotationOf(pod, annotation(name), 'init')
  if (found === undefined) return fallback
  if (wholeNumber(found.text, bits)) return complaints.read(found.title, found.text, read, fallback)
  complaints.ignored(found.title, `expected a number, got ${quoted([found.text])}`)
  return fallback
}

/** A port by the proxy's environment, else by the annotation, else by the option. The CNI plugin looks at its own options only. */
function portOf(pod: Pod, options: Options, name: PortName, complaints: Complaints): number {
  const own = options[portNames[name]]
  if (options.setup === 'cni') return own
  const annotated = injectedNumber(pod, `${name}-port`, 32, listenPort, own, complaints)
  const environment = proxyOf(pod)?.env ?? {}
  const variable = listenVariables[name].find((each) => environment[each] !== undefined)
  if (variable === undefined) return annotated
  const [first = ''] = (environment[variable] ?? '').split(',')
  return complaints.read(`environment variable ${variable}`, first, (text) => listenPort(text.slice(text.lastIndexOf(':') + 1)), annotated)
}

/** An id by the proxy's container, else by the annotation, else by the option. The CNI plugin does not look at the container. */
function ownerOf(pod: Pod, options: Options, name: 'proxy-uid' | 'proxy-gid', complaints: Complaints): number {
  const [own, inContainer] = name === 'proxy-uid' ? [options.proxyUid, proxyOf(pod)?.uid] : [options.proxyGid, proxyOf(pod)?.gid]
  if (options.setup === 'init') {
    const annotated = injectedNumber(pod, name, 64, owner, own, complaints)
    return inContainer ?? annotated
  }
  const found = annotationOf(pod, annotation(name), 'cni')
  return found === undefined ? own : complaints.read(found.title, found.text, owner, own)
}

/** The elements of an annotation with a list; absent: nobody set it. */
function elementsOf(pod: Pod, name: string, { setup }: Options, complaints: Complaints) {
  const found = annotationOf(pod, annotation(name), setup)
  if (found === undefined) return undefined
  const elements = complaints.read(found.title, found.text, setup === 'init' ? flagElements : (text) => text.split(','), [])
  return { title: found.title, elements }
}

/** The annotation comes instead of the ports of the options; with cni besides them. The proxy's own two come first in any case. */
function skippedInbound(pod: Pod, options: Options, complaints: Complaints): PortSpec[] {
  const { setup, skipInboundPorts = setup === 'init' ? [4567, 4568] : [] } = options
  const found = elementsOf(pod, 'skip-inbound-ports', options, complaints)
  const annotated = found === undefined ? [] : complaints.ports(found.title, found.elements, { alone: false })
  const listed = found === undefined ? skipInboundPorts : setup === 'cni' ? [...skipInboundPorts, ...annotated] : annotated
  return [...new Set([portOf(pod, options, 'control', complaints), portOf(pod, options, 'admin', complaints), ...listed])]
}

/** The annotation comes instead of the ports of the options; a pod of the control plane calls the API server directly, too. */
function skippedOutbound(pod: Pod, options: Options, complaints: Complaints): PortSpec[] {
  const { setup, skipOutboundPorts = setup === 'init' ? [4567, 4568] : [] } = options
  const found = elementsOf(pod, 'skip-outbound-ports', options, complaints)
  const controlPlane = isControlPlane(pod)
  const usual = setup === 'init' && controlPlane ? [] : skipOutboundPorts
  const listed = found === undefined ? usual : complaints.ports(found.title, found.elements, { alone: !controlPlane })
  return [...new Set([...listed, ...(controlPlane ? options.apiServerPorts : [])])]
}

function skippedSubnets(pod: Pod, options: Options, complaints: Complaints): readonly string[] {
  const found = elementsOf(pod, 'skip-subnets', options, complaints)
  return found === undefined ? options.skipSubnets : complaints.read(found.title, found.elements, subnets, [])
}

/** The proxy listens for IPv6 where Linkerd has rules for it, and both follow from the same value; the CNI plugin has a value of its own. */
function hasIPv6(pod: Pod, { setup, disableIPv6 }: Options): boolean {
  const listens = proxyOf(pod)?.env.LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS ?? ''
  return !disableIPv6 || (setup === 'init' && listens.includes('['))
}

const injected = (pod: Pod, options: Options, complaints: Complaints): Settings => ({
  inboundPort: portOf(pod, options, 'inbound', complaints),
  outboundPort: portOf(pod, options, 'outbound', complaints),
  proxyUid: ownerOf(pod, options, 'proxy-uid', complaints),
  proxyGid: ownerOf(pod, options, 'proxy-gid', complaints),
  skipInboundPorts: skippedInbound(pod, options, complaints),
  skipOutboundPorts: skippedOutbound(pod, options, complaints),
  skipSubnets: skippedSubnets(pod, options, complaints),
  portsToRedirect: options.portsToRedirect,
  ipv6: hasIPv6(pod, options),
  nothing: undefined,
})

/** Each family has the networks of its own; before 2.16 there was no IPv6, and before 2.11 neither a group nor a network. */
function ofVersion(settings: Settings, { version }: Options, complaints: Complaints): Settings {
  const { skipSubnets } = settings
  const ipv6 = settings.ipv6 && version === 'current'
  if (version !== '2.10') return { ...settings, ipv6, skipSubnets: skipSubnets.filter((network) => ipv6 || !isIpv6(network)) }
  if (skipSubnets.length > 0) complaints.ignored('skip-subnets', 'Linkerd knows no networks to skip before version 2.11')
  return { ...settings, ipv6: false, proxyGid: -1, skipSubnets: [] }
}

export function readSettings(pod: Pod, options: Options, kit: Kit): Reading {
  const complaints = complaintsOf(pod)
  const args = initOf(pod)?.args ?? []
  const settings = args.length > 0 ? readFlags(pod, args, complaints, kit) : injected(pod, options, complaints)
  warnOfIgnored(pod, options, args.length > 0 ? settings : undefined)
  return { settings: ofVersion(settings, options, complaints), refused: complaints.refused }
}
