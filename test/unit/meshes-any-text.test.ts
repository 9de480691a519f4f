// Whatever stands in the annotations, arguments and variables of a pod, its mesh has an answer: a plugin that fails for one pod stops the reload of all.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import fc from 'fast-check'
import { compilePolicy } from '../../core/compile/policy.ts'
import { type AnyPlugin, describe, type PodFacts, selects } from '../../core/describe.ts'
import { plugins } from '../../core/plugins.ts'
import { container, podFacts } from './pods.ts'

const kumaNames = [
  ...['exclude-inbound-ports', 'exclude-outbound-ports', 'exclude-inbound-ips', 'exclude-outbound-ips', 'exclude-outbound-ports-for-uids'],
  ...['exclude-outbound-tcp-ports-for-uids', 'exclude-outbound-udp-ports-for-uids', 'drop-invalid-packets', 'transparent-proxy-config'],
].map((name) => `traffic.kuma.io/${name}`)
const kumaOlder = [
  ...['transparent-proxying-ip-family-mode', 'gateway', 'application-probe-proxy-port', 'sidecar-uid', 'builtin-dns', 'builtin-dns-port'],
  ...['transparent-proxying', 'transparent-proxying-ebpf', 'transparent-proxying-inbound-port', 'transparent-proxying-inbound-v6-port'],
].map((name) => `kuma.io/${name}`)
const linkerdNames = [
  ...['skip-inbound-ports', 'skip-outbound-ports', 'skip-subnets', 'inbound-port', 'outbound-port', 'control-port', 'admin-port'],
  ...['proxy-uid', 'proxy-gid', 'close-wait-timeout'],
].map((name) => `config.linkerd.io/${name}`)

interface Texts {
  readonly mesh: 'kuma' | 'linkerd'
  readonly names: readonly string[]
  readonly flags: readonly string[]
  readonly variables: readonly string[]
  readonly options: readonly object[]
}

const kuma: Texts = {
  mesh: 'kuma',
  names: [...kumaNames, ...kumaOlder],
  flags: [
    ...['kuma-dp-user', 'ip-family-mode', 'ipv6-enabled', 'redirect-inbound', 'redirect-inbound-port', 'redirect-outbound-port', 'redirect-dns'],
    ...['redirect-all-dns-traffic', 'redirect-dns-port', 'exclude-inbound-ports', 'exclude-outbound-ips', 'exclude-outbound-ports-for-uids'],
    ...['exclude-outbound-tcp-ports-for-uids', 'vnet', 'config', '__proto__', 'constructor'],
  ],
  variables: ['KUMA_NAME'],
  options: [{ setup: 'init' }, { version: '2.7' }, { captureDns: 'servers', ipFamilyMode: 'ipv4' }],
}
const linkerd: Texts = {
  mesh: 'linkerd',
  names: linkerdNames,
  flags: [
    ...['incoming-proxy-port', 'outgoing-proxy-port', 'proxy-uid', 'proxy-gid', 'ports-to-redirect', 'inbound-ports-to-ignore'],
    ...['outbound-ports-to-ignore', 'subnets-to-ignore', 'ipv6', 'simulate', 'log-level', '__proto__', 'constructor'],
  ],
  variables: ['INBOUND_LISTEN_ADDR', 'OUTBOUND_LISTEN_ADDR', 'OUTBOUND_LISTEN_ADDRS', 'CONTROL_LISTEN_ADDR'].map((name) => `LINKERD2_PROXY_${name}`),
  options: [{}, { setup: 'cni' }, { version: '2.10' }, { version: '2.15', disableIPv6: false }],
}

const word = fc.constantFrom(
  ...[
    '0',
    '1',
    '80',
    '65535',
    '65536',
    '4294967294',
    '4294967295',
    '99999999999999999999',
    '-1',
    '08',
    '010',
    '0x10',
    '1e3',
    '80-90',
    '90-80',
    '0-65535',
  ],
  ...[
    '10.0.0.1',
    '10.0.0.0/8',
    '0.0.0.0/0',
    '::',
    '::/0',
    'fd00::1/64',
    '::ffff:10.0.0.1',
    '::ffff:0:0/96',
    '1::2::3',
    'tcp',
    'udp',
    '*',
    'tcp:22:1000',
  ],
  ...[
    'enabled',
    'disabled',
    'true',
    'no',
    'ipv4',
    'IPv4',
    'all',
    '"80"',
    '"',
    '[::1]:4140',
    '127.0.0.1:4140',
    '\u0000',
    '\u001b[31m',
    '\ud800',
    '\n',
  ],
)
const joint = fc.constantFrom(',', ':', ';', ' ', '-', '/', '=', '\n', '"', '')
const ofWords = fc.array(fc.tuple(word, joint), { maxLength: 8 }).map((all) => all.flat().join(''))
const yaml = fc.constantFrom(
  ...['redirect: {dns: {enabled: yes, port: 0}}', 'redirect: {inbound: {port: 0, enabled: no}}', '{a: ', '- - -', 'a: &b [*b]', '? ? :', '[[[[', '"'],
  ...['redirect: {outbound: {excludePorts: [1, [2]], excludePortsForUIDs: [{}]}}', 'kumaDPUser: {}', 'ipFamilyMode: null', '__proto__: {}', '!!js x'],
)
const text = fc.oneof(word, ofWords, ofWords, yaml, fc.string({ unit: 'binary', maxLength: 40 }), fc.string({ maxLength: 20 }))

