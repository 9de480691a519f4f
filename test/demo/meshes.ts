/** The meshes that the demo can play: ports, users and containers as each of them has them, and what its app is to see. */
import type { StaticPod } from '../lab/agent.ts'
import { type Sidecar, startEnvoy } from '../lab/envoy.ts'
import { type EnvoyLayout, istioLayout, type Listening } from '../lab/envoy-config.ts'
import type { LabPod } from '../lab/net.ts'
import { LINKERD_ADMIN, LINKERD_UID, startSmallProxy } from '../lab/small-proxy.ts'
import { osmDefaults, osmScript } from '../meshes/osm/rules.ts'

export const APP_PORT = 8080

type Direction = 'outbound' | 'inbound'

export interface DemoMesh {
  /** Of the plugin */
  readonly name: string
  readonly title: string
  /** What plays the sidecar */
  readonly proxy: string
  readonly layout: string
  /** Pods have IPv6 as well. */
  readonly ipv6: boolean
  /** What the mesh writes into a pod, as far as its plugin reads it */
  pod(pod: LabPod): Omit<StaticPod, 'name' | 'netns'>
  start(pod: LabPod, name: string): Promise<Sidecar>
  /** Name of the counter of requests among the sidecar's stats */
  counter(direction: Direction): string
  /** What an operator types for the same, in the pod */
  readonly counters: string
  /** Whom the server's app takes for its client, and by which address */
  appSource(server: string): { readonly who: string; readonly ipv4: string; readonly ipv6?: string }
  /** Without redirection the inbound port drops connections, because there is no original destination. */
  readonly dropsUnredirected?: { readonly port: number; readonly counter: string }
}

interface EnvoyMesh extends Pick<DemoMesh, 'name' | 'title' | 'pod' | 'appSource'> {
  readonly envoy: EnvoyLayout
  readonly listening?: Listening
}

function withEnvoy({ envoy, listening = 'v4', ...mesh }: EnvoyMesh): DemoMesh {
  return {
    ...mesh,
    proxy: 'a real Envoy',
    layout: `${envoy.outbound} outbound, ${envoy.inbound} inbound, uid ${envoy.uid}`,
    ipv6: listening === 'each',
    start: (pod, name) => startEnvoy(pod, name, listening, envoy),
    counter: (direction) => `http.${direction}.downstream_rq_total`,
    counters: `curl -s http://127.0.0.1:${envoy.admin}/stats | grep downstream_rq_total`,
  }
}

const passthrough = () => ({ who: 'its sidecar', ipv4: '127.0.0.6', ipv6: '::6' })

const istio = withEnvoy({
  name: 'istio',
  title: 'Istio',
  envoy: istioLayout,
  pod: () => ({ containers: [{ name: 'istio-proxy', uid: istioLayout.uid, gid: istioLayout.uid }] }),
  appSource: passthrough,
})

const kumaEnvoy: EnvoyLayout = { uid: 5678, outbound: 15001, inbound: 15006, admin: 9901, app: 'passthrough' }

const kuma = withEnvoy({
  name: 'kuma',
  title: 'Kuma',
  envoy: kumaEnvoy,
  listening: 'each',
  pod: () => ({
    labels: { 'kuma.io/sidecar-injection': 'enabled' },
    annotations: { 'kuma.io/sidecar-injected': 'true', 'kuma.io/mesh': 'default' },
    containers: [
      { name: 'kuma-validation', uid: kumaEnvoy.uid, gid: kumaEnvoy.uid },
      { name: 'kuma-sidecar', uid: kumaEnvoy.uid, gid: kumaEnvoy.uid },
      { name: 'app' },
    ],
  }),
  appSource: passthrough,
})

const osmEnvoy: EnvoyLayout = { uid: 1500, outbound: 15001, inbound: 15003, admin: 15000, app: APP_PORT }

const osm = withEnvoy({
  name: 'osm',
  title: 'Open Service Mesh',
  envoy: osmEnvoy,
  pod: ({ name }) => ({
    labels: { 'osm-proxy-uuid': `11111111-2222-3333-4444-${name === 'client' ? '5'.repeat(12) : '6'.repeat(12)}` },
    annotations: { 'openservicemesh.io/sidecar-injection': 'enabled' },
    containers: [{ name: 'osm-init', args: ['-c', osmScript(osmDefaults)] }, { name: 'app' }, { name: 'envoy', uid: osmEnvoy.uid }],
  }),
  appSource: () => ({ who: 'its sidecar', ipv4: '127.0.0.1' }),
})

const linkerd: DemoMesh = {
  name: 'linkerd',
  title: 'Linkerd',
  proxy: "a small proxy of Merbridge's own tests (test/lab/small-proxy.py), which treats connections as Linkerd's does,",
  layout: `127.0.0.1:4140 outbound, 0.0.0.0:4143 inbound, uid ${LINKERD_UID}`,
  ipv6: false,
  pod: ({ address }) => ({
    labels: { 'linkerd.io/control-plane-ns': 'linkerd' },
    annotations: { 'linkerd.io/inject': 'enabled' },
    containers: [
      { name: 'linkerd-network-validator', uid: 65534 },
      {
        name: 'linkerd-proxy',
        uid: LINKERD_UID,
        env: {
          LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: '127.0.0.1:4140',
          LINKERD2_PROXY_INBOUND_LISTEN_ADDR: '0.0.0.0:4143',
          LINKERD2_PROXY_CONTROL_LISTEN_ADDR: '0.0.0.0:4190',
          LINKERD2_PROXY_ADMIN_LISTEN_ADDR: `0.0.0.0:${LINKERD_ADMIN}`,
          LINKERD2_PROXY_INBOUND_IPS: address,
        },
      },
      { name: 'app' },
    ],
  }),
  start: startSmallProxy,
  counter: (direction) => `request_total{direction="${direction}"}`,
  counters: `curl -s http://127.0.0.1:${LINKERD_ADMIN}/metrics`,
  appSource: (server) => ({ who: "its own pod, because Linkerd's proxy dials the original destination", ipv4: server }),
  dropsUnredirected: { port: 4143, counter: 'dropped_total{direction="inbound"}' },
}

export const demoMeshes: Readonly<Record<string, DemoMesh>> = { istio, kuma, osm, linkerd }

export function demoMesh(name: string): DemoMesh {
  const mesh = Object.hasOwn(demoMeshes, name) ? demoMeshes[name] : undefined
  if (mesh === undefined) throw new Error(`there is no demo of the mesh '${name}'; there are: ${Object.keys(demoMeshes).join(', ')}`)
  return mesh
}
