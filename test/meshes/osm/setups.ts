/** The set-ups of OSM, osm-edge and FSM. Their names begin with "v4", because there are rules for IPv4 alone, whatever the pod has. */
import type { MeshSetup } from '../../parity/mesh.ts'
import type { OsmOptions } from './reading.ts'
import { osmDefaults, osmScript } from './rules.ts'

const osm = (annotations: Readonly<Record<string, string>> = {}, options: OsmOptions = {}) => ({
  pod: { labels: { 'osm-proxy-uuid': 'a' }, annotations, containers: [{ name: 'app' }, { name: 'envoy', uid: 1500 }] },
  options: { ...options },
})

const edge = (options: OsmOptions) => ({
  pod: { labels: { 'osm-proxy-uuid': 'a' }, containers: [{ name: 'app' }, { name: 'sidecar', uid: 1500 }] },
  options: { ...options },
})

const fsm = (script: string) => ({
  pod: {
    labels: { 'fsm-proxy-uuid': 'a' },
    containers: [{ name: 'app' }, { name: 'sidecar', uid: 1500 }, { name: 'fsm-init', args: ['-c', script] }],
  },
  options: {},
})

const many = Array.from({ length: 18 }, (_, index) => 9000 + index)
const lists = {
  'openservicemesh.io/outbound-port-exclusion-list': '443, 31000',
  'openservicemesh.io/inbound-port-exclusion-list': ['22', ...many].join(),
  'openservicemesh.io/outbound-ip-range-exclusion-list': '10.97.0.10/32,192.0.2.0/24',
  'openservicemesh.io/outbound-ip-range-inclusion-list': '10.96.0.0/12,10.88.0.0/16',
}
/** TCP where DNS is what matters: port 53, and one connection that shows the rest is as before. */
const names = /:53$|(app|proxy) -> (VIP6|mapped VIP|VIP):80$/
const init = osmScript({
  ...osmDefaults,
  chains: 'FSM',
  podIp: '$POD_IP',
  interfaces: ['net2'],
  inboundPortExclusions: [15020],
  rangeExclusions: ['10.97.0.0/16'],
})

export const osmSetups: readonly MeshSetup[] = [
  { name: 'v4 pod', kind: 'v4', mode: 'any', ...osm(), tcp: 'plain' },
  { name: 'v4 pod, lists', kind: 'v4', mode: 'any', ...osm(lists, { networkInterfaceExclusionList: ['net2'] }), tcp: 'plain' },
  { name: 'v4 pod, PodIP', kind: 'v4', mode: 'any', ...osm({}, { localProxyMode: 'PodIP' }), tcp: 'thorough' },
  { name: 'v4 pod, init container of FSM', kind: 'v4', mode: 'both', ...fsm(init), tcp: 'plain' },
  {
    name: 'v4 pod, DNS of osm-edge',
    kind: 'v4',
    mode: 'both',
    ...edge({ localDNSProxy: true }),
    tcp: names,
    udp: { flavours: ['v4', 'mapped'], ports: 23_000 },
  },
  {
    name: 'v4 pod, no DNS proxy of osm-edge',
    kind: 'v4',
    mode: 'nodns',
    ...edge({ localDNSProxy: true }),
    tcp: names,
    udp: { flavours: ['v4'], ports: 25_000, unanswered: true },
  },
  { name: 'v4 rules in a dual pod', kind: 'dual', mode: 'dual', ...osm({}, { localProxyMode: 'PodIP' }), tcp: 'plain' },
  {
    name: 'v4 rules in a dual pod, DNS of osm-edge',
    kind: 'dual',
    mode: 'both',
    ...edge({ localDNSProxy: true }),
    tcp: 'plain',
    udp: { flavours: ['v6'], ports: 27_000 },
  },
  { name: 'v4 rules in a v6 pod', kind: 'v6', mode: 'both', ...osm(), tcp: 'plain' },
]
