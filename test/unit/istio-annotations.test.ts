// What each annotation, label and variable does, with good values and with bad ones.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { type AnyPlugin, describe, type PodFacts } from '../../core/describe.ts'
import type { Interception } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { textOf } from '../repo/files.ts'
import { ask, interceptionFor, prefix } from './istio-pods.ts'
import { podFacts } from './pods.ts'

const mode = 'sidecar.istio.io/interceptionMode'
const statusPort = 'status.sidecar.istio.io/port'
const reroute = 'istio.io/reroute-virtual-interfaces'

const setFor = (name: string, annotation: string, value: string, options: unknown = {}) =>
  interceptionFor({ annotations: { [annotation]: value } }, options).sets?.[name]

/** Rule names of the direction, in their order. */
const rulesOf = (interception: Interception, direction: 'outbound' | 'inbound') => interception[direction].map(({ name }) => name)

/** Annotation, value, and the end of the message; Istio does not start a pod that has it, in either setup. */
const refused: readonly (readonly [string, string, RegExp])[] = [
  [mode, 'redirect', /expected REDIRECT.* or .*, got 'redirect'$/],
  [mode, '', /got ''$/],
  [`${prefix}/includeOutboundIPRanges`, '10.0.0.1', /expected networks like 10\.0\.0\.0\/8, .*, or '\*' alone, got '10\.0\.0\.1'$/],
  [`${prefix}/includeOutboundIPRanges`, '*,10.0.0.0/8', /got '\*' in '\*,10\.0\.0\.0\/8'$/],
  [`${prefix}/includeOutboundIPRanges`, '10.0.0.0/8, 192.0.2.0/24', /without blanks.*got ' 192\.0\.2\.0\/24' in /],
  [`${prefix}/includeOutboundIPRanges`, '10.0.0.0/8,', /got '' in '10\.0\.0\.0\/8,'$/],
  [`${prefix}/includeOutboundIPRanges`, '10.0.0.0/33', /got '10\.0\.0\.0\/33'$/],
  [`${prefix}/includeOutboundIPRanges`, '10.0.0.0/08', /got '10\.0\.0\.0\/08'$/],
  [`${prefix}/includeOutboundIPRanges`, '010.0.0.0/8', /got '010\.0\.0\.0\/8'$/],
  [`${prefix}/includeOutboundIPRanges`, '10.0.0.0.0/8', /got/],
  [`${prefix}/includeOutboundIPRanges`, '10.0/8', /got/],
  [`${prefix}/includeOutboundIPRanges`, '10.0.0.0/', /got/],
  [`${prefix}/includeOutboundIPRanges`, '10.0.0.0/+8', /got/],
  [`${prefix}/includeOutboundIPRanges`, 'fe80::%eth0/64', /got 'fe80::%eth0\/64'$/],
  [`${prefix}/includeOutboundIPRanges`, 'fd00::/129', /got/],
  [`${prefix}/includeOutboundIPRanges`, 'fd00:::/64', /got/],
  [`${prefix}/includeOutboundIPRanges`, '1:2:3:4:5:6:7:8:9/64', /got/],
  [`${prefix}/includeOutboundIPRanges`, ' ', /got ' '$/],
  [`${prefix}/excludeOutboundIPRanges`, '*', /expected networks like 10\.0\.0\.0\/8, separated by commas without blanks, got '\*'$/],
  [`${prefix}/excludeOutboundIPRanges`, 'none', /got 'none'$/],
  [`${prefix}/includeInboundPorts`, 'http', /expected ports from 0 to 65535, separated by commas, or '\*' alone, got 'http'$/],
  [`${prefix}/includeInboundPorts`, '*,80', /got '\*' in '\*,80'$/],
  [`${prefix}/includeInboundPorts`, '80-90', /got '80-90'$/],
  [`${prefix}/includeInboundPorts`, '80:90', /got '80:90'$/],
  [`${prefix}/includeInboundPorts`, '+80', /got '\+80'$/],
  [`${prefix}/includeInboundPorts`, '65536', /got '65536'$/],
  [`${prefix}/includeInboundPorts`, '0x50', /got '0x50'$/],
  [`${prefix}/includeInboundPorts`, '080', /got '080'$/],
  [`${prefix}/includeInboundPorts`, '80,', /got '' in '80,'$/],
  [`${prefix}/includeInboundPorts`, '80\n', /got '80\?'$/],
  [`${prefix}/includeInboundPorts`, ' ', /got ' '$/],
  [`${prefix}/excludeInboundPorts`, '*', /expected ports from 0 to 65535, separated by commas, got '\*'$/],
  [`${prefix}/excludeInboundPorts`, '-1', /got '-1'$/],
  [`${prefix}/includeOutboundPorts`, '*', /got '\*'$/],
  [`${prefix}/excludeOutboundPorts`, '*', /got '\*'$/],
  [`${prefix}/excludeOutboundPorts`, '80;90', /got '80;90'$/],
  [`${prefix}/excludeInterfaces`, 'eth0,', /expected names of network interfaces, at most 15 .*, separated by commas, got '' in 'eth0,'$/],
  [`${prefix}/excludeInterfaces`, 'sixteen-letters-', /got 'sixteen-letters-'$/],
  [`${prefix}/excludeInterfaces`, 'eth+', /got 'eth\+'$/],
  [`${prefix}/excludeInterfaces`, '../eth0', /got/],
  [`${prefix}/kubevirtInterfaces`, 'a b', /got 'a b'$/],
  [reroute, '-', /got '-'$/],
  [statusPort, '', /expected a port from 0 to 65535, got ''$/],
  [statusPort, '70000', /got '70000'$/],
]

