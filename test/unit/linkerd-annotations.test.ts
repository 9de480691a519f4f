// What each annotation of Linkerd does, with good values and with bad ones, on the pod and on its namespace, with either setup.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import type { PodFacts } from '../../core/describe.ts'
import { annotated, ask, enrolled, inNamespace, named, rulesFor, summary, usual, withInit } from './linkerd-pods.ts'

/** Annotation, value, setup and the end of the message: Linkerd does not start a pod with it. */
const refused: readonly (readonly [string, string, string, RegExp])[] = [
  ['skip-outbound-ports', 'http', 'init', /expected ports and ranges like 8080,9000-9099, without blanks, got 'http'; no port is left, .*$/],
  ['skip-outbound-ports', ',', 'init', /got '', ''; no port is left/],
  ['skip-outbound-ports', '80-70,90:91', 'cni', /got '80-70', '90:91'; no port is left/],
  ['skip-outbound-ports', '80,"8"1', 'init', /expected a list whose quotation marks stand around whole elements/],
  ['skip-outbound-ports', '80\n81', 'init', /expected a list in one line, got '80\?81'$/],
  ['skip-subnets', '10.0.0.1', 'init', /expected networks like 10\.0\.0\.0\/8, separated by commas, got '10\.0\.0\.1'$/],
  ['skip-subnets', '10.0.0.0/8,', 'init', /got '' in '10\.0\.0\.0\/8,'$/],
  ['skip-subnets', '10.0.0.0/8, all', 'cni', /got ' all' in '10\.0\.0\.0\/8, all'$/],
  ['skip-subnets', '10.0.0.0/33', 'cni', /got '10\.0\.0\.0\/33'$/],
  ['skip-subnets', '10.0.0.0/08', 'init', /got '10\.0\.0\.0\/08'$/],
  ['skip-subnets', '010.0.0.0/8', 'init', /got/],
  ['skip-subnets', '*', 'init', /got '\*'$/],
  ['skip-subnets', 'fe80::%eth0/64', 'init', /got/],
  ['inbound-port', '0', 'init', /expected a port from 1 to 65535, got '0'$/],
  ['inbound-port', '65536', 'init', /got '65536'$/],
  ['outbound-port', '-1', 'init', /got '-1'$/],
  ['control-port', '70000', 'init', /got '70000'$/],
  ['admin-port', '2147483647', 'init', /got '2147483647'$/],
  ['proxy-uid', '4294967295', 'init', /expected a number up to 4294967294, got '4294967295'$/],
  ['proxy-uid', 'proxy', 'cni', /expected a number up to 4294967294, got 'proxy'$/],
  ['proxy-gid', '4294967295', 'cni', /got '4294967295'$/],
  ['proxy-gid', ' 7', 'cni', /got ' 7'$/],
]

/** Annotation, value, setup, what the message has, and what the rules come to: Linkerd passes over the value, or over a part of it. */
const ignored: readonly (readonly [string, string, string, RegExp, object])[] = [
  ['skip-inbound-ports', 'http', 'init', /got 'http'; Linkerd ignores it$/, { inbound: [4190, 4191] }],
  ['skip-inbound-ports', '80, 81,,90-80', 'init', /got ' 81', '', '90-80'; Linkerd ignores it$/, { inbound: [4190, 4191, 80] }],
  ['skip-inbound-ports', 'a,b,c,d,e,f,80', 'cni', /got 'a', 'b', 'c', 'd' and 2 more; Linkerd/, { inbound: [4190, 4191, 80], outbound: [] }],
  ['skip-outbound-ports', '65536,80', 'init', /got '65536'; Linkerd ignores it$/, { outbound: [80] }],
  ['skip-outbound-ports', '-1,1-2-3,80', 'cni', /got '-1', '1-2-3'; Linkerd/, { outbound: [80], inbound: [4190, 4191] }],
  [
    'inbound-port',
    '5143',
    'cni',
    /it is ignored: the CNI plugin takes this port from its own configuration only$/,
    { inbound: [4190, 4191], outbound: [] },
  ],
  [
    'outbound-port',
    'http',
    'cni',
    /it is ignored: the CNI plugin takes this port from its own configuration only$/,
    { inbound: [4190, 4191], outbound: [] },
  ],
  [
    'admin-port',
    '9191',
    'cni',
    /it is ignored: the CNI plugin takes this port from its own configuration only$/,
    { inbound: [4190, 4191], outbound: [] },
  ],
  ['inbound-port', 'http', 'init', /expected a number, got 'http'; Linkerd ignores it$/, {}],
  ['outbound-port', '', 'init', /expected a number, got ''; Linkerd ignores it$/, {}],
  ['control-port', ' 4190', 'init', /got ' 4190'; Linkerd/, {}],
  ['admin-port', '2147483648', 'init', /got '2147483648'; Linkerd/, {}],
  ['proxy-uid', '2102.5', 'init', /got '2102\.5'; Linkerd/, {}],
  ['proxy-gid', '0x10', 'init', /got '0x10'; Linkerd/, {}],
]

