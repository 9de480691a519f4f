// What each annotation does, with good values and with bad ones.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { textOf } from '../repo/files.ts'
import { ask, interceptionFor, traffic } from './kuma-pods.ts'

const config = `${traffic}/transparent-proxy-config`
const forUids = `${traffic}/exclude-outbound-ports-for-uids`
const mode = 'kuma.io/transparent-proxying-ip-family-mode'
const probePort = 'kuma.io/application-probe-proxy-port'

const setsFor = (annotation: string, value: string, options: unknown = {}) =>
  interceptionFor({ annotations: { [annotation]: value } }, options).sets ?? {}

/** Annotation, value, and the end of the message; Kuma does not start a pod that has it. */
const refused: readonly (readonly [string, string, RegExp])[] = [
  [`${traffic}/exclude-inbound-ports`, '80-90', /expected ports from 1 to 65535, separated by commas, no ranges, got '80-90'$/],
  [`${traffic}/exclude-inbound-ports`, '*', /got '\*'$/],
  [`${traffic}/exclude-inbound-ports`, '80,0', /got '0' in '80,0'$/],
  [`${traffic}/exclude-outbound-ports`, 'http', /got 'http'$/],
  [`${traffic}/exclude-outbound-ports`, '65536', /got '65536'$/],
  [`${traffic}/exclude-outbound-ports`, '+80', /got '\+80'$/],
  [`${traffic}/exclude-outbound-ports`, '80;81', /got '80;81'$/],
  [`${traffic}/exclude-inbound-ips`, '10.0.0.0/33', /expected addresses or networks like .*, got '10\.0\.0\.0\/33'$/],
  [`${traffic}/exclude-inbound-ips`, '*', /got '\*'$/],
  [`${traffic}/exclude-outbound-ips`, '10.0.0.0/08', /got '10\.0\.0\.0\/08'$/],
  [`${traffic}/exclude-outbound-ips`, '10.0.0.1, ', /got ' ' in '10\.0\.0\.1, '$/],
  [`${traffic}/exclude-outbound-ips`, '10.0.0.1\n', /got '10\.0\.0\.1\?'$/],
  [`${traffic}/exclude-outbound-ips`, 'fe80::1%eth0', /got 'fe80::1%eth0'$/],
  [`${traffic}/exclude-outbound-ips`, '010.0.0.1', /got '010\.0\.0\.1'$/],
  [`${traffic}/exclude-outbound-ips`, '::ffff:10.0.0.0/104', /got '::ffff:10\.0\.0\.0\/104'$/],
  [forUids, '', /expected the id of one user from 0 to 65535, or one range like 1000-1999, got ''$/],
  [forUids, '*', /got '\*'$/],
  [forUids, '80:1000,2000', /expected the id of one user .*, got '1000,2000' in '80:1000,2000'$/],
  [forUids, '80:65536', /got '65536'/],
  [forUids, '80:2000-1000', /got '2000-1000'/],
  [forUids, '80:08', /got '08'/],
  [forUids, '80:java', /got 'java'/],
  [forUids, 'icmp:80:1000', /expected the protocols tcp and udp, '\*' or none, got 'icmp' in /],
  [forUids, 'tcp:80:1000:1', /expected \[protocols:\]\[ports:\]uids, like .*, got 'tcp:80:1000:1'$/],
  [forUids, '80-80:1000', /expected ports from 0 to 65535 or ranges like 3000-5000, .*, got '80-80' in /],
  [forUids, '90-80:1000', /got '90-80'/],
  [forUids, '1-2-3:1000', /got '1-2-3'/],
  [forUids, '80,:1000', /got '80,'/],
  [forUids, '080:1000', /got '080'/],
  [forUids, ' 80:1000', /got ' 80'/],
  [forUids, '1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16:1000', /expected at most 15 ports in a rule, where a range counts as two, got /],
  [forUids, '80:1000;', /got ''$/],
  [`${traffic}/drop-invalid-packets`, 'enabled', /expected true, false, yes or no, got 'enabled'$/],
  [`${traffic}/iptables-logs`, '1', /got '1'$/],
  [mode, 'ipv6', /expected dualstack or ipv4, got 'ipv6'$/],
  ['kuma.io/gateway', 'builtin', /expected enabled, disabled, true, false, yes or no, got 'builtin'$/],
  ['kuma.io/gateway', 'TRUE', /got 'TRUE'$/],
  [probePort, '', /expected a port from 1 to 65535, or 0 for none, got ''$/],
  [probePort, '70000', /got '70000'$/],
  ['kuma.io/builtin-dns', 'on', /got 'on'$/],
  ['kuma.io/transparent-proxying-inbound-port', '70000', /expected a port from 1 to 65535, or 0 for the usual one, got '70000'$/],
  ['kuma.io/transparent-proxying-outbound-port', 'x', /got 'x'$/],
  ['kuma.io/builtin-dns-port', '-1', /got '-1'$/],
]

