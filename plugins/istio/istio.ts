/**
 * Istio's sidecar as istio-cni sets it up: the rules of the nat tables OUTPUT and PREROUTING, in their order, for IPv4 and TCP. IPv6 is left
 * alone, as Istio does for a pod whose first address is IPv4.
 */
import type { IdSpec, Interception, Kit, Parser, Pod, PortSpec, Rule } from '../../core/plugin.ts'

/** What the rules depend on: the options, overridden by the pod's annotations and by its sidecar. */
interface Settings {
  readonly proxyPort: number
  readonly inboundPort: number
  readonly proxyUid: readonly IdSpec[]
  readonly proxyGid: readonly IdSpec[]
  readonly includeOutboundCidrs: readonly string[]
  readonly excludeOutboundCidrs: readonly string[]
  readonly includeOutboundPorts: readonly PortSpec[]
  readonly excludeOutboundPorts: readonly PortSpec[]
  readonly includeInboundPorts: readonly PortSpec[]
  readonly excludeInboundPorts: readonly PortSpec[]
}

/** Metrics and health of the agent, readiness, metrics of Envoy: never captured inbound. */
const statusPorts = [15020, 15021, 15090]

/** HBONE: goes to the listener that Envoy has for it. */
const tunnelPort = 15008

const notIpv4: Rule = { name: 'IPv6 is not captured', when: { family: 'ipv6' }, then: 'pass' }

const optionsOf = ({ z, portList, cidrList, idList }: Kit) => {
  const port = z.int().min(1).max(65535)
  return z.strictObject({
    proxyPort: port.default(15001).describe('where the sidecar takes outbound connections'),
    inboundPort: port.default(15006).describe('where the sidecar takes inbound connections'),
    proxyUid: idList.min(1).default([1337]).describe('users that the sidecar runs as'),
    proxyGid: idList.min(1).default([1337]).describe('groups that the sidecar runs as'),
    includeOutboundCidrs: cidrList.default(['*']).describe('captured destinations; empty: none by destination'),
    excludeOutboundCidrs: cidrList.default([]).describe('destinations that are not captured'),
    includeOutboundPorts: portList.default([]).describe('ports that are captured whatever the destination'),
    excludeOutboundPorts: portList.default([15020]).describe('ports that are never captured, whoever calls'),
    includeInboundPorts: portList.default(['*']).describe('captured ports; empty: none'),
    excludeInboundPorts: portList.default([15020]).describe("ports that are not captured; without effect unless includeInboundPorts is ['*']"),
  })
}

const sidecarOf = (pod: Pod) => pod.containers.find(({ name }) => name === 'istio-proxy')

/** istio-cni's order of decisions: a pod that has its own init container, or a proxy that is no sidecar, is not its business. */
function isSidecarPod(pod: Pod, { boolean }: Kit): boolean {
  const sidecar = sidecarOf(pod)
  if (sidecar === undefined || pod.namespace.name === 'kube-system' || pod.containers.some(({ name }) => name === 'istio-init')) return false
  const isTrue = (text: string | undefined, wanted: boolean): boolean => {
    try {
      return text !== undefined && boolean(text) === wanted
    } catch {
      return false // Istio ignores what it cannot read here
    }
  }
  const [command, role = ''] = sidecar.args
  const otherRole = command === 'proxy' && role !== '' && role !== 'sidecar'
  const refused = isTrue(pod.labels['sidecar.istio.io/inject'] ?? pod.annotations['sidecar.istio.io/inject'], false)
  return !otherRole && !refused && !isTrue(sidecar.env.DISABLE_ENVOY, true) && pod.annotations['sidecar.istio.io/status'] !== undefined
}

/** Why the pod's traffic cannot be taken as Istio would take it. */
function obstacle(pod: Pod): string | undefined {
  const mode = pod.annotations['sidecar.istio.io/interceptionMode'] ?? 'REDIRECT'
  if (mode !== 'REDIRECT') return `interceptionMode ${mode}: only REDIRECT is supported`
  const interfaces = [
    'traffic.sidecar.istio.io/excludeInterfaces',
    'traffic.sidecar.istio.io/kubevirtInterfaces',
    'istio.io/reroute-virtual-interfaces',
  ]
  const byInterface = interfaces.find((annotation) => (pod.annotations[annotation] ?? '') !== '')
  if (byInterface !== undefined) return `annotation ${byInterface}: rules by interface are not supported`
  if (pod.addresses[0]?.includes(':')) return 'its first address is IPv6: capturing IPv6 is not supported'
  return undefined
}

/** A parser that refuses '*', as Istio does for excluded destinations: they would be the whole network. */
const withoutWildcard =
  (parse: Parser<string[]>): Parser<string[]> =>
  (text) => {
    const cidrs = parse(text)
    if (cidrs.includes('*')) throw new Error("expected networks, got '*'")
    return cidrs
  }

