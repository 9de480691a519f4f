// The istio plugin against Istio's tables, as it is written and as it is compiled. The judge is istio-tables.ts.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import fc from 'fast-check'
import { compilePolicy } from '../../core/compile/policy.ts'
import { type AnyPlugin, describe, type PodFacts, selects } from '../../core/describe.ts'
import type { Interception } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { decide } from '../../core/testing/decide.ts'
import { asOptions, interceptionIn, prefix } from './istio-pods.ts'
import { outInterface, outputTable, own, own6, type Packet, preroutingTable, type Tables } from './istio-tables.ts'
import { compileOne, container, podFacts } from './pods.ts'
import { type Connection, Reference } from './reference.ts'

const istio = plugins.istio as AnyPlugin

function interceptionFor(options: unknown, facts: PodFacts = podFacts()): Interception {
  const answer = describe(istio, facts, istio.options.parse(options))
  assert.ok('interception' in answer, JSON.stringify(answer))
  assert.deepEqual(answer.warnings, [])
  return answer.interception
}

const ids = fc.uniqueArray(fc.constantFrom(3, 4, 1337), { minLength: 1, maxLength: 3 })
const portList = fc.uniqueArray(fc.constantFrom(22, 53, 80, 8080, 15008, 15020), { maxLength: 3 })
const loopbacks = ['127.0.0.0/8', '127.0.0.5/32', '127.0.0.1/0', '::1/128']
const networks = [
  '10.0.0.0/8',
  '10.9.0.77/24',
  '10.96.0.0/12',
  '126.0.0.0/7',
  '0.0.0.0/0',
  '192.0.2.1/32',
  '2001:db8::/32',
  'fd09::77/64',
  '::/0',
  ...loopbacks,
]
const cidrs = fc.uniqueArray(fc.constantFrom(...networks), { maxLength: 3 })
const groups = fc.uniqueArray(fc.constantFrom(0, 3, 1000, 1337), { maxLength: 3 })

const anyTables: fc.Arbitrary<Tables> = fc.record({
  excludeInterfaces: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    fc.uniqueArray(fc.constantFrom('lo', 'eth0', 'net2', 'none'), { maxLength: 2 }),
  ),
  proxyUid: ids,
  proxyGid: ids,
  includeOutboundCidrs: fc.oneof(fc.constant(['*']), cidrs),
  excludeOutboundCidrs: cidrs,
  includeOutboundPorts: portList,
  excludeOutboundPorts: portList,
  includeInboundPorts: fc.oneof(fc.constant(['*' as const]), portList),
  excludeInboundPorts: portList.map((ports) => [...ports, 15020, 15021, 15090]),
  ownerGroupsInclude: fc.oneof({ weight: 3, arbitrary: fc.constant('*' as const) }, groups),
  ownerGroupsExclude: groups,
  loopbackCidr: fc.constantFrom('127.0.0.1/32', '127.0.0.1/32', '127.0.0.1/8', '127.0.0.0/29', '127.0.0.9/32'),
  proxyPort: fc.constantFrom(15001, 16001),
  inboundPort: fc.constantFrom(15006, 16006),
  ipv6: fc.boolean(),
  dns: fc.constantFrom<Tables['dns'][]>(false, false, 'all', ['10.96.0.10'], ['8.8.8.8', '2001:db8::53'], ['fd09::53'], ['127.0.0.9', '::1']),
})

const anyPacket: fc.Arbitrary<Packet> = fc
  .record({
    proto: fc.constantFrom('tcp' as const, 'tcp' as const, 'udp' as const),
    to: fc.constantFrom(
      ...['10.96.0.10', own, '10.9.0.3', '192.0.2.1', '127.0.0.1', '127.0.0.5', '127.0.0.6', '127.0.0.9', '0.0.0.0', '8.8.8.8', '126.0.0.1'],
      ...['2001:db8::1', '2001:db8::53', '::1', own6, '::', 'fd09::3', 'fd09::53'],
    ),
    port: fc.constantFrom(22, 53, 80, 8080, 9999, 15001, 15006, 15008, 15020, 15021, 15090),
    bound: fc.constantFrom('', '', '1', '6', '9', 'own'),
    uid: fc.constantFrom(0, 3, 4, 1000, 1337),
    gid: fc.constantFrom(0, 3, 4, 1000, 1337),
    iif: fc.constantFrom('eth0', 'net2'),
  })
  .map(({ bound, ...rest }) => {
    const six = rest.to.includes(':')
    const from = bound === 'own' ? (six ? own6 : own) : `${six ? '::' : '127.0.0.'}${bound}`
    return { ...rest, ...(bound === '' || from === '::9' ? {} : { from }) }
  })