function podOf({ mesh, names, flags, variables }: Texts): fc.Arbitrary<PodFacts> {
  const some = (keys: readonly string[], maxKeys: number) => fc.dictionary(fc.constantFrom(...keys), text, { maxKeys, noNullPrototype: true })
  const flag = fc.constantFrom(...flags)
  const argument = fc.oneof(
    fc.tuple(flag, text).map(([name, value]) => [`--${name}=${value}`]),
    fc.tuple(flag, text).map(([name, value]) => [`--${name}`, value]),
    text.map((each) => [each]),
  )
  const args = fc.array(argument, { maxLength: 5 }).map((all) => all.flat())
  return fc
    .record({
      annotations: some(names, 4),
      own: some(names, 2),
      init: fc.option(args),
      env: some(variables, 3),
      nameservers: fc.option(fc.array(text, { maxLength: 2 })),
    })
    .map(({ annotations, own, init, env, nameservers }) =>
      podFacts({
        annotations,
        namespace: { name: 'shop', labels: {}, annotations: own },
        containers: [
          ...(init === null ? [] : [container(`${mesh}-init`, { args: init })]),
          container(mesh === 'kuma' ? 'kuma-sidecar' : 'linkerd-proxy', { env }),
        ],
        ...(nameservers && { nameservers }),
      }),
    )
}

/** Throws where the plugin or the compiler fails. */
function answerOf(mesh: Texts['mesh'], pod: PodFacts, options: object): string {
  const plugin = plugins[mesh] as AnyPlugin
  const parsed = plugin.options.parse(options)
  selects(plugin, pod, parsed)
  const answer = describe(plugin, pod, parsed)
  if ('interception' in answer) compilePolicy(answer.interception, 'pod shop/web')
  return 'interception' in answer ? 'rules' : 'cannot' in answer ? 'cannot' : 'refused'
}

group('any text', () => {
  for (const texts of [kuma, linkerd]) {
    it(`gets an answer of ${texts.mesh}`, () => {
      const answers = new Set<string>()
      fc.assert(
        fc.property(podOf(texts), fc.constantFrom(...texts.options), (pod, options) => void answers.add(answerOf(texts.mesh, pod, options))),
        { numRuns: 2000 },
      )
      assert.ok(answers.has('refused') && answers.has('rules'), [...answers].join())
    })
  }
})

/** As much as all annotations of a pod may have. */
const most = 262_144
const filled = (element: (index: number) => string): string => {
  const elements: string[] = []
  for (let length = 0; length < most; length += (elements.at(-1) ?? '').length) elements.push(element(elements.length))
  return elements.join('').slice(0, most)
}

group('256 kB', () => {
  const long: Readonly<Record<string, string>> = {
    'addresses of IPv6': filled((index) => `${(index % 65_536).toString(16)}::,`),
    'addresses of IPv4': filled((index) => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255},`),
    ports: filled((index) => `${1 + (index % 65_535)},`),
    rules: filled((index) => `${1 + (index % 65_535)}:${index % 65_535};`),
    marks: '"'.repeat(most),
    commas: ','.repeat(most),
    digits: '0'.repeat(most),
    lines: '\n'.repeat(most),
    brackets: '['.repeat(most),
  }
  for (const { mesh, names } of [kuma, linkerd]) {
    for (const [what, all] of Object.entries(long)) {
      it(`of ${what} keep ${mesh} busy for a moment only`, () => {
        for (const name of names) {
          const pod = podFacts({ annotations: { [name]: all }, containers: [container(mesh === 'kuma' ? 'kuma-sidecar' : 'linkerd-proxy')] })
          const started = process.cpuUsage()
          answerOf(mesh, pod, mesh === 'kuma' ? { version: '2.7' } : {})
          const { user } = process.cpuUsage(started)
          assert.ok(user < 3e6, `${name}: ${user} microseconds`)
        }
      })
    }
  }
})
