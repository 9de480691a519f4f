/** A node with a pod of each mesh, as the meshes write them, and listeners where the proxies of each have theirs. */
import type { StaticPod } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { osmDefaults, osmScript } from '../meshes/osm/rules.ts'
import { type Identity, type ListenerSpec, serve } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'

export interface Mesh {
  readonly name: string
  readonly pod: Omit<StaticPod, 'name' | 'netns'>
  readonly proxy: Identity
  /** SO_MARK of the proxy's sockets */
  readonly mark?: number
  readonly outbound: number
  readonly inbound: number
  /** Where its proxy listens for what the pod sends; absent: on every address */
  readonly outboundAddress?: string
  /** Queries over UDP go to its proxy, which listens on this port of 127.0.0.1. */
  readonly dns?: number
  /** What the pod sends over IPv6 goes through its proxy; else it is left alone. */
  readonly ipv6: boolean
  /** Who gets what its proxy sends to the pod's own address: the app, or the inbound port again */
  readonly callsItself: 'app' | 'inbound'
  /** The port that its pod excludes for what it sends. Each mesh has another one. */
  readonly skipped?: number
  /** The same for what comes in. */
  readonly skippedInbound?: number
}

export const meshes: readonly Mesh[] = [
  {
    name: 'istio',
    pod: {
      annotations: {
        'sidecar.istio.io/status': '{}',
        'traffic.sidecar.istio.io/excludeOutboundPorts': '7001',
        'traffic.sidecar.istio.io/excludeInboundPorts': '7101',
      },
      containers: [{ name: 'istio-proxy', uid: 1337, gid: 1337, env: { ISTIO_META_DNS_CAPTURE: 'true' } }, { name: 'app' }],
    },
    proxy: { uid: 1337, gid: 1337 },
    outbound: 15001,
    inbound: 15006,
    dns: 15053,
    ipv6: false,
    callsItself: 'inbound',
    skipped: 7001,
    skippedInbound: 7101,
  },
  {
    name: 'ambient',
    pod: { labels: { 'istio.io/dataplane-mode': 'ambient' }, containers: [{ name: 'app' }] },
    proxy: { uid: 0, gid: 1337 },
    mark: 0x539,
    outbound: 15001,
    inbound: 15006,
    dns: 15053,
    ipv6: true,
    callsItself: 'app',
  },
  {
    name: 'kuma',
    pod: {
      labels: { 'kuma.io/sidecar-injection': 'enabled' },
      annotations: {
        'kuma.io/sidecar-injected': 'true',
        'traffic.kuma.io/exclude-outbound-ports': '7002',
        'traffic.kuma.io/exclude-inbound-ports': '7102',
      },
      containers: [{ name: 'kuma-sidecar', uid: 5678, gid: 5678 }, { name: 'app' }],
    },
    proxy: { uid: 5678, gid: 5678 },
    outbound: 15001,
    inbound: 15006,
    dns: 15053,
    ipv6: true,
    callsItself: 'inbound',
    skipped: 7002,
    skippedInbound: 7102,
  },
  {
    name: 'osm',
    pod: {
      labels: { 'osm-proxy-uuid': '11111111-2222-3333-4444-555555555555' },
      annotations: {
        'openservicemesh.io/sidecar-injection': 'enabled',
        'openservicemesh.io/outbound-port-exclusion-list': '7003',
        'openservicemesh.io/inbound-port-exclusion-list': '7103',
      },
      containers: [
        { name: 'osm-init', args: ['-c', osmScript({ ...osmDefaults, outboundPortExclusions: [7003], inboundPortExclusions: [7103] })] },
        { name: 'app' },
        { name: 'envoy', uid: 1500 },
      ],
    },
    proxy: { uid: 1500, gid: 1500 },
    outbound: 15001,
    inbound: 15003,
    ipv6: false,
    callsItself: 'inbound',
    skipped: 7003,
    skippedInbound: 7103,
  },
  {
    name: 'linkerd',
    pod: {
      labels: { 'linkerd.io/control-plane-ns': 'linkerd' },
      annotations: {
        'linkerd.io/inject': 'enabled',
        'config.linkerd.io/skip-outbound-ports': '7004',
        'config.linkerd.io/skip-inbound-ports': '7104',
      },
      containers: [
        {
          name: 'linkerd-proxy',
          uid: 2102,
          env: { LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: '127.0.0.1:4140', LINKERD2_PROXY_INBOUND_LISTEN_ADDR: '0.0.0.0:4143' },
        },
        { name: 'app' },
      ],
    },
    proxy: { uid: 2102, gid: 2102 },
    outbound: 4140,
    inbound: 4143,
    outboundAddress: '127.0.0.1',
    ipv6: false,
    callsItself: 'app',
    skipped: 7004,
    skippedInbound: 7104,
  },
]

const defined = (ports: readonly (number | undefined)[]): number[] => ports.filter((port) => port !== undefined)
/** Every port that some mesh excludes */
export const skipped = defined(meshes.map((mesh) => mesh.skipped))
export const skippedInbound = defined(meshes.map((mesh) => mesh.skippedInbound))
/** Every port that some mesh's proxy has: 15001 of four of them, and so on */
export const proxyPorts = [...new Set(meshes.flatMap(({ outbound, inbound }) => [outbound, inbound]))]

export const APP_PORT = 8080

export interface Node extends AsyncDisposable {
  readonly lab: Lab
  /** Belongs to no mesh; listens on every port as `outside` */
  readonly outside: LabPod
  readonly pods: ReadonlyMap<string, LabPod>
}

function proxyListeners({ name, outbound, inbound, outboundAddress = '0.0.0.0', dns, mark }: Mesh): ListenerSpec[] {
  const marked = mark === undefined ? {} : { mark }
  const outbound6 = outboundAddress === '0.0.0.0' ? '::' : '::1'
  return [
    { name: `${name}:outbound`, address: outboundAddress, port: outbound, ...marked },
    { name: `${name}:outbound`, address: outbound6, port: outbound, v6only: true, ...marked },
    { name: `${name}:inbound`, address: '0.0.0.0', port: inbound, ...marked },
    { name: `${name}:inbound`, address: '::', port: inbound, v6only: true, ...marked },
    ...(dns === undefined ? [] : [{ name: `${name}:dns`, address: '127.0.0.1', port: dns, protocol: 'udp' as const, ...marked }]),
  ]
}

export async function createNode(): Promise<Node> {
  const lab = await Lab.create('five')
  try {
    const outside = await lab.pod('outside', { ipv6: true })
    const everywhere = { name: 'outside', address: '::' }
    const ports = [APP_PORT, ...skipped, ...proxyPorts].map((port) => ({ ...everywhere, port }))
    // As root, because of the low port.
    await serve(outside, { uid: 0, gid: 0 }, [...ports, { ...everywhere, port: 53, protocol: 'udp' }])
    const pods = new Map<string, LabPod>()
    for (const mesh of meshes) {
      const pod = await lab.pod(mesh.name, { ipv6: true })
      pods.set(mesh.name, pod)
      const apps = [APP_PORT, ...skippedInbound].map((port) => ({ name: `${mesh.name}:app`, address: '::', port }))
      await Promise.all([serve(pod, mesh.proxy, proxyListeners(mesh)), serve(pod, app, apps)])
    }
    return { lab, outside, pods, [Symbol.asyncDispose]: () => lab.close() }
  } catch (error) {
    await lab.close()
    throw error
  }
}
