/** What the rules depend on: the base, overridden by the pod's annotations, in the order in which Kuma's injector asks. */
import type { Kit, Pod, PortSpec } from '../../core/plugin.ts'
import { isIpv6, serverAddress } from '../shared/networks.ts'
import { Reader } from '../shared/reader.ts'
import { type Base, baseOf, configAnnotation, type Flow, type Readers } from './base.ts'
import { exclusion } from './exclusions.ts'
import { exclusionsByProtocol, older, olderAnnotations, removed, takesOld } from './older.ts'
import { type Options, type Version, versionOf } from './options.ts'
import type { Read } from './reader.ts'
import { namesakes, sidecarOf, wrongLabel } from './sidecar.ts'
import { decimal, enabled, familyMode, networks, portOrNone, ports, truth } from './values.ts'

export interface Settings extends Pick<Base, 'mode' | 'outbound' | 'vnet' | 'dropInvalid' | 'logs'> {
  readonly version: Version
  readonly uid: number
  readonly inbound: Flow & { readonly port6: number }
  /** `servers`: of both families; '*': all queries; false: DNS is a connection like others. */
  readonly dns: { readonly servers: false | '*' | readonly string[]; readonly port: number }
}

export interface Reading {
  readonly settings: Settings
  /** Values that Kuma does not start a pod with, each with its place and with what was expected. */
  readonly refused: readonly string[]
  /** Values that Kuma takes and this plugin cannot. */
  readonly impossible: readonly string[]
}

/** Where the sidecar says that it is ready. */
const readinessPort = 9902

export const names = {
  excludeInboundPorts: 'traffic.kuma.io/exclude-inbound-ports',
  excludeOutboundPorts: 'traffic.kuma.io/exclude-outbound-ports',
  excludeInboundIps: 'traffic.kuma.io/exclude-inbound-ips',
  excludeOutboundIps: 'traffic.kuma.io/exclude-outbound-ips',
  excludeForUids: 'traffic.kuma.io/exclude-outbound-ports-for-uids',
  dropInvalid: 'traffic.kuma.io/drop-invalid-packets',
  logs: 'traffic.kuma.io/iptables-logs',
  mode: 'kuma.io/transparent-proxying-ip-family-mode',
  gateway: 'kuma.io/gateway',
  probePort: 'kuma.io/application-probe-proxy-port',
} as const

const annotationsOf =
  (pod: Pod, reader: Reader): Read =>
  (name, parse) =>
    reader.read<string, ReturnType<typeof parse> | undefined>(`annotation ${name}`, pod.annotations[name], parse, undefined)

/** An empty list counts as none. */
const given = <T>(list: readonly T[] | undefined, otherwise: readonly T[]): readonly T[] =>
  list === undefined || list.length === 0 ? otherwise : list

function outboundOf({ source, outbound }: Base, options: Options, read: Read): Base['outbound'] {
  const rules = (text: string) => text.split(';').filter((rule) => rule !== '' || source !== 'flags')
  const [both, each] = [read(names.excludeForUids, (text) => rules(text).map(exclusion)), takesOld(options) ? exclusionsByProtocol(read) : undefined]
  const annotated = both === undefined && each === undefined ? undefined : [...(both ?? []), ...(each ?? [])]
  return {
    ...outbound,
    excludePorts: given(read(names.excludeOutboundPorts, ports), outbound.excludePorts),
    excludeCidrs: given(read(names.excludeOutboundIps, networks), outbound.excludeCidrs),
    exclusions: annotated ?? outbound.exclusions,
  }
}

/** The list of the annotation takes the place of all but Kuma's own ports, which its injector adds to any list. */
function excludedInbound({ source, inbound }: Base, annotated: readonly PortSpec[] | undefined, probe: number | undefined, usual: number) {
  const own = inbound.excludePorts.filter((port) => port === readinessPort || (port === usual && probe === undefined))
  const listed = annotated === undefined || annotated.length === 0 ? inbound.excludePorts : [...annotated, ...own]
  const probes = probe ?? (source === 'options' ? usual : 0)
  return probes === 0 ? listed : [...new Set([...listed, probes])]
}