/** Annotation, value, setup, and what the rules come to. */
const good: readonly (readonly [string, string, string, object])[] = [
  ['skip-inbound-ports', '80,9000-9099', 'init', { inbound: [4190, 4191, 80, '9000-9099'] }],
  ['skip-inbound-ports', '80,9000-9099', 'cni', { inbound: [4190, 4191, 80, '9000-9099'], outbound: [] }],
  ['skip-inbound-ports', '', 'init', { inbound: [4190, 4191] }],
  ['skip-inbound-ports', '', 'cni', { inbound: [4190, 4191], outbound: [] }],
  ['skip-inbound-ports', '0,080,+81,82-82,0-65535', 'init', { inbound: [4190, 4191, 0, 80, 81, 82, '0-65535'] }],
  ['skip-outbound-ports', '25,587', 'init', { outbound: [25, 587] }],
  ['skip-outbound-ports', '25', 'cni', { outbound: [25], inbound: [4190, 4191] }],
  ['skip-outbound-ports', '', 'init', { outbound: [] }],
  ['skip-outbound-ports', '25,587\n', 'init', { outbound: [25, 587] }],
  ['skip-subnets', '10.0.0.0/8, 192.168.1.7/24,0.0.0.0/0', 'init', { subnets: ['10.0.0.0/8', '192.168.1.0/24', '0.0.0.0/0'] }],
  ['skip-subnets', '10.1.0.0/010', 'init', { subnets: ['10.0.0.0/8'] }],
  ['skip-subnets', 'fd00::/8,10.0.0.0/8', 'init', { subnets: ['10.0.0.0/8'] }],
  ['skip-subnets', '', 'init', {}],
  ['inbound-port', '5143', 'init', { ports: [5143, 4140] }],
  ['outbound-port', '5140', 'init', { ports: [4143, 5140] }],
  ['control-port', '9190', 'init', { inbound: [9190, 4191, 4567, 4568] }],
  ['admin-port', '9191', 'init', { inbound: [4190, 9191, 4567, 4568] }],
  ['proxy-uid', '3000', 'init', { uid: [3000] }],
  ['proxy-uid', '3000', 'cni', { uid: [3000], inbound: [4190, 4191], outbound: [] }],
  ['proxy-uid', '0', 'init', { uid: [] }],
  ['proxy-uid', '-1', 'cni', { uid: [], inbound: [4190, 4191], outbound: [] }],
  ['proxy-gid', '3000', 'init', { gid: [3000] }],
  ['proxy-gid', '0', 'init', {}],
  ['proxy-gid', '2102', 'cni', { gid: [2102], inbound: [4190, 4191], outbound: [] }],
  ['opaque-ports', 'mysql,3306,1000-2000', 'init', {}],
  ['pod-inbound-ports', '80', 'init', {}],
  ['proxy-require-identity-inbound-ports', '80', 'init', {}],
  ['proxy-enable-native-sidecar', 'true', 'init', {}],
  ['close-wait-timeout', '1h', 'cni', { inbound: [4190, 4191], outbound: [] }],
]

const title = (annotation: string, value: string, setup: string) => `${setup}, ${annotation}: ${JSON.stringify(value)}`

