// What differs between istio-cni and istio-init; the sidecar's ids and environment; which pods are Istio's.
import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { describe as group, it } from 'node:test'
import fc from 'fast-check'
import { type AnyPlugin, type PodFacts, selects } from '../../core/describe.ts'
import type { Container } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { ask, interceptionFor, prefix, withSidecar } from './istio-pods.ts'
import { container, podFacts } from './pods.ts'

const istio = plugins.istio as AnyPlugin

const inInit = (env: Record<string, string>, options: object = {}) => ask(withSidecar({ env }), { setup: 'init', ...options })

group('setups of Istio', () => {
  it('excludes other ports by default', () => {
    const excluded = (setup: string, annotations: Record<string, string> = {}, options: object = {}) => {
      const { sets } = interceptionFor({ annotations }, { setup, ...options })
      return [sets?.['excluded inbound ports']?.ports, sets?.['excluded outbound ports']?.ports]
    }
    const status = 'status.sidecar.istio.io/port'
    const inbound = `${prefix}/excludeInboundPorts`
    assert.deepEqual(excluded('cni'), [[15020, 15021, 15090], [15020]])
    assert.deepEqual(excluded('cni', { [status]: '8090' }), [[15020, 15021, 15090], [15020]])
    assert.deepEqual(excluded('cni', { [inbound]: '15090,80' }), [[15090, 80, 15020, 15021], [15020]])
    assert.deepEqual(excluded('init'), [[15090, 15021, 15020], undefined])
    assert.deepEqual(excluded('init', { [status]: ' 8090 ' }), [[15090, 15021, 8090], undefined])
    assert.deepEqual(excluded('init', { [status]: '0' }), [[15090, 15021], undefined])
    assert.deepEqual(excluded('init', { [inbound]: '80' }), [[15090, 15021, 80, 15020], undefined])
    assert.deepEqual(excluded('init', {}, { excludeOutboundPorts: [25] }), [[15090, 15021, 15020], [25]])
  })

  it('takes the ids of the sidecar: with cni both, with init the user for the group too', () => {
    const sidecar = (more: Partial<Container>, options: object = {}) => interceptionFor(withSidecar(more), options).sets?.sidecar
    const openshift = { uid: 1_000_620_000, gid: 1_000_630_000 }
    assert.deepEqual(sidecar({}), { uid: [1337], gid: [1337] })
    assert.deepEqual(sidecar({ uid: 0, gid: 0 }), { uid: [1337], gid: [1337] })
    assert.deepEqual(sidecar(openshift), { uid: [1_000_620_000], gid: [1_000_630_000] })
    assert.deepEqual(sidecar({ uid: 7 }, { proxyGid: [8, 9] }), { uid: [7], gid: [8, 9] })
    assert.deepEqual(sidecar({}, { proxyUid: [3, 4, '10-20'] }), { uid: [3, 4, '10-20'], gid: [1337] })
    assert.deepEqual(sidecar(openshift, { setup: 'init' }), { uid: [1_000_620_000], gid: [1_000_620_000] })
    assert.deepEqual(sidecar({ uid: 0, gid: 1337 }, { setup: 'init', proxyUid: [3, 4] }), { uid: [3, 4], gid: [3, 4] })
    assert.deepEqual(sidecar({ gid: 5 }, { setup: 'init', proxyGid: [6] }), { uid: [1337], gid: [6] })
    assert.deepEqual(interceptionFor({}, { proxyUid: ['10-20'] }).proxy, { uid: 10, gid: 1337 })
  })

  it('accepts NONE with init only', () => {
    const annotations = { 'sidecar.istio.io/interceptionMode': 'NONE' }
    assert.ok('refused' in ask({ annotations }).answer)
    assert.ok('cannot' in ask({ annotations }, { setup: 'init' }).answer)
  })

  it('reads owner groups and the loopback network from the environment with init, and ignores them with cni', () => {
    const env = {
      ISTIO_OUTBOUND_OWNER_GROUPS: '202,,203',
      ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: '5',
      ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: '127.0.0.1/8',
    }
    const { sets, outbound } = interceptionFor(withSidecar({ env }), { setup: 'init', ownerGroupsInclude: [9], loopbackCidr: '127.0.0.2/32' })
    assert.deepEqual(sets?.['included groups'], { gid: [202, 203] })
    assert.equal(sets?.['excluded groups'], undefined)
    assert.deepEqual(sets?.localhost, { cidrs: ['127.0.0.0/8'] })
    assert.ok(outbound.some(({ name, unless }) => name === 'not an included group' && unless?.from === 'included groups'))
    assert.deepEqual(interceptionFor(withSidecar({ env })), interceptionFor({}))
    const initContainer = { containers: [container('istio-init', { env }), container('istio-proxy')] }
    assert.deepEqual(interceptionFor(initContainer, { setup: 'init' }).sets?.['included groups'], { gid: [202, 203] })
  })

  it('captures no group, or all but some', () => {
    const none = interceptionFor(withSidecar({ env: { ISTIO_OUTBOUND_OWNER_GROUPS: '' } }), { setup: 'init' })
    assert.deepEqual(none.outbound.at(-1), { name: 'no group is included', when: {}, then: 'pass' })
    assert.deepEqual(Object.keys(none.targets ?? {}), ['inbound'])
    assert.deepEqual(none, interceptionFor({}, { setup: 'init', ownerGroupsInclude: [] }))
    const some = interceptionFor(withSidecar({ env: { ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: '5, 7-9' } }), { setup: 'init' })
    assert.deepEqual(some.sets?.['excluded groups'], { gid: [5, '7-9'] })
  })

  it('refuses what istio-init refuses in its environment, and says what it cannot look up', () => {
    const many = Array.from({ length: 65 }, (_, index) => `g${index}`).join(',')
    const answers: readonly (readonly [Record<string, string>, 'refused' | 'cannot', RegExp])[] = [
      [{ ISTIO_OUTBOUND_OWNER_GROUPS: many }, 'refused', /ISTIO_OUTBOUND_OWNER_GROUPS: expected at most 64 groups, got 65/],
      [{ ISTIO_OUTBOUND_OWNER_GROUPS: '202,java' }, 'cannot', /names cannot be looked up here, got 'java' in '202,java'/],
      [{ ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: '010' }, 'cannot', /ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: .*got '010'/],
      [{ ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: '10.0.0.0/8' }, 'refused', /ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: expected a network of loopback/],
      [{ ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: '127.0.0.0/7' }, 'refused', /got '127\.0\.0\.0\/7'/],
      [{ ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: '127.0.0.1' }, 'refused', /got '127\.0\.0\.1'/],
      [{ ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: '::1/128' }, 'refused', /got '::1\/128'/],
      [{ ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: '' }, 'refused', /got ''/],
    ]
    for (const [env, kind, message] of answers) {
      const { answer, warnings } = inInit(env)
      assert.ok(kind in answer, JSON.stringify([env, answer]))
      assert.match(String(Reflect.get(answer, kind)), message)
      assert.match(warnings.join(), message)
    }
    const unused = inInit({ ISTIO_OUTBOUND_OWNER_GROUPS: '5', ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: 'java' })
    assert.ok('outbound' in unused.answer)
  })

  it('warns once of each variable or label that Istio ignores, or that has no effect here', () => {
    const warned = (facts: Partial<PodFacts>, options: object = {}) => ask(facts, options).warnings
    assert.deepEqual(warned({ labels: { 'sidecar.istio.io/inject': 'perhaps' } }), [
      "label sidecar.istio.io/inject: expected true or false, got 'perhaps'; Istio ignores it",
    ])
    assert.match(warned({ annotations: { 'sidecar.istio.io/inject': 'yes' } }).join(), /^annotation sidecar/)
    assert.deepEqual(warned({ annotations: { 'sidecar.istio.io/inject': 'T' } }), [])
    assert.match(warned({ annotations: { 'sidecar.istio.io/inject': 'T' } }, { setup: 'init' }).join(), /got 'T'/)
    for (const name of ['ISTIO_META_DNS_CAPTURE', 'ISTIO_DUAL_STACK', 'INVALID_DROP', 'DISABLE_ENVOY']) {
      const expected = [`environment variable ${name}: expected true or false, got 'on'; Istio takes it for false`]
      assert.deepEqual(warned(withSidecar({ env: { [name]: 'on' } })), expected)
      assert.deepEqual(warned(withSidecar({ env: { [name]: 'false' } })), [])
    }
    assert.match(warned(withSidecar({ env: { INVALID_DROP: '1' } })).join(), /INVALID_DROP has no effect/)
    assert.match(warned({}, { dropInvalid: true }).join(), /no effect/)
    assert.deepEqual(warned(withSidecar({ env: { DROP_INVALID: 'true', REDIRECT_DNS: 'true', CAPTURE_ALL_DNS: 'on' } })), [])
    assert.match(inInit({ DROP_INVALID: 'true' }).warnings.join(), /^DROP_INVALID has no effect/)
    assert.deepEqual(warned({}), [])
  })

  it('belongs to other pods with init', () => {
    const status = { 'sidecar.istio.io/status': '{}' }
    const belongs = (setup: string, more: Partial<PodFacts> = {}, options: object = {}) =>
      selects(istio, podFacts({ annotations: status, ...more }), istio.options.parse({ setup, ...options }))
    const both = (more: Partial<PodFacts>) => [belongs('cni', more), belongs('init', more)]
    const inNamespace = (name: string) => both({ namespace: { name, labels: {}, annotations: {} } })
    assert.deepEqual(both({}), [true, true])
    assert.deepEqual(both({ containers: [container('istio-init'), container('istio-proxy')] }), [false, true])
    assert.deepEqual(both({ containers: [container('istio-proxy', { args: ['proxy', 'sidecar'] }), container('app')] }), [true, true])
    assert.deepEqual(both({ containers: [container('istio-proxy', { args: ['proxy', 'router'] })] }), [false, false])
    assert.deepEqual(both({ annotations: {} }), [false, false])
    assert.deepEqual(both({ labels: { 'sidecar.istio.io/inject': '0' } }), [false, true])
    assert.deepEqual(both({ labels: { 'sidecar.istio.io/inject': 'false' } }), [false, false])
    assert.deepEqual(inNamespace('kube-system'), [false, false])
    assert.deepEqual(inNamespace('kube-public'), [true, false])
    assert.equal(belongs('cni', {}, { excludeNamespaces: ['default'] }), false)
  })
})

it('takes an IPv6 address for one exactly when Node does', () => {
  const piece = fc.constantFrom(':', '::', '0', '1', 'ffff', 'fd00', '12345', 'g', '1.2.3.4', '1.2.3', '127.0.0.1', '01.2.3.4', '256.1.1.1')
  fc.assert(
    fc.property(fc.array(piece, { minLength: 1, maxLength: 12 }), (pieces) => {
      const address = pieces.join('')
      const { answer } = ask({ annotations: { [`${prefix}/excludeOutboundIPRanges`]: `${address}/8` } })
      assert.equal('outbound' in answer, isIP(address) !== 0, address)
    }),
    { numRuns: 3000 },
  )
})