group('annotations of Istio', () => {
  for (const [annotation, value, message] of refused) {
    it(`refuses ${annotation}: ${JSON.stringify(value)}`, () => {
      for (const setup of ['cni', 'init']) {
        const { answer, warnings } = ask({ annotations: { [annotation]: value } }, { setup })
        assert.ok('refused' in answer, JSON.stringify(answer))
        assert.equal(warnings.length, 1)
        assert.ok(warnings[0]?.startsWith(`annotation ${annotation}: `), warnings[0])
        assert.match(warnings[0] ?? '', message)
        assert.equal(answer.refused, `Istio does not start a pod with ${warnings[0]}. Correct it and start the pod again`)
      }
    })
  }

  it('names every bad value of a pod, and core takes the answer', () => {
    const annotations = { [mode]: 'no', [`${prefix}/includeInboundPorts`]: 'http', [`${prefix}/excludeInterfaces`]: 'eth0' }
    const answer = describe(plugins.istio as AnyPlugin, podFacts({ annotations }), plugins.istio?.options.parse({}))
    assert.ok('refused' in answer)
    assert.match(answer.refused, /interceptionMode: .*; annotation .*includeInboundPorts: /)
    assert.equal(answer.warnings.length, 2)
  })

  it('takes ports as Istio and then iptables read them', () => {
    const ports = (value: string) => setFor('included inbound ports', `${prefix}/includeInboundPorts`, value)
    assert.deepEqual(ports(' 80,\t443 ,0,010,65535'), { ports: [80, 443, 0, 8, 65535] })
    assert.deepEqual(setFor('excluded inbound ports', `${prefix}/excludeInboundPorts`, ' 80,15021\n'), { ports: [80, 15021, 15020, 15090] })
    assert.deepEqual(setFor('excluded inbound ports', `${prefix}/excludeInboundPorts`, ''), { ports: [15020, 15021, 15090] })
    assert.deepEqual(setFor('included outbound ports', `${prefix}/includeOutboundPorts`, '443'), { ports: [443] })
  })

  it('takes networks as Go reads them, without bits of the host, and those of IPv6 where IPv6 is captured', () => {
    const included = (value: string, addresses: readonly string[]) =>
      interceptionFor({ annotations: { [`${prefix}/includeOutboundIPRanges`]: value }, addresses }).sets?.['included destinations']
    const both = '10.9.8.7/8,10.0.0.0/8,0.0.0.0/0,255.255.255.255/32,fd00::/8,::ffff:10.0.0.0/104'
    assert.deepEqual(included(both, ['10.9.0.2', 'fd09::2']), { cidrs: ['10.0.0.0/8', '0.0.0.0/0', '255.255.255.255/32'] })
    assert.deepEqual(included(both, ['fd09::2']), { cidrs: ['10.0.0.0/8', '0.0.0.0/0', '255.255.255.255/32', 'fd00::/8'] })
    assert.equal(included('fd00::/8', ['10.9.0.2']), undefined)
    const texts = {
      'fd00:0:0:1:0:0:0:1/128': 'fd00:0:0:1::1/128',
      'FD00::abcd:12:34/97': 'fd00::abcd:0:0/97',
      '2001:db8::ffff/0': '::/0',
      '::10:0:0:0/80': '::10:0:0:0/80',
      '::192.0.2.1/128': '::c000:201/128',
      '1:2:3:4:5:6:7:8/128': '1:2:3:4:5:6:7:8/128',
      '::ffff:10.0.0.0/95': '::fffe:0:0/95',
    }
    for (const [written, meant] of Object.entries(texts)) assert.deepEqual(included(written, ['fd09::2']), { cidrs: [meant] }, written)
  })

  it('sees by its address whether a network is loopback', () => {
    const stays = (value: string) =>
      rulesOf(interceptionFor({ annotations: { [`${prefix}/includeOutboundIPRanges`]: value } }), 'outbound').includes('stays in the pod')
    for (const value of ['*', '126.0.0.0/7', '0.0.0.0/0', '::/0', 'fd00::1/8', '::ffff:126.0.0.1/120']) assert.equal(stays(value), true, value)
    const loopbacks = [
      '127.0.0.1/0',
      '127.9.9.9/32',
      '::1/128',
      '0:0::0001/127',
      '::ffff:127.0.0.1/128',
      '::ffff:7f00:1/128',
      '10.0.0.0/8,127.0.0.0/8',
    ]
    for (const value of loopbacks) assert.equal(stays(value), false, value)
  })

  it('takes an empty value for "none"', () => {
    const names = (annotation: string, direction: 'outbound' | 'inbound') =>
      rulesOf(interceptionFor({ annotations: { [annotation]: '' } }), direction)
    const all = rulesOf(interceptionFor({}), 'outbound')
    assert.deepEqual(
      names(`${prefix}/includeOutboundIPRanges`, 'outbound'),
      all.filter((name) => name !== 'everything else'),
    )
    assert.deepEqual(
      names(`${prefix}/excludeOutboundPorts`, 'outbound'),
      all.filter((name) => name !== 'excluded port'),
    )
    assert.deepEqual(names(`${prefix}/includeInboundPorts`, 'inbound'), [])
    for (const other of ['excludeOutboundIPRanges', 'includeOutboundPorts', 'excludeInterfaces', 'kubevirtInterfaces']) {
      assert.deepEqual(names(`${prefix}/${other}`, 'outbound'), all, other)
    }
  })

  it('excludes interfaces before anything else, in both directions', () => {
    const interception = interceptionFor({ annotations: { [`${prefix}/excludeInterfaces`]: 'net1, lo' } })
    assert.deepEqual(interception.sets?.['excluded interfaces'], { interfaces: ['net1', 'lo'] })
    assert.deepEqual(rulesOf(interception, 'outbound').slice(0, 3), ['IPv6 is not captured', 'excluded interface', 'excluded port'])
    assert.deepEqual(rulesOf(interception, 'inbound').slice(0, 3), ['IPv6 is not captured', 'excluded interface', 'tunnel'])
  })

  it('keeps messages short and readable, and reads 256 kB within a second', () => {
    const long = 262_144
    const values = ['x'.repeat(long), ','.repeat(long), ' '.repeat(long), `${' '.repeat(long)}x`, '1,'.repeat(long / 2), ':'.repeat(long)]
    const started = process.cpuUsage().user
    for (const value of [...values, '\u001b[31m\u202e', '0'.repeat(long), '1.1.1.1/32,'.repeat(20_000), '::1/1,'.repeat(40_000)]) {
      for (const name of ['includeOutboundIPRanges', 'includeInboundPorts', 'excludeInterfaces']) {
        const { warnings } = ask({ annotations: { [`${prefix}/${name}`]: value, 'sidecar.istio.io/inject': value } })
        for (const warning of warnings) {
          assert.ok(warning.length < 400, warning)
          assert.doesNotMatch(warning, /[\p{C}]/u)
        }
      }
    }
    assert.ok(process.cpuUsage().user - started < 6_000_000, '30 values')
  })

  it('says what it cannot do as Istio does it', () => {
    const reasonFor = (facts: Partial<PodFacts>, options: unknown = {}) => {
      const { answer } = ask(facts, options)
      return 'cannot' in answer ? answer.cannot : ''
    }
    assert.match(reasonFor({ annotations: { [mode]: 'TPROXY' } }), /TPROXY: .*the way back/)
    assert.match(reasonFor({ annotations: { [mode]: 'NONE' } }, { setup: 'init' }), /NONE: Istio intercepts nothing/)
    assert.match(reasonFor({ annotations: { [reroute]: 'vnet0' } }), /virtual machine at vnet0: .*no socket of the pod sees it/)
    assert.match(reasonFor({ annotations: { [`${prefix}/kubevirtInterfaces`]: 'k6t-1,k6t-2' } }), /k6t-1, k6t-2/)
    assert.equal(reasonFor({ annotations: { [`${prefix}/kubevirtInterfaces`]: 'k6t-1', [reroute]: '' } }), '')
    assert.equal(reasonFor({ annotations: { [mode]: 'REDIRECT' } }), '')
  })

  it('is described in docs/istio.md, name by name', () => {
    const sources = ['families', 'istio', 'options', 'rules', 'settings', 'sidecar', 'values']
      .map((name) => textOf(`plugins/istio/${name}.ts`))
      .join('\n')
    const names = [...sources.matchAll(/'((?:[a-z.]+\.)?istio\.io\/[\w-]+|[A-Z]+(?:_[A-Z0-9]+)+)'|environment\.([A-Z0-9_]+)|env\.([A-Z_]+)/g)]
    const found = new Set(names.map(([, quoted, read, env]) => quoted ?? read ?? env ?? ''))
    assert.ok(found.size >= 20, [...found].join(' '))
    const document = textOf('docs/istio.md')
    for (const name of found) assert.ok(document.includes(`\`${name}\``), name)
    const options = Object.keys(plugins.istio?.options.parse({ proxyGid: [1], excludeInboundPorts: [], excludeOutboundPorts: [] }) as object)
    for (const option of options) assert.ok(document.includes(`\`${option}\``), option)
  })
})