function settingsOf(pod: Pod, options: Settings, { ports, cidrs }: Kit): Settings {
  const sidecar = sidecarOf(pod)
  const read = <T>(name: string, parse: Parser<T>, fallback: T): T => pod.read(`traffic.sidecar.istio.io/${name}`, parse, fallback)
  return {
    ...options,
    // Istio takes root for "not set".
    proxyUid: sidecar?.uid ? [sidecar.uid] : options.proxyUid,
    proxyGid: sidecar?.gid ? [sidecar.gid] : options.proxyGid,
    includeOutboundCidrs: read('includeOutboundIPRanges', cidrs, options.includeOutboundCidrs),
    excludeOutboundCidrs: read('excludeOutboundIPRanges', withoutWildcard(cidrs), options.excludeOutboundCidrs),
    includeOutboundPorts: read('includeOutboundPorts', ports, options.includeOutboundPorts),
    excludeOutboundPorts: read('excludeOutboundPorts', ports, options.excludeOutboundPorts),
    includeInboundPorts: read('includeInboundPorts', ports, options.includeInboundPorts),
    excludeInboundPorts: [...new Set([...read('excludeInboundPorts', ports, options.excludeInboundPorts), ...statusPorts])],
  }
}

/**
 * Istio repeats three rules for each user and then for each group of the sidecar: "calls its own pod: inbound", "on lo and not it: pass", "it:
 * pass". The second of the first user lets everybody else's local connections pass, so only the first user ever gets the first rule. It is left
 * out when a loopback network is among the captured destinations; then every user and group gets the first rule.
 */
function outboundRules(settings: Settings, loopbackCaptured: boolean): Rule[] {
  const everything = settings.includeOutboundCidrs.includes('*')
  return [
    notIpv4,
    { name: 'excluded port', when: { port: 'excluded outbound ports' }, then: 'pass' },
    { name: 'sidecar hands over to the app', when: { from: 'passthrough', to: 'pod' }, then: 'pass' },
    {
      name: 'sidecar calls its own pod',
      when: { proto: 'tcp', from: loopbackCaptured ? 'sidecar' : 'first user of the sidecar', to: 'pod' },
      unless: { to: 'loopback', port: 'tunnel' },
      then: 'inbound',
    },
    ...(loopbackCaptured ? [] : [{ name: 'stays in the pod', when: { to: 'pod' }, then: 'pass' }]),
    { name: 'sidecar goes out', when: { from: 'sidecar' }, then: 'pass' },
    { name: 'to localhost', when: { to: 'loopback' }, then: 'pass' },
    { name: 'excluded destination', when: { to: 'excluded destinations' }, then: 'pass' },
    { name: 'included port', when: { proto: 'tcp', port: 'included outbound ports' }, then: 'outbound' },
    everything
      ? { name: 'everything else', when: { proto: 'tcp' }, then: 'outbound' }
      : { name: 'included destination', when: { proto: 'tcp', to: 'included destinations' }, then: 'outbound' },
  ]
}

/** Exclusions count only when everything is included. */
function inboundRules(settings: Settings): Rule[] {
  const everything = settings.includeInboundPorts.includes('*')
  const listed: Rule[] = [{ name: 'included port', when: { proto: 'tcp', port: 'included inbound ports' }, then: 'inbound' }]
  const all: Rule[] = [
    { name: 'excluded port', when: { port: 'excluded inbound ports' }, then: 'pass' },
    { name: 'everything else', when: { proto: 'tcp' }, then: 'inbound' },
  ]
  return [notIpv4, { name: 'tunnel', when: { port: 'tunnel' }, then: 'pass' }, ...(everything ? all : listed)]
}

function interceptionOf(settings: Settings): Interception {
  const loopbackCaptured = settings.includeOutboundCidrs.some((cidr) => /^(127\.|::1(\/|$))/.test(cidr))
  return {
    sets: {
      tunnel: { ports: [tunnelPort] },
      sidecar: { uid: settings.proxyUid, gid: settings.proxyGid },
      'first user of the sidecar': { uid: settings.proxyUid.slice(0, 1) },
      'excluded outbound ports': { ports: settings.excludeOutboundPorts },
      'included outbound ports': { ports: settings.includeOutboundPorts },
      'excluded destinations': { cidrs: settings.excludeOutboundCidrs },
      'included destinations': { cidrs: settings.includeOutboundCidrs },
      'excluded inbound ports': { ports: settings.excludeInboundPorts },
      'included inbound ports': { ports: settings.includeInboundPorts },
    },
    targets: { outbound: { port: settings.proxyPort }, inbound: { port: settings.inboundPort } },
    outbound: outboundRules(settings, loopbackCaptured),
    inbound: inboundRules(settings),
  }
}

export default (kit: Kit) =>
  kit.definePlugin({
    api: 1,
    name: 'istio',
    options: optionsOf(kit),
    selects: (pod) => isSidecarPod(pod, kit),
    describe: (pod, options) => {
      const reason = obstacle(pod)
      if (reason !== undefined) return kit.cannot(reason)
      if (sidecarOf(pod)?.env.ISTIO_META_DNS_CAPTURE === 'true') pod.warn('ISTIO_META_DNS_CAPTURE is ignored: DNS is not captured')
      return interceptionOf(settingsOf(pod, options, kit))
    },
  })
