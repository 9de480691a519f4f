// The istio plugin, compiled, against Istio's tables. The judge is the pseudo code of the nat tables written down a second time, rule by rule.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import fc from 'fast-check'
import { type AnyPlugin, describe, type PodFacts, selects } from '../../core/describe.ts'
import type { Interception } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { compileOne, container, podFacts } from './pods.ts'
import { type Connection, inCidr, Reference } from './reference.ts'

const istio = plugins.istio as AnyPlugin

interface Tables {
  readonly proxyUid: readonly number[]
  readonly proxyGid: readonly number[]
  readonly includeOutboundCidrs: readonly string[]
  readonly excludeOutboundCidrs: readonly string[]
  readonly includeOutboundPorts: readonly number[]
  readonly excludeOutboundPorts: readonly number[]
  readonly includeInboundPorts: readonly (number | '*')[]
  readonly excludeInboundPorts: readonly number[]
}

/** nat OUTPUT, rule by rule; `lo`: the destination's route goes through the loopback interface. */
function outputTable(tables: Tables, { proto, to, port, from = '', uid = 0, gid = 0 }: Connection): string {
  if (to.includes(':')) return 'pass' // iptables has IPv4 rules only
  const dest = to === '0.0.0.0' ? from || '127.0.0.1' : to
  const lo = dest.startsWith('127.') || dest === '10.9.0.2'
  const loopbackIncluded = tables.includeOutboundCidrs.some((cidr) => cidr.startsWith('127.'))
  const LB = dest === '127.0.0.1'
  if (tables.excludeOutboundPorts.includes(port)) return 'pass'
  if (lo && from === '127.0.0.6') return 'pass'
  for (const [id, ids] of [
    [uid, tables.proxyUid],
    [gid, tables.proxyGid],
  ] as const) {
    for (const one of ids) {
      if (lo && proto === 'tcp' && !LB && port !== 15008 && id === one) return '127.0.0.1:15006'
      if (!loopbackIncluded && lo && id !== one) return 'pass'
      if (id === one) return 'pass'
    }
  }
  if (LB) return 'pass'
  if (tables.excludeOutboundCidrs.some((cidr) => inCidr(dest, cidr))) return 'pass'
  if (proto === 'tcp' && tables.includeOutboundPorts.includes(port)) return '127.0.0.1:15001'
  if (proto === 'tcp' && tables.includeOutboundCidrs.some((cidr) => inCidr(dest, cidr))) return '127.0.0.1:15001'
  return 'pass'
}

/** nat PREROUTING, rule by rule. */
function preroutingTable(tables: Tables, { proto, to, port }: Connection): string {
  if (to.includes(':') || proto !== 'tcp' || tables.includeInboundPorts.length === 0 || port === 15008) return 'pass'
  if (tables.includeInboundPorts.includes('*')) {
    return [...tables.excludeInboundPorts, 15020, 15021, 15090].includes(port) ? 'pass' : '127.0.0.1:15006'
  }
  return tables.includeInboundPorts.includes(port) ? '127.0.0.1:15006' : 'pass'
}

function interceptionFor(options: unknown, facts: PodFacts = podFacts()): Interception {
  const answer = describe(istio, facts, istio.options.parse(options))
  assert.ok('interception' in answer, JSON.stringify(answer))
  assert.deepEqual(answer.warnings, [])
  return answer.interception
}

const ids = fc.uniqueArray(fc.constantFrom(3, 4, 1337), { minLength: 1, maxLength: 3 })
const portList = fc.uniqueArray(fc.constantFrom(22, 53, 80, 8080, 15008, 15020), { maxLength: 3 })
const networks = ['10.0.0.0/8', '10.9.0.0/24', '10.96.0.0/12', '127.0.0.0/8', '127.0.0.5', '0.0.0.0/0', '192.0.2.1']
const cidrs = fc.uniqueArray(fc.constantFrom(...networks), { maxLength: 3 })

const anyTables: fc.Arbitrary<Tables> = fc.record({
  proxyUid: ids,
  proxyGid: ids,
  includeOutboundCidrs: fc.oneof(fc.constant(['*']), cidrs),
  excludeOutboundCidrs: cidrs,
  includeOutboundPorts: portList,
  excludeOutboundPorts: portList,
  includeInboundPorts: fc.oneof(fc.constant(['*' as const]), portList),
  excludeInboundPorts: portList,
})

const address = fc.constantFrom(
  ...['10.96.0.10', '10.9.0.2', '10.9.0.3', '192.0.2.1', '127.0.0.1', '127.0.0.5', '127.0.0.6', '127.0.0.9', '0.0.0.0', '8.8.8.8'],
  ...['2001:db8::1', '::1', 'fd09::2', '::'],
)