group('annotations of Linkerd', () => {
  for (const [annotation, value, setup, message] of refused) {
    it(`refuses ${title(annotation, value, setup)}`, () => {
      const answer = ask(annotated({ [annotation]: value }), { setup })
      assert.ok('refused' in answer, JSON.stringify(answer))
      assert.equal(answer.warnings.length, 1)
      const [warning = ''] = answer.warnings
      assert.ok(warning.startsWith(`annotation ${named(annotation)}: `), warning)
      assert.match(warning, message)
      assert.equal(answer.refused, `Linkerd does not start a pod with ${warning}. Correct it and start the pod again`)
    })
  }

  for (const [annotation, value, setup, message, changed] of ignored) {
    it(`passes over ${title(annotation, value, setup)}`, () => {
      const { rules, warnings } = enrolled(annotated({ [annotation]: value }), { setup })
      assert.deepEqual(summary(rules), { ...usual, ...changed })
      assert.equal(warnings.length, 1)
      assert.ok(warnings[0]?.startsWith(`annotation ${named(annotation)}: `), warnings[0])
      assert.match(warnings[0] ?? '', message)
    })
  }

  for (const [annotation, value, setup, changed] of good) {
    it(`takes ${title(annotation, value, setup)}`, () => {
      assert.deepEqual(summary(rulesFor(annotated({ [annotation]: value }), { setup })), { ...usual, ...changed })
    })
  }

  it('count where linkerd-init has no arguments', () => {
    assert.deepEqual(summary(rulesFor({ ...withInit([]), ...annotated({ 'inbound-port': '5143' }) })), { ...usual, ports: [5143, 4140] })
  })

  it('has the networks of IPv6 where there are rules for IPv6', () => {
    const { subnets } = summary(rulesFor(annotated({ 'skip-subnets': 'fd00:1::/32,::/0,10.0.0.0/8,::ffff:10.0.0.0/104' }), { disableIPv6: false }))
    assert.deepEqual(subnets, ['fd00:1::/32', '::/0', '10.0.0.0/8'])
  })

  it('takes those of the namespace where the pod has none', () => {
    const of = (pod: Record<string, string>, namespace: Record<string, string>, options: object = {}) =>
      summary(rulesFor({ ...annotated(pod), ...inNamespace(namespace) } as Partial<PodFacts>, options))
    assert.deepEqual(of({}, { 'skip-outbound-ports': '25', 'inbound-port': '5143', 'proxy-uid': '7' }), {
      ...usual,
      outbound: [25],
      ports: [5143, 4140],
      uid: [7],
    })
    assert.deepEqual(of({ 'skip-outbound-ports': '26' }, { 'skip-outbound-ports': '25' }).outbound, [26])
    // The injector copies an annotation only onto a pod that has none; the CNI plugin takes an empty one for none.
    assert.deepEqual(of({ 'skip-outbound-ports': '' }, { 'skip-outbound-ports': '25' }).outbound, [])
    assert.deepEqual(of({ 'skip-outbound-ports': '' }, { 'skip-outbound-ports': '25' }, { setup: 'cni' }).outbound, [25])
    assert.deepEqual(of({ 'proxy-uid': '' }, { 'proxy-uid': '7' }, { setup: 'cni' }).uid, [7])
  })

  it('says where a bad value stands', () => {
    const { warnings } = enrolled(inNamespace({ 'admin-port': 'http' }))
    assert.deepEqual(warnings, [`annotation ${named('admin-port')} of namespace shop: expected a number, got 'http'; Linkerd ignores it`])
  })

  it('with cni, adds the ports of the annotation to those of the option inbound, and takes them instead outbound', () => {
    const options = { setup: 'cni', skipInboundPorts: [80], skipOutboundPorts: [81] }
    assert.deepEqual(summary(rulesFor({}, options)), { ...usual, inbound: [4190, 4191, 80], outbound: [81] })
    const both = annotated({ 'skip-inbound-ports': '90', 'skip-outbound-ports': '91' })
    assert.deepEqual(summary(rulesFor(both, options)), { ...usual, inbound: [4190, 4191, 80, 90], outbound: [91] })
    assert.deepEqual(summary(rulesFor(both, { ...options, setup: 'init' })), { ...usual, inbound: [4190, 4191, 90], outbound: [91] })
  })

  it('names everything that is wrong with a pod', () => {
    const answer = ask(annotated({ 'skip-subnets': 'all', 'inbound-port': '0', 'skip-inbound-ports': 'http', 'proxy-uid': 'x' }))
    assert.ok('refused' in answer)
    assert.match(answer.refused, /inbound-port: .*; annotation config\.linkerd\.io\/skip-subnets: /)
    assert.equal(answer.warnings.length, 4)
  })

  it('says that the timeout of connection tracking has no effect', () => {
    const { rules, warnings } = enrolled(annotated({ 'close-wait-timeout': '1h' }))
    assert.deepEqual(summary(rules), usual)
    assert.deepEqual(warnings, ['annotation config.linkerd.io/close-wait-timeout has no effect: it is about connection tracking, and there is none'])
    assert.deepEqual(enrolled(inNamespace({ 'close-wait-timeout': '1h' })).warnings, [])
  })

  it('keeps messages short and readable, and reads 256 kB within a second', () => {
    const long = 262_144
    const values = [
      'x'.repeat(long),
      ','.repeat(long),
      ' '.repeat(long),
      '1,'.repeat(long / 2),
      '-'.repeat(long),
      ':'.repeat(long),
      '\u001b[31m\u202e',
    ]
    const started = process.cpuUsage().user
    for (const value of [...values, '0'.repeat(long), '1.1.1.1/32,'.repeat(20_000), '::1/1,'.repeat(40_000), '\n'.repeat(long)]) {
      for (const name of ['skip-inbound-ports', 'skip-outbound-ports', 'skip-subnets', 'inbound-port', 'proxy-uid', 'linkerd.io/inject']) {
        const annotations = { [name.includes('/') ? name : named(name)]: value }
        for (const warning of ask({ annotations }).warnings) {
          assert.ok(warning.length < 600, warning)
          assert.doesNotMatch(warning, /[\p{C}]/u)
        }
      }
    }
    assert.ok(process.cpuUsage().user - started < 6_000_000, 'all values')
  })
})