/** Nothing about inbound is read where it is off. */
function inboundOf(base: Base, options: Options, read: Read): Settings['inbound'] {
  const gateway = read(names.gateway, enabled) === true
  const probe = read(names.probePort, (text) => {
    const port = portOrNone(text)
    if (gateway && port > 0) throw new Error(`expected 0, because a gateway (${names.gateway}) has no probes of apps, got '${port}'`)
    return port
  })
  const port6 = base.inbound.port6 ?? (versionOf(options) === '2.7' ? 15010 : base.inbound.port)
  const inbound = { ...base.inbound, port6, enabled: base.inbound.enabled && !gateway }
  if (!inbound.enabled) return inbound
  return {
    ...inbound,
    enabled: inbound.open === undefined,
    excludePorts: excludedInbound(base, read(names.excludeInboundPorts, ports), probe, options.applicationProbeProxyPort),
    excludeCidrs: given(read(names.excludeInboundIps, networks), inbound.excludeCidrs),
  }
}

const serversUnknown =
  'only queries to the name servers of the pod are captured, and none is known; list them under nameservers, of the pod or among the options of the mesh'

function serversOf(pod: Pod, { nameservers }: Options, mode: Base['mode'], refused: Reader): readonly string[] {
  const servers = pod.nameservers ?? nameservers
  const unread = servers.find((server) => serverAddress(server) === undefined)
  if (unread !== undefined && mode === 'dualstack')
    refused.complaints.push(`name server ${unread}: expected an address without a zone (%eth0), of which ip6tables knows nothing`)
  const known = [...new Set(servers.flatMap((server) => serverAddress(server) ?? []))]
  const captured = known.filter((server) => mode === 'dualstack' || !isIpv6(server))
  if (known.length === 0) pod.warn(`DNS is not captured: ${serversUnknown}`)
  else if (captured.length === 0) pod.warn('DNS is not captured: its name servers have IPv6 addresses, and IPv6 is not captured')
  return captured
}

const usually = (pod: Pod, options: Options): number => sidecarOf(pod)?.uid ?? options.proxyUid

/** What Kuma looks at and then leaves aside: one warning each. */
function warnOfIgnored(pod: Pod, base: Base, { inbound, outbound }: Pick<Settings, 'inbound' | 'outbound'>): void {
  const { annotations } = pod
  const there = (...all: readonly string[]) => all.filter((name) => (annotations[name] ?? '') !== '')
  const ignored = (all: readonly string[], why: string) => {
    for (const name of all) pod.warn(`annotation ${name}: Kuma ignores it: ${why}`)
  }
  if (!inbound.enabled) ignored(there(names.excludeInboundPorts, names.excludeInboundIps), 'inbound connections are not captured')
  else if (inbound.includePorts.length > 0) ignored(there(names.excludeInboundPorts), 'only listed ports are captured (includePorts)')
  if (!outbound.enabled) ignored(there(names.excludeOutboundPorts), 'outbound connections are not captured')
  else if (outbound.includePorts.length > 0) ignored(there(names.excludeOutboundPorts), 'only listed ports are captured (includePorts)')
  if (/^(disabled|false|no)$/.test(annotations['kuma.io/transparent-proxying'] ?? ''))
    ignored(['kuma.io/transparent-proxying'], 'on Kubernetes every pod with a sidecar has transparent proxying')
  if (annotations['kuma.io/sidecar-injection'] !== undefined) ignored(['kuma.io/sidecar-injection'], 'it must be a label')
  if (there('traffic.kuma.io/transparent-proxy-configmap-name').length > 0)
    pod.warn('annotation traffic.kuma.io/transparent-proxy-configmap-name: its ConfigMap cannot be seen here and is ignored, as by kuma-cni')
  const text = annotations[names.mode] ?? ''
  if (text !== text.toLowerCase() && ['dualstack', 'ipv4'].includes(text.toLowerCase()))
    pod.warn(`annotation ${names.mode}: Kuma takes '${text}' for dualstack; write dualstack or ipv4 in small letters`)
  if (base.inbound.open !== undefined)
    pod.warn(`${base.inbound.open}: Kuma makes rules without users and ports of it, so that no inbound connection is captured at all`)
  warnOfOlder(pod, base)
}

