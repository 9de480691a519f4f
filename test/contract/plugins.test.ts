/** The contract of plugins, for every plugin that is built in. Together the pods of a mesh need every rule of its plugin. */
import assert from 'node:assert/strict'
import { plugins } from '../../core/plugins.ts'
import { type Cases, testContainer, testPlugin, testPod } from '../../core/testing.ts'
import { osmDefaults, osmScript } from '../meshes/osm/rules.ts'

const istioPod = (name: string, annotations: Readonly<Record<string, string>>, addresses = ['10.0.0.9']) =>
  testPod({
    name,
    addresses,
    annotations: {
      'sidecar.istio.io/status': '{}',
      ...Object.fromEntries(Object.entries(annotations).map(([key, value]) => [`traffic.sidecar.istio.io/${key}`, value])),
    },
    containers: [testContainer('app'), testContainer('istio-proxy', { args: ['proxy', 'sidecar'], uid: 1337, gid: 1337 })],
  })

const istioPods = [
  istioPod('plain', {}),
  istioPod('lists', {
    includeOutboundIPRanges: '10.0.0.0/8,192.0.2.0/24',
    excludeOutboundIPRanges: '10.96.0.0/12',
    includeOutboundPorts: '9090,9100-9199',
    excludeOutboundPorts: '22',
    includeInboundPorts: '8080,9090',
    excludeInboundPorts: '8081',
  }),
  istioPod('excluded', { excludeOutboundIPRanges: '10.96.0.0/12', excludeInboundPorts: '22,9090' }),
  istioPod('loopback', { includeOutboundIPRanges: '127.0.0.0/8,10.0.0.0/8' }),
  istioPod('nothing', { includeOutboundIPRanges: '', includeInboundPorts: '' }),
  istioPod('dual', {}, ['fd00::9', '10.0.0.9']),
  istioPod('loopback over IPv6', { includeOutboundIPRanges: '::1/128,fd00::/8', excludeInboundPorts: '22' }, ['fd00::9']),
  istioPod('nonsense', {
    includeOutboundIPRanges: '10.0.0.0/99',
    includeOutboundPorts: 'http',
    excludeInboundPorts: '70000',
    includeInboundPorts: '-',
  }),
]

const ambientPod = (name: string, annotations: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>> = {}) =>
  testPod({ name, addresses: ['10.0.0.9', 'fd00::9'], labels: { 'istio.io/dataplane-mode': 'ambient', ...labels }, annotations })

const ambientPods = [
  ambientPod('plain', {}),
  ambientPod('gateway', { 'ambient.istio.io/bypass-inbound-capture': 'true', 'ambient.istio.io/dns-capture': 'false' }),
  ambientPod('nonsense', { 'ambient.istio.io/bypass-inbound-capture': 'yes', 'istio.io/reroute-virtual-interfaces': 'a b' }),
  ambientPod('machine', { 'istio.io/reroute-virtual-interfaces': 'vnet0' }),
  ambientPod('outside', {}, { 'istio.io/dataplane-mode': 'none' }),
]

const osmPod = (name: string, lists: Readonly<Record<string, string>>, containers = [testContainer('app'), testContainer('envoy')]) =>
  testPod({
    name,
    labels: { 'osm-proxy-uuid': name },
    annotations: Object.fromEntries(Object.entries(lists).map(([key, value]) => [`openservicemesh.io/${key}`, value])),
    containers,
  })

const osmPods = [
  osmPod('plain', {}),
  osmPod('lists', {
    'outbound-port-exclusion-list': '22,6379',
    'inbound-port-exclusion-list': '7070',
    'outbound-ip-range-exclusion-list': '10.96.0.0/12',
    'outbound-ip-range-inclusion-list': '10.0.0.0/8,192.0.2.0/24',
  }),
  osmPod('nonsense', { 'outbound-port-exclusion-list': 'http', 'outbound-ip-range-exclusion-list': '10.0.0.1' }),
  osmPod('edge', {}, [testContainer('app'), testContainer('sidecar')]),
  osmPod('init', {}, [
    testContainer('envoy'),
    testContainer('osm-init', { args: ['-c', osmScript({ ...osmDefaults, inboundPortExclusions: [22] })] }),
  ]),
  testPod({ name: 'fsm', labels: { 'fsm-proxy-uuid': 'fsm' }, containers: [testContainer('sidecar')] }),
]