group('annotations of Kuma', () => {
  for (const [annotation, value, message] of refused) {
    it(`refuses ${annotation}: ${JSON.stringify(value)}`, () => {
      const answer = ask({ annotations: { [annotation]: value } })
      assert.ok('refused' in answer, JSON.stringify(answer))
      const [warning = '', ...others] = answer.warnings
      assert.deepEqual(others, [])
      assert.ok(warning.startsWith(`annotation ${annotation}: `), warning)
      assert.match(warning, message)
      assert.equal(answer.refused, `Kuma does not start a pod with ${warning}. Correct it and start the pod again`)
    })
  }

  it('reads lists of ports with blanks and empty elements, and an empty one as none', () => {
    const options = { excludeInboundPorts: [7], excludeOutboundPorts: [8] }
    assert.deepEqual(setsFor(`${traffic}/exclude-inbound-ports`, ' 80,\t443 ,,080', options)['excluded inbound ports'], { ports: [80, 443, 9001] })
    assert.deepEqual(setsFor(`${traffic}/exclude-outbound-ports`, '22', options)['excluded outbound ports'], { ports: [22] })
    assert.deepEqual(setsFor(`${traffic}/exclude-outbound-ports`, ' ,', options)['excluded outbound ports'], { ports: [8] })
  })

  it('reads addresses and networks as Go and iptables do, those of IPv6 where it is captured', () => {
    const value = '10.9.8.7/8,,10.0.0.1, 192.0.2.0/010,::ffff:10.96.0.10,FD00::1/8,::1'
    const cidrs = ['10.0.0.0/8', '10.0.0.1/32', '192.0.0.0/8', '10.96.0.10/32', 'fd00::/8', '::1/128']
    assert.deepEqual(setsFor(`${traffic}/exclude-outbound-ips`, value)['excluded destinations'], { cidrs })
    const ipv4 = { ipFamilyMode: 'ipv4' }
    assert.deepEqual(setsFor(`${traffic}/exclude-inbound-ips`, value, ipv4)['excluded sources'], { cidrs: cidrs.slice(0, 4) })
    assert.deepEqual(setsFor(`${traffic}/exclude-outbound-ips`, '', { excludeOutboundCidrs: ['10.1.0.0/16'] })['excluded destinations'], {
      cidrs: ['10.1.0.0/16'],
    })
  })

  it('reads rules of ports for users, and joins what can be joined', () => {
    const rules = (value: string) => {
      const { outbound, sets } = interceptionFor({ annotations: { [forUids]: value } })
      return outbound
        .filter(({ name }) => name.startsWith('ports excluded'))
        .map(({ when }) => [when?.proto ?? 'both', sets?.[String(when?.port)]?.ports, sets?.[String(when?.from)]?.uid])
    }
    assert.deepEqual(rules('1000'), [['both', ['1-65535'], [1000]]])
    assert.deepEqual(rules('22:0-10'), [['both', [22], ['0-10']]])
    assert.deepEqual(rules('tcp::1000'), [['tcp', ['1-65535'], [1000]]])
    assert.deepEqual(rules(' UDP :*:1000-1000'), [['udp', ['1-65535'], [1000]]])
    assert.deepEqual(rules('tcp,udp:010,0,80-90:05'), [['both', [8, 0, '80-90'], [5]]])
    assert.deepEqual(rules('tcp:22:1000;tcp:80,22:1000;udp:22,80:1000'), [['both', [22, 80], [1000]]])
    assert.deepEqual(rules('tcp:22:1000;tcp:22:2000;udp:53:2000'), [
      ['tcp', [22], [1000, 2000]],
      ['udp', [53], [2000]],
    ])
  })

  it('takes more rules than a policy holds where they can be joined, and says so where they cannot', () => {
    const many = (rule: (index: number) => string) => ({ [forUids]: Array.from({ length: 300 }, (_, index) => rule(index)).join(';') })
    assert.equal(interceptionFor({ annotations: many((index) => `tcp:80:${1000 + index}`) }).outbound.length, 9)
    assert.equal(interceptionFor({ annotations: many((index) => `${1000 + index}:7`) }).outbound.length, 9)
    const some = Array.from({ length: 25 }, (_, index) => `tcp:${1000 + index}:${index}`).join(';')
    assert.ok('cannot' in ask({ annotations: { [forUids]: some } }))
    const answer = ask({ annotations: many((index) => `tcp:${1000 + index}:${index}`) })
    assert.ok('cannot' in answer)
    assert.match(
      answer.cannot,
      /^300 rules of ports for users are left when .*; with the others they need 308 rules and 603 sets of .* at most 64 rules and 48 sets fit/,
    )
  })

  it('takes a gateway out of inbound, and says what of its annotations has no effect then', () => {
    const gateway = { 'kuma.io/gateway': 'enabled' }
    assert.deepEqual(interceptionFor({ annotations: gateway }).inbound, [])
    assert.equal(interceptionFor({ annotations: { 'kuma.io/gateway': 'no', [probePort]: '0' } }).inbound.length, 1)
    const answer = ask({ annotations: { ...gateway, [`${traffic}/exclude-inbound-ports`]: 'http', [`${traffic}/exclude-inbound-ips`]: '10.0.0.1' } })
    assert.ok('interception' in answer)
    assert.deepEqual(answer.warnings, [
      `annotation ${traffic}/exclude-inbound-ports: Kuma ignores it: inbound connections are not captured`,
      `annotation ${traffic}/exclude-inbound-ips: Kuma ignores it: inbound connections are not captured`,
    ])
    const clash = ask({ annotations: { ...gateway, [probePort]: '9001' } })
    assert.ok('refused' in clash)
    assert.match(clash.refused, /application-probe-proxy-port: expected 0, because a gateway \(kuma\.io\/gateway\) has no probes of apps, got '9001'/)
  })

  it('leaves the port for probes alone', () => {
    assert.deepEqual(setsFor(probePort, '8080')['excluded inbound ports'], { ports: [8080] })
    assert.equal(setsFor(probePort, '0')['excluded inbound ports'], undefined)
    assert.deepEqual(setsFor(probePort, '9001', { readinessPort: 9902 })['excluded inbound ports'], { ports: [9902, 9001] })
  })

  it('captures IPv4 alone where it is told so, letter by letter', () => {
    const ipv4 = interceptionFor({ annotations: { [mode]: 'ipv4' } })
    assert.deepEqual([ipv4.outbound[0]?.when, ipv4.inbound[0]?.when, ipv4.loopbackAddresses], [{ family: 'ipv6' }, { family: 'ipv6' }, undefined])
    for (const value of ['dualstack', '']) assert.deepEqual(interceptionFor({ annotations: { [mode]: value } }).loopbackAddresses, ['::6'])
    const capital = ask({ annotations: { [mode]: 'IPv4' } })
    assert.ok('interception' in capital)
    assert.deepEqual(capital.interception.loopbackAddresses, ['::6'])
    assert.deepEqual(capital.warnings, [`annotation ${mode}: Kuma takes 'IPv4' for dualstack; write dualstack or ipv4 in small letters`])
  })

  it('says once what has no effect, and what is ignored', () => {
    const warnings = (annotations: Readonly<Record<string, string>>, options: unknown = {}) => {
      const answer = ask({ annotations }, options)
      assert.ok('interception' in answer, JSON.stringify(answer))
      return answer.warnings
    }
    for (const [name, value, message] of [
      [`${traffic}/drop-invalid-packets`, 'yes', /has no effect: there is no address translation/],
      [`${traffic}/iptables-logs`, 'true', /has no effect: there are no rules of iptables/],
      ['kuma.io/transparent-proxying', 'disabled', /Kuma ignores it: on Kubernetes every pod/],
      ['kuma.io/sidecar-injection', 'enabled', /Kuma ignores it: it must be a label/],
      [`${traffic}/transparent-proxy-configmap-name`, 'mine', /its ConfigMap cannot be seen here/],
    ] as const) {
      const [warning = '', ...others] = warnings({ [name]: value })
      assert.deepEqual(others, [])
      assert.ok(warning.startsWith(`annotation ${name}`), warning)
      assert.match(warning, message)
    }
    assert.deepEqual(warnings({ [`${traffic}/drop-invalid-packets`]: 'no' }, { dropInvalid: true }), [])
    const [option = ''] = warnings({}, { dropInvalid: true })
    assert.match(option, /^dropInvalid has no effect/)
    assert.deepEqual(warnings({ [`${traffic}/exclude-outbound-ports`]: '22' }, { includeOutboundPorts: [80] }).length, 1)
    assert.deepEqual(warnings({ [`${traffic}/exclude-outbound-ports`]: '22' }, { redirectOutbound: false }).length, 1)
  })

  it('keeps messages short and readable, and reads 256 kB within a second', () => {
    const long = 262_144
    const values = [
      'x'.repeat(long),
      ','.repeat(long),
      ' '.repeat(long),
      '1,'.repeat(long / 2),
      ';'.repeat(long),
      ':'.repeat(long),
      '[ '.repeat(long / 2),
    ]
    const more = [
      '\u001b[31m\u202e',
      '0'.repeat(long),
      '1.1.1.1/32,'.repeat(20_000),
      '1:1;'.repeat(60_000),
      '- '.repeat(30_000),
      '{a: '.repeat(15_000),
    ]
    const started = process.cpuUsage().user
    for (const value of [...values, ...more]) {
      for (const name of [`${traffic}/exclude-outbound-ports`, `${traffic}/exclude-inbound-ips`, forUids, config, probePort]) {
        for (const warning of ask({ annotations: { [name]: value } }).warnings) {
          assert.ok(warning.length < 500, `${warning.length}`)
          assert.doesNotMatch(warning, /[\p{C}\p{Zl}\p{Zp}]/u)
        }
      }
    }
    const spent = (process.cpuUsage().user - started) / 1000
    assert.ok(spent < 8000, `${spent} ms`)
  })

  it('is described in docs/kuma.md, name by name', () => {
    const document = textOf('docs/kuma.md')
    const names = [
      'exclude-inbound-ports',
      'exclude-outbound-ports',
      'exclude-outbound-ports-for-uids',
      'exclude-inbound-ips',
      'exclude-outbound-ips',
    ]
    const others = ['drop-invalid-packets', 'iptables-logs', 'transparent-proxy-config', 'transparent-proxy-configmap-name']
    const kumas = [
      'gateway',
      'transparent-proxying',
      'transparent-proxying-ip-family-mode',
      'application-probe-proxy-port',
      'sidecar-uid',
      'builtin-dns',
    ]
    const rest = [
      'builtin-dns-port',
      'transparent-proxying-inbound-port',
      'transparent-proxying-outbound-port',
      'sidecar-injection',
      'sidecar-injected',
    ]
    for (const name of [...names, ...others].map((each) => `${traffic}/${each}`)) assert.ok(document.includes(`\`${name}\``), name)
    for (const name of [...kumas, ...rest]) assert.ok(document.includes(`\`kuma.io/${name}\``), name)
  })
})
