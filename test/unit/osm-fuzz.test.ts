// Whatever a pod says of itself, in annotations, labels, arguments and variables: the answer is about this pod, and rules compile. An error would refuse the reload of the whole node.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import fc from 'fast-check'
import { compilePolicy } from '../../core/compile/policy.ts'
import { type AnyPlugin, describe, type PodFacts, selects } from '../../core/describe.ts'
import { osmDefaults, osmScript } from '../meshes/osm/rules.ts'
import { ambient, bypass, dnsCapture, mode, reroute } from './ambient-pods.ts'
import { osm } from './osm-pods.ts'
import { container, podFacts } from './pods.ts'

const pieces = [
  '10.0.0.1',
  '999.1.1.1',
  '::1',
  '/8',
  '/33',
  '/08',
  ',',
  ' ',
  '0',
  '-1',
  '65536',
  '4294967296',
  '99999999999',
  '$POD_IP',
  '😀',
  'é',
  '"',
  "'",
  '\\',
  '+',
  '!',
  'lo',
  '\r',
  '\n',
  '\0',
  '-A OUTPUT ',
  '-j RETURN',
  'true',
  'ambient',
  'none',
]
const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.array(fc.constantFrom(...pieces), { maxLength: 12 }).map((all) => all.join('')),
)

const script = osmScript({
  ...osmDefaults,
  podIp: '10.0.0.1',
  dns: true,
  interfaces: ['eth0'],
  inboundPortExclusions: [22],
  outboundPortExclusions: [80],
  rangeExclusions: ['10.0.0.0/8'],
  rangeInclusions: ['192.0.2.0/24'],
})
const words = script.split(/(?<=\s)|(?=\s)/)
/** A script with some of its words replaced: most of it is understood. */
const almost = fc
  .array(fc.tuple(fc.nat(words.length - 1), text), { maxLength: 3 })
  .map((changes) => changes.reduce((all, [index, word]) => all.with(index, word), words).join(''))
const oneValue = fc.oneof(
  fc.array(fc.constantFrom('0', '010', '10', '127', '224', '256', '999', ''), { minLength: 3, maxLength: 5 }).map((bytes) => bytes.join('.')),
  fc.bigInt({ min: 0n, max: 2n ** 40n }).map(String),
  fc.string({ unit: fc.constantFrom('e', '😀', 'é', '+'), minLength: 1, maxLength: 16 }),
  fc.constantFrom(...pieces),
  text,
)
/** One value in its place: address, user, port, interface, network. */
const values = fc
  .tuple(fc.constantFrom('10.0.0.1', '1500', '15003', '15001', '15010', 'eth0', '22', '80', '10.0.0.0/8', '192.0.2.0/24'), oneValue)
  .map(([from, to]) => script.replaceAll(from, to))
const argument = fc.oneof(text, almost, values)

const prefix = fc.constantFrom('openservicemesh.io', 'flomesh.io')
const lists = [
  'outbound-port-exclusion-list',
  'inbound-port-exclusion-list',
  'outbound-ip-range-exclusion-list',
  'outbound-ip-range-inclusion-list',
  'sidecar-injection',
  'monitored-by',
  'ignore',
  '__proto__',
]
const osmName = fc.tuple(prefix, fc.constantFrom(...lists)).map((both) => both.join('/'))
const names = fc.oneof(
  osmName,
  fc.constantFrom(mode, dnsCapture, bypass, reroute, 'osm-proxy-uuid', 'fsm-proxy-uuid', 'sidecar.istio.io/status'),
  text,
)
const dictionary = fc.dictionary(names, text, { maxKeys: 6 })

const containerName = fc.constantFrom('app', 'envoy', 'sidecar', 'osm-init', 'fsm-init')
const containers = fc.array(
  fc.record({
    name: containerName,
    args: fc.array(argument, { maxLength: 2 }),
    env: fc.dictionary(text, text, { maxKeys: 2 }),
    uid: fc.constantFrom(undefined, 0, 1500),
  }),
  { maxLength: 4 },
)
const pods: fc.Arbitrary<PodFacts> = fc
  .record({
    annotations: dictionary,
    labels: dictionary,
    namespace: fc.record({ labels: dictionary, annotations: dictionary }),
    containers,
    addresses: fc.constantFrom([], ['10.9.0.2'], ['fd09::2'], ['fd09::2', '10.9.0.2']),
  })
  .map(({ namespace, containers: all, ...rest }) =>
    podFacts({
      ...rest,
      namespace: { name: 'shop', ...namespace },
      containers: all.map(({ name, uid, ...more }) => container(name, { ...more, ...(uid !== undefined && { uid }) })),
    }),
  )

function never(plugin: AnyPlugin, options: fc.Arbitrary<object>, numRuns: number): { readonly enrolled: number } {
  let enrolled = 0
  fc.assert(
    fc.property(pods, options, (facts, given) => {
      const parsed = plugin.options.parse(given)
      selects(plugin, facts, parsed)
      const answer = describe(plugin, facts, parsed)
      assert.ok(answer.warnings.length <= 60)
      if (!('interception' in answer)) return
      enrolled += 1
      compilePolicy(answer.interception, 'shop/web')
    }),
    { numRuns },
  )
  return { enrolled }
}

group('pods that say anything', () => {
  it('never break the osm plugin, and rules that it gives compile', () => {
    const options = fc.record({ localProxyMode: fc.constantFrom('Localhost', 'PodIP'), localDNSProxy: fc.boolean() })
    const { enrolled } = never(osm, options, 1500)
    assert.ok(enrolled > 150, `${enrolled} were enrolled`)
  })

  it('never break the osm plugin with one value of a script that is another one', () => {
    fc.assert(
      fc.property(values, (args) => {
        const facts = podFacts({ labels: { 'osm-proxy-uuid': 'a' }, containers: [container('envoy'), container('osm-init', { args: ['-c', args] })] })
        const answer = describe(osm, facts, osm.options.parse({}))
        if ('interception' in answer) compilePolicy(answer.interception, 'shop/web')
      }),
      { numRuns: 2000 },
    )
  })

  it('never break the ambient plugin, and rules that it gives compile', () => {
    const { enrolled } = never(ambient, fc.record({ captureDns: fc.boolean(), ipv6: fc.boolean() }), 700)
    assert.ok(enrolled > 70, `${enrolled} were enrolled`)
  })
})