const linkerdPod = (
  name: string,
  annotations: Readonly<Record<string, string>>,
  proxy: Parameters<typeof testContainer>[1] = {},
  args: string[] = [],
) =>
  testPod({
    name,
    addresses: ['10.0.0.9', 'fd00::9'],
    annotations: Object.fromEntries(Object.entries(annotations).map(([key, value]) => [`config.linkerd.io/${key}`, value])),
    containers: [testContainer('linkerd-init', { args }), testContainer('linkerd-proxy', proxy), testContainer('app')],
  })

const linkerdPods = [
  linkerdPod('plain', {}),
  linkerdPod(
    'lists',
    { 'skip-inbound-ports': '22,9000-9099', 'skip-outbound-ports': '25', 'skip-subnets': '10.1.0.0/16,fd01::/16' },
    { uid: 2102, gid: 2102 },
  ),
  linkerdPod(
    'ports',
    { 'inbound-port': '5143', 'outbound-port': '5140', 'proxy-uid': '0' },
    { env: { LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: '[::1]:5140' } },
  ),
  linkerdPod('arguments', {}, {}, ['--incoming-proxy-port=4143', '--outgoing-proxy-port=4140', '--ports-to-redirect=80,443']),
  linkerdPod('nonsense', { 'skip-inbound-ports': 'http', 'skip-outbound-ports': '-', 'skip-subnets': 'all', 'inbound-port': '70000' }),
]

const kumaPod = (name: string, annotations: Readonly<Record<string, string>>, containers = [testContainer('app'), testContainer('kuma-sidecar')]) =>
  testPod({ name, addresses: ['10.0.0.9', 'fd00::9'], labels: { 'kuma.io/sidecar-injection': 'enabled' }, annotations, containers })

const kumaPods = [
  kumaPod('plain', {}),
  kumaPod('lists', {
    'traffic.kuma.io/exclude-inbound-ports': '22,9000',
    'traffic.kuma.io/exclude-outbound-ports': '25',
    'traffic.kuma.io/exclude-outbound-ports-for-uids': 'tcp:80,443:1000-1999;udp:*:3000',
    'traffic.kuma.io/exclude-outbound-ips': '10.96.0.0/12,fd00:96::/64',
    'traffic.kuma.io/exclude-inbound-ips': '10.1.0.0/16,fd01::/16',
  }),
  kumaPod('gateway', { 'kuma.io/gateway': 'enabled' }),
  kumaPod('IPv4', { 'kuma.io/transparent-proxying-ip-family-mode': 'ipv4' }),
  kumaPod('nonsense', { 'traffic.kuma.io/exclude-outbound-ports': 'http', 'traffic.kuma.io/exclude-inbound-ips': 'all' }),
]

const cases: Readonly<Record<string, Cases>> = {
  ambient: { pods: ambientPods, options: [{ ipv6: false }, { captureDns: false, probeAddress: '169.254.9.9', probeAddress6: 'fd16::9' }] },
  istio: {
    pods: istioPods,
    options: [
      { proxyUid: [1000, 1337], includeOutboundPorts: ['9000-9100'] },
      { captureDns: 'all' },
      { captureDns: 'servers', nameservers: ['10.96.0.10', 'fd00::53'] },
    ],
  },
  kuma: {
    pods: kumaPods,
    options: [
      { captureDns: 'none' },
      { version: '2.9', captureDns: 'servers', nameservers: ['10.96.0.10', 'fd00::a'] },
      { version: '2.7', includeInboundPorts: [80] },
      { includeOutboundPorts: ['9000-9100'] },
    ],
  },
  osm: {
    pods: osmPods,
    options: [
      { localProxyMode: 'PodIP', networkInterfaceExclusionList: ['net1'] },
      { localDNSProxy: true, outboundPortExclusionList: [9200] },
    ],
  },
  linkerd: { pods: linkerdPods, options: [{ disableIPv6: false }, { setup: 'cni', portsToRedirect: [80] }, { version: '2.10' }] },
}

for (const [name, plugin] of Object.entries(plugins)) {
  const own = cases[name]
  assert.ok(own, `the plugin ${name} has no pods to be tested with`)
  testPlugin(plugin, own)
}
