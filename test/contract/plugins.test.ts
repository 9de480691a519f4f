/** The contract of plugins, for every plugin that is built in. Together the pods of a mesh need every rule of its plugin. */
import assert from 'node:assert/strict'
import { plugins } from '../../core/plugins.ts'
import { type Cases, testContainer, testPlugin, testPod } from '../../core/testing.ts'

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

const cases: Readonly<Record<string, Cases>> = {
  istio: {
    pods: istioPods,
    options: [
      { proxyUid: [1000, 1337], includeOutboundPorts: ['9000-9100'] },
      { captureDns: 'all' },
      { captureDns: 'servers', nameservers: ['10.96.0.10', 'fd00::53'] },
    ],
  },
}

for (const [name, plugin] of Object.entries(plugins)) {
  const own = cases[name]
  assert.ok(own, `the plugin ${name} has no pods to be tested with`)
  testPlugin(plugin, own)
}
