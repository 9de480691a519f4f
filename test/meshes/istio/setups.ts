/** Istio's set-ups: pods of every kind with proxies of every kind, with and without DNS capture. */
import type { MeshSetup } from '../../parity/mesh.ts'
import { address, app } from '../../parity/shape.ts'

/** A sidecar with these variables. */
const sidecar = (env: Readonly<Record<string, string>>) => ({
  pod: { annotations: { 'sidecar.istio.io/status': '{}' }, containers: [{ name: 'app' }, { name: 'istio-proxy', env }] },
  options: {},
})

type Texts = Readonly<Record<string, string>>

/** One with annotations, and a user of its own. */
const annotated = (annotations: Texts, env: Texts, options: MeshSetup['options'] = {}) => ({
  pod: {
    annotations: {
      'sidecar.istio.io/status': '{}',
      ...Object.fromEntries(Object.entries(annotations).map(([name, value]) => [`traffic.sidecar.istio.io/${name}`, value])),
    },
    containers: [{ name: 'app' }, { name: 'istio-proxy', uid: 1500, gid: 1500, env }],
  },
  options,
})

const included = {
  includeOutboundIPRanges: '10.96.0.0/16,192.0.2.0/24,fd00:96::/32',
  excludeOutboundIPRanges: '10.96.0.99/32,192.0.2.128/25,fd00:96::99/128',
  includeOutboundPorts: '8080,31000',
  includeInboundPorts: '80,8080',
  excludeInterfaces: 'net2',
}
const excluded = { excludeOutboundIPRanges: '10.97.0.0/16', excludeOutboundPorts: '443,31000', excludeInboundPorts: '22,9999' }

const captured = { ISTIO_META_DNS_CAPTURE: 'true' }
const dual = { ISTIO_DUAL_STACK: 'true' }

/** TCP where DNS is what matters: port 53, and one connection that shows the rest is as before. */
const names = /:53$|(app|proxy) -> (VIP6|mapped VIP|VIP):80$/

/** test/mesh/parity.test.ts tries IPv4 in the pods of IPv4. */
export const istioSetups: readonly MeshSetup[] = [
  { name: 'v4 pod, v4 proxy', kind: 'v4', mode: 'any', ...sidecar({}), tcp: 'plain', ipv4: 'elsewhere' },
  {
    name: 'v4 pod, dual proxy',
    kind: 'v4',
    mode: 'dual',
    ...sidecar({}),
    tcp: 'thorough',
    ipv4: 'elsewhere',
    udp: { flavours: ['mapped'], ports: 22_000 },
  },
  { name: 'v4 pod, DNS', kind: 'v4', mode: 'both', ...sidecar(captured), tcp: names, udp: { flavours: ['v4', 'mapped'], ports: 23_000 } },
  { name: 'dual pod, dual proxy', kind: 'dual', mode: 'dual', ...sidecar(dual), tcp: 'thorough' },
  { name: 'dual pod, two listeners', kind: 'dual', mode: 'both', ...sidecar(dual), tcp: 'plain' },
  { name: 'dual pod, v4 proxy', kind: 'dual', mode: 'any', ...sidecar(dual), tcp: 'plain' },
  { name: 'dual pod, v6 proxy', kind: 'dual', mode: 'v6only', ...sidecar(dual), tcp: 'plain' },
  { name: 'dual pod, loopback proxy', kind: 'dual', mode: 'loopbacks', ...sidecar(dual), tcp: 'plain' },
  {
    name: 'dual pod, DNS',
    kind: 'dual',
    mode: 'both',
    ...sidecar({ ...dual, ...captured }),
    tcp: names,
    udp: { flavours: ['v4', 'v6', 'mapped'], ports: 24_000 },
    // Rules that take UDP change where ::1 is local.
    more: [{ id: 'app -> POD6:9999 from ::1', as: app, to: [[address.POD6, 9999]], bind: ['::1', 0], alone: true }],
  },
  {
    name: 'dual pod, no DNS proxy',
    kind: 'dual',
    mode: 'nodns',
    ...sidecar({ ...dual, ...captured }),
    tcp: names,
    udp: { flavours: ['v4', 'v6', 'mapped'], ports: 26_000, unanswered: true },
  },
  { name: 'v4-first pod', kind: 'dual', mode: 'dual', ...sidecar({}), tcp: 'plain' },
  { name: 'v4-first pod, DNS', kind: 'dual', mode: 'both', ...sidecar(captured), tcp: names, udp: { flavours: ['v6'], ports: 27_000 } },
  { name: 'dual pod, annotations', kind: 'dual', mode: 'both', ...annotated(included, dual), tcp: 'plain' },
  {
    name: 'v4 pod, groups',
    kind: 'v4',
    mode: 'both',
    ...annotated(excluded, { ISTIO_OUTBOUND_OWNER_GROUPS: '1000,1337,2000' }, { setup: 'init' }),
    tcp: 'plain',
  },
  { name: 'v6 pod, dual proxy', kind: 'v6', mode: 'dual', ...sidecar({}), tcp: 'thorough' },
  { name: 'v6 pod, v6 proxy', kind: 'v6', mode: 'v6only', ...sidecar({}), tcp: 'plain' },
  { name: 'v6 pod, v4 proxy', kind: 'v6', mode: 'any', ...sidecar({}), tcp: 'plain' },
  { name: 'v6 pod, DNS', kind: 'v6', mode: 'both', ...sidecar(captured), tcp: names, udp: { flavours: ['v6', 'mapped'], ports: 28_000 } },
]