function warnOfRemoved(pod: Pod, options: Options): void {
  for (const name of takesOld(options) ? [] : [older.excludeTcp, older.excludeUdp])
    if ((pod.annotations[name] ?? '') !== '') pod.warn(`annotation ${name}: it is ignored: ${removed}`)
  if (/^(enabled|true|yes)$/.test(pod.annotations[older.ebpf] ?? ''))
    pod.warn(`annotation ${older.ebpf} has no effect: the pod has the rules of Kuma's iptables, and Merbridge's own programs`)
}

/** Of two that disagree, Kuma's own configuration wins. */
function warnOfOlder(pod: Pod, { source, outbound, inbound, dns, uid }: Base): void {
  if (source === 'options' || source === 'older') return
  const winner = source === 'flags' ? 'the flags of kuma-init win' : `${configAnnotation} wins`
  const says = (name: string, value: number | undefined) => {
    const text = pod.annotations[name]
    if (text !== undefined && value !== undefined && decimal(text, 0xffffffff) !== value && text !== '0')
      pod.warn(`annotation ${name}: it is ignored where it differs from ${value}: ${winner}`)
  }
  says(older.uid, uid)
  says(older.outboundPort, outbound.port)
  says(older.inboundPort, inbound.enabled ? inbound.port : undefined)
  says(older.dnsPort, dns.capture === 'none' ? undefined : dns.port)
  const on = pod.annotations[older.dns]
  const agrees = dns.capture === 'none' ? /^(disabled|false|no)$/ : /^(enabled|true|yes)$/
  if (on !== undefined && !agrees.test(on)) pod.warn(`annotation ${older.dns}: it is ignored: ${winner}`)
}

/** Kuma does not inject into a pod whose app runs as the sidecar's user; an init container may. */
function judgeNamesakes(pod: Pod, uid: number, refused: Reader): void {
  for (const name of namesakes(pod, uid)) {
    const what = `container ${name} runs as user ${uid}, as the sidecar does`
    if (pod.annotations['kuma.io/sidecar-injected'] === 'true') pod.warn(`${what}: nothing that it sends is captured`)
    else refused.complaints.push(`${what}: expected another runAsUser`)
  }
}

export function readSettings(pod: Pod, options: Options, kit: Kit): Reading {
  const readers: Readers = { refused: new Reader(), impossible: new Reader() }
  const { refused, impossible } = readers
  const [read, readImpossible] = [annotationsOf(pod, refused), annotationsOf(pod, impossible)]
  const label = wrongLabel(pod)
  if (label !== undefined) refused.complaints.push(label)
  const base = olderAnnotations(pod, baseOf(pod, options, kit, readers), options, read, readImpossible)
  const mode = read(names.mode, familyMode) ?? base.mode
  const { capture, port } = base.dns
  const flows = { outbound: outboundOf(base, options, read), inbound: inboundOf(base, options, read) }
  const uid = base.uid ?? usually(pod, options)
  const effect = (name: string, otherwise: string | undefined) => {
    const wanted = read(name, truth)
    return wanted === undefined ? otherwise : wanted ? `annotation ${name}` : undefined
  }
  const settings: Settings = {
    version: versionOf(options),
    uid,
    mode,
    ...flows,
    dns: { servers: capture === 'none' ? false : capture === 'all' ? '*' : serversOf(pod, options, mode, refused), port },
    vnet: base.vnet,
    dropInvalid: effect(names.dropInvalid, base.dropInvalid),
    logs: effect(names.logs, base.logs),
  }
  judgeNamesakes(pod, uid, refused)
  warnOfIgnored(pod, base, settings)
  warnOfRemoved(pod, options)
  return { settings, refused: refused.complaints, impossible: impossible.complaints }
}