/** What the plugin decides about the packet as an outbound and as an inbound one. */
function decided(interception: Interception, packet: Packet): { readonly outbound: string; readonly inbound: string } {
  const { iif = 'eth0', ...rest } = packet
  const six = packet.to.includes(':')
  const to = packet.to === '0.0.0.0' ? (packet.from ?? '127.0.0.1') : packet.to === '::' ? '::1' : packet.to
  const place = (then: string) => {
    const target = interception.targets?.[then]
    return target === undefined ? then : `${six ? '[::1]' : '127.0.0.1'}:${target.port}`
  }
  const { uid: _uid, gid: _gid, ...stranger } = { ...rest, from: six ? 'fd09::9' : '10.9.0.9' }
  return {
    outbound: place(decide(interception, { ...rest, to, direction: 'outbound', interface: outInterface(to) }, [own, own6]).then),
    inbound: place(decide(interception, { ...stranger, direction: 'inbound', interface: iif }, [own, own6]).then),
  }
}

group('the istio plugin', () => {
  it('decides as the rules of nat OUTPUT and PREROUTING, for any options and annotations', () => {
    fc.assert(
      fc.property(anyTables, fc.boolean(), fc.array(anyPacket, { minLength: 30, maxLength: 30 }), (drawn, annotated, packets) => {
        const tables = annotated ? drawn : asOptions(drawn)
        const interception = interceptionIn(tables, annotated)
        assert.ok(interception.outbound.length <= 14 && interception.inbound.length <= 5)
        for (const packet of packets) {
          const expected = { outbound: outputTable(tables, packet), inbound: preroutingTable(tables, packet) }
          assert.deepEqual(decided(interception, packet), expected, JSON.stringify(packet))
        }
      }),
      { numRuns: 300 },
    )
  })

  it('decides the same when it is compiled', () => {
    fc.assert(
      fc.property(anyTables, fc.boolean(), fc.array(anyPacket, { minLength: 30, maxLength: 30 }), (drawn, annotated, packets) => {
        const tables = { ...(annotated ? drawn : asOptions(drawn)), excludeInterfaces: [] }
        const interception = interceptionIn(tables, annotated)
        const reference = new Reference(compileOne(interception))
        for (const { iif: _iif, ...packet } of packets) {
          const text = JSON.stringify(packet)
          const connection: Connection = { netns: 1n, direction: 'outbound', ...packet }
          assert.equal(reference.decide(connection).verdict, outputTable(tables, packet), `outbound ${text}`)
          const inbound: Connection = { ...connection, direction: 'inbound', from: packet.to.includes(':') ? 'fd09::9' : '10.9.0.9' }
          assert.equal(reference.decide(inbound).verdict, preroutingTable(tables, packet), `inbound ${text}`)
        }
      }),
      { numRuns: 100 },
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
    const annotations = {
      [`${prefix}/includeOutboundIPRanges`]: '10.0.0.0/8,127.0.0.0/8',
      [`${prefix}/excludeOutboundIPRanges`]: '10.1.0.0/16',
      [`${prefix}/includeOutboundPorts`]: '443',
      [`${prefix}/excludeOutboundPorts`]: '',
      [`${prefix}/includeInboundPorts`]: '*',
      [`${prefix}/excludeInboundPorts`]: '8081',
    }
    const containers = [container('istio-proxy', { uid: 0, gid: 2000 })]
    const { sets, targets, proxy } = interceptionFor({ proxyUid: [5], proxyPort: 16001 }, podFacts({ annotations, containers }))
    assert.deepEqual(sets?.sidecar, { uid: [5], gid: [2000] })
    assert.deepEqual(proxy, { uid: 0, gid: 2000 })
    assert.deepEqual(sets?.['included destinations'], { cidrs: ['10.0.0.0/8', '127.0.0.0/8'] })
    assert.deepEqual(sets?.['excluded destinations'], { cidrs: ['10.1.0.0/16'] })
    assert.deepEqual(sets?.['included outbound ports'], { ports: [443] })
    assert.equal(sets?.['excluded outbound ports'], undefined)
    assert.deepEqual(sets?.['excluded inbound ports'], { ports: [8081, 15020, 15021, 15090] })
    assert.deepEqual(targets, { outbound: { port: 16001 }, inbound: { port: 15006 } })
  })

  it('lets istio-validation pass: user 1337 reaches 127.0.0.6:15002 at the inbound port', () => {
    const reference = new Reference(compileOne(interceptionFor({})))
    const validation: Connection = {
      netns: 1n,
      direction: 'outbound',
      proto: 'tcp',
      to: '127.0.0.6',
      port: 15002,
      from: '127.0.0.1',
      uid: 1337,
      gid: 1337,
    }
    assert.deepEqual(reference.decide(validation), { verdict: '127.0.0.1:15006', rule: 'sidecar calls its own pod' })
    assert.equal(reference.decide({ ...validation, uid: 1000, gid: 1000 }).verdict, 'pass')
  })

  it('fits into a policy with 64 owner groups, users and groups', () => {
    const many = Array.from({ length: 64 }, (_, index) => 2000 + 3 * index)
    const tables: Partial<Tables> = { proxyUid: many, proxyGid: many, ownerGroupsInclude: many, loopbackCidr: '127.0.0.0/8' }
    const { record } = compilePolicy(interceptionIn(tables, false), 'default/web')
    assert.ok(record.length > 0)
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
    const many = Array.from({ length: 65 }, (_, index) => index)
    const bad = {
      ...{ excludeInboundPorts: [80, 70000], includeOutboundCidrs: ['10.0.0.1/8'], proxyUid: [], proxyPort: 0, prxyGid: [1], setup: 'ambient' },
      ...{ excludeOutboundCidrs: ['*'], includeInboundPorts: ['*', 80], excludeInterfaces: ['eth0', 'a/b'], ownerGroupsInclude: ['java'] },
      ...{ loopbackCidr: '10.0.0.0/8', dropInvalid: 'yes' },
    }
    const issuesOf = (options: unknown) => istio.options.safeParse(options).error?.issues ?? []
    const places = issuesOf(bad).map(({ path }) => path.join('.'))
    assert.deepEqual(places.sort(), [
      ...['', 'dropInvalid', 'excludeInboundPorts.1', 'excludeInterfaces.1', 'excludeOutboundCidrs', 'includeInboundPorts', 'includeOutboundCidrs.0'],
      ...['loopbackCidr', 'ownerGroupsInclude.0', 'proxyPort', 'proxyUid', 'setup'],
    ])
    for (const [options, message] of [
      [{ dnsPort: 15001 }, 'dnsPort: proxyPort and dnsPort are both 15001,'],
      [{ dnsPort: 15006 }, 'dnsPort: inboundPort and dnsPort are both 15006,'],
      [{ proxyPort: 15053 }, 'proxyPort: proxyPort and dnsPort are both 15053,'],
      [{ inboundPort: 15053 }, 'inboundPort: inboundPort and dnsPort are both 15053,'],
      [
        { nameservers: ['10.96.0.10/32'] },
        'nameservers.0: expected the address of a name server, like "10.96.0.10" or "fd00:10:96::a", not a network',
      ],
      [{ nameservers: ['fd00::a', 'fe80::1%eth0'] }, 'nameservers.1: expected an address without a zone'],
      [{ nameservers: ['kube-dns'] }, 'nameservers.0: expected the address of a name server, like "10.96.0.10"'],
    ] as const) {
      const found = issuesOf(options).map((issue) => `${issue.path.join('.')}: ${issue.message}`)
      assert.ok(found.length === 1 && found[0]?.startsWith(message), `${JSON.stringify(options)}: ${found}`)
    }
    assert.deepEqual(issuesOf({ dnsPort: 5300, proxyPort: 15053 }), [])
    assert.match(issuesOf({ ownerGroupsInclude: many })[0]?.message ?? '', /at most 64/)
    assert.deepEqual(issuesOf({ ownerGroupsInclude: [], loopbackCidr: '127.0.0.9/8', excludeInterfaces: ['net1'] }), [])
  })
})