const anyConnection: fc.Arbitrary<Connection> = fc
  .record({
    proto: fc.constantFrom('tcp' as const, 'tcp' as const, 'udp' as const),
    to: address,
    port: fc.constantFrom(22, 53, 80, 8080, 9999, 15001, 15006, 15008, 15020, 15021, 15090),
    bound: fc.constantFrom('', '', '10.9.0.2', '127.0.0.1', '127.0.0.6', '127.0.0.9'),
    uid: fc.constantFrom(0, 3, 4, 1000, 1337),
    gid: fc.constantFrom(0, 3, 4, 1000, 1337),
  })
  .map(({ bound, ...rest }) => {
    const from = bound === '' || rest.to.includes(':') ? {} : { from: bound }
    return { netns: 1n, direction: 'outbound' as const, ...rest, ...from }
  })

const asText = (value: unknown) => JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? Number(part) : part))

group('the istio plugin', () => {
  it('decides as the rules of nat OUTPUT and PREROUTING, for any options', () => {
    fc.assert(
      fc.property(anyTables, fc.array(anyConnection, { minLength: 30, maxLength: 30 }), (tables, connections) => {
        const reference = new Reference(compileOne(interceptionFor(tables)))
        for (const connection of connections) {
          assert.equal(reference.decide(connection).verdict, outputTable(tables, connection), `outbound ${asText(connection)}`)
          const inbound: Connection = { ...connection, direction: 'inbound', from: connection.to.includes(':') ? 'fd09::9' : '10.9.0.9' }
          assert.equal(reference.decide(inbound).verdict, preroutingTable(tables, inbound), `inbound ${asText(inbound)}`)
        }
      }),
      { numRuns: 150 },
    )
  })

  it('decides as measured under the rules that istio-cni writes by default', () => {
    const reference = new Reference(compileOne(interceptionFor({})))
    const callers = { app: { uid: 1000, gid: 1000 }, proxy: { uid: 1337, gid: 1337 }, group: { uid: 0, gid: 1337 } }
    const [out, into, pass] = ['127.0.0.1:15001', '127.0.0.1:15006', 'pass']
    // destination, what the app gets, what the sidecar gets, what a sidecar as uid 0 and gid 1337 gets
    const table: readonly (readonly [string, number, string, string, string])[] = [
      ['10.96.0.10', 80, out, pass, pass],
      ['10.96.0.10', 53, out, pass, pass],
      ['10.96.0.10', 31000, out, pass, pass],
      ['10.96.0.10', 15020, pass, pass, pass],
      ['127.0.0.1', 8080, pass, pass, pass],
      ['0.0.0.0', 8080, pass, pass, pass],
      ['127.0.0.9', 8080, pass, into, pass],
      ['127.0.0.53', 53, pass, into, pass],
      ['127.0.0.6', 15002, pass, into, pass],
      ['10.9.0.2', 8080, pass, into, pass],
      ['10.9.0.2', 15008, pass, pass, pass],
      ['2001:db8::9', 80, pass, pass, pass],
      ['::ffff:10.96.0.10', 80, out, pass, pass],
    ]
    for (const [to, port, app, proxy, byGroup] of table) {
      const verdicts = Object.values(callers).map(
        (who) => reference.decide({ netns: 1n, direction: 'outbound', proto: 'tcp', to, port, ...who }).verdict,
      )
      assert.deepEqual(verdicts, [app, proxy, byGroup], `${to}:${port}`)
      for (const who of Object.values(callers)) {
        assert.equal(reference.decide({ netns: 1n, direction: 'outbound', proto: 'udp', to, port, ...who }).verdict, pass, `udp ${to}:${port}`)
      }
    }
    const handedOver: Connection = { netns: 1n, direction: 'outbound', proto: 'tcp', to: '10.9.0.2', port: 8080, from: '127.0.0.6', ...callers.proxy }
    assert.deepEqual(reference.decide(handedOver), { verdict: pass, rule: 'sidecar hands over to the app' })
    for (const [port, verdict] of [
      [8080, into],
      [22, into],
      [15001, into],
      [15006, into],
      [9999, into],
      [15008, pass],
      [15020, pass],
      [15021, pass],
      [15090, pass],
    ] as const) {
      const inbound: Connection = { netns: 1n, direction: 'inbound', proto: 'tcp', to: '10.9.0.2', port, from: '10.9.0.9' }
      assert.equal(reference.decide(inbound).verdict, verdict, `inbound ${port}`)
    }
  })

  it('takes the annotations before the options, and the ids of the sidecar before both', () => {
    const prefix = 'traffic.sidecar.istio.io'
    const annotations = {
      [`${prefix}/includeOutboundIPRanges`]: '10.0.0.0/8, 127.0.0.0/8',
      [`${prefix}/excludeOutboundIPRanges`]: '10.1.0.0/16',
      [`${prefix}/includeOutboundPorts`]: '443',
      [`${prefix}/excludeOutboundPorts`]: '',
      [`${prefix}/includeInboundPorts`]: '*',
      [`${prefix}/excludeInboundPorts`]: '8081',
    }
    const containers = [container('istio-proxy', { uid: 0, gid: 2000 })]
    const { sets, targets } = interceptionFor({ proxyUid: [5], proxyPort: 16001 }, podFacts({ annotations, containers }))
    assert.deepEqual(sets?.sidecar, { uid: [5], gid: [2000] })
    assert.deepEqual(sets?.['included destinations'], { cidrs: ['10.0.0.0/8', '127.0.0.0/8'] })
    assert.deepEqual(sets?.['excluded destinations'], { cidrs: ['10.1.0.0/16'] })
    assert.deepEqual(sets?.['included outbound ports'], { ports: [443] })
    assert.deepEqual(sets?.['excluded outbound ports'], { ports: [] })
    assert.deepEqual(sets?.['excluded inbound ports'], { ports: [8081, 15020, 15021, 15090] })
    assert.deepEqual(targets, { outbound: { port: 16001 }, inbound: { port: 15006 } })
  })

  it('warns about an annotation that it cannot read and keeps the option', () => {
    const annotations = { 'traffic.sidecar.istio.io/excludeOutboundIPRanges': '*', 'traffic.sidecar.istio.io/includeInboundPorts': 'http' }
    const answer = describe(istio, podFacts({ annotations }), istio.options.parse({}))
    assert.ok('interception' in answer)
    assert.deepEqual(answer.interception.sets?.['excluded destinations'], { cidrs: [] })
    assert.equal(answer.warnings.length, 2)
  })

  it('says what it cannot do as Istio does it', () => {
    const reasonFor = (more: Partial<PodFacts>) => {
      const answer = describe(istio, podFacts(more), istio.options.parse({}))
      return 'cannot' in answer ? answer.cannot : ''
    }
    assert.match(reasonFor({ annotations: { 'sidecar.istio.io/interceptionMode': 'TPROXY' } }), /TPROXY/)
    assert.match(reasonFor({ annotations: { 'istio.io/reroute-virtual-interfaces': 'vnet0' } }), /interface/)
    assert.match(reasonFor({ addresses: ['fd09::2', '10.9.0.2'] }), /IPv6/)
    assert.equal(reasonFor({ annotations: { 'sidecar.istio.io/interceptionMode': 'REDIRECT' } }), '')
  })

  it('belongs to a pod as istio-cni decides', () => {
    const status = { 'sidecar.istio.io/status': '{}' }
    const injected = (more: Partial<PodFacts> = {}) => selects(istio, podFacts({ annotations: status, ...more }))
    const withSidecar = (more: object) => ({ containers: [container('istio-proxy', more)] })
    assert.equal(injected(), true)
    assert.equal(injected(withSidecar({ args: ['proxy', 'sidecar'] })), true)
    assert.equal(injected({ annotations: {} }), false)
    assert.equal(injected({ containers: [container('app')] }), false)
    assert.equal(injected({ containers: [container('istio-init'), container('istio-proxy')] }), false)
    assert.equal(injected(withSidecar({ args: ['proxy', 'router'] })), false)
    assert.equal(injected(withSidecar({ env: { DISABLE_ENVOY: '1' } })), false)
    assert.equal(injected({ labels: { 'sidecar.istio.io/inject': 'false' } }), false)
    assert.equal(injected({ labels: { 'sidecar.istio.io/inject': 'true' }, annotations: { ...status, 'sidecar.istio.io/inject': 'false' } }), true)
    assert.equal(injected({ labels: { 'sidecar.istio.io/inject': 'perhaps' } }), true)
    assert.equal(injected({ namespace: { name: 'kube-system', labels: {}, annotations: {} } }), false)
  })

  it('refuses options that mean nothing, at their place', () => {
    const bad = { excludeInboundPorts: [80, 70000], includeOutboundCidrs: ['10.0.0.1/8'], proxyUid: [], proxyPort: 0, prxyGid: [1] }
    const issues = istio.options.safeParse(bad).error?.issues.map(({ path }) => path.join('.'))
    assert.deepEqual(issues?.sort(), ['', 'excludeInboundPorts.1', 'includeOutboundCidrs.0', 'proxyPort', 'proxyUid'])
  })
})
