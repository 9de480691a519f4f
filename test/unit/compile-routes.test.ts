// What the kernel's dumps do not show by themselves: the order of their entries must not matter. test/kernel/routes.test.ts compares with a kernel.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compile } from '../../core/compile/compile.ts'
import { unmirroredRules } from '../../core/compile/lookups.ts'
import { RouteKind } from '../../core/contract.ts'
import type { Address, Route, Rule } from '../../core/native/api.ts'
import { address, compilePod, podAddresses, podRoutes, roomy, route, routeReference, rule } from './pods.ts'
import { Reference } from './reference.ts'

const interception = { outbound: [], inbound: [] }
const unicast = (source: string) => ({ kind: RouteKind.UNICAST, error: 0, source, interface: 2 })

function routed(routes: readonly Route[], addresses: readonly Address[]): (to: string) => ReturnType<Reference['route']> {
  const reference = new Reference(compile({ pods: [compilePod(interception, { routes, addresses })] }, roomy))
  return (to) => reference.route(1n, to)
}

describe('the mirror of routes', () => {
  it('takes the route of the lowest metric, and never a secondary address as source', () => {
    const addresses = [address('10.9.0.3', 24, { secondary: true }), address('10.9.0.2', 24), address('10.8.0.2', 24, { index: 3 })]
    const to = routed(
      [
        route('192.0.2.0', 24, 254, 1, { gateway: '10.8.0.1', index: 3, metric: 20 }),
        route('192.0.2.0', 24, 254, 1, { gateway: '10.9.0.1', metric: 10 }),
      ],
      addresses,
    )
    assert.deepEqual(to('192.0.2.1'), unicast('10.9.0.2'))
    assert.deepEqual(to('192.0.3.1'), { kind: RouteKind.UNREACHABLE, error: 101, source: '0.0.0.0', interface: 0 })
  })

  it('knows no source where the namespace has no address', () => {
    assert.deepEqual(routed([route('0.0.0.0', 0, 254, 1)], [])('192.0.2.1'), unicast('0.0.0.0'))
  })

  it('keeps the namespaces of two pods with equal addresses apart', () => {
    const addresses = [address('10.9.0.2', 24)]
    const own = route('10.9.0.2', 32, 255, 2, { source: '10.9.0.2' })
    const pods = [
      compilePod(interception, { netns: 1n, routes: [own], addresses }),
      compilePod(interception, { name: 'default/other', netns: 2n, routes: [route('10.9.0.0', 24, 254, 8)], addresses }),
    ]
    const reference = new Reference(compile({ pods }, roomy))
    assert.deepEqual(reference.route(1n, '10.9.0.2'), { kind: RouteKind.LOCAL, error: 0, source: '10.9.0.2', interface: 2 })
    assert.deepEqual(reference.route(2n, '10.9.0.2'), { kind: RouteKind.UNREACHABLE, error: 13, source: '0.0.0.0', interface: 0 })
  })
})

const [local, main, last] = [rule(0, { table: 255 }), rule(32766, { table: 254 }), rule(32767, { table: 253 })]

/** errno or interface */
function ruled(own: readonly Rule[], routes: readonly Route[] = []): (to: string) => string {
  const rules = [local, ...own, main, last]
  const reference = routeReference({ cookie: 1n, routes: [...podRoutes, ...routes], addresses: podAddresses, rules })
  return (to) => {
    const { kind, error, interface: index } = reference.route(1n, to)
    return kind === RouteKind.UNREACHABLE ? `errno ${error}` : `interface ${index}`
  }
}

describe('the mirror of policy routing', () => {
  const other = route('0.0.0.0', 0, 100, 1, { gateway: '10.9.0.9', index: 3 })

  it('asks the tables in the order of the rules', () => {
    const to = ruled([rule(100, { table: 100 })], [route('192.0.2.0', 24, 100, 1, { index: 3 }), route('192.0.2.0', 28, 254, 1, { index: 4 })])
    assert.deepEqual(['192.0.2.1', '192.0.3.1', '10.9.0.2'].map(to), ['interface 3', 'interface 2', 'interface 2'])
  })

  it('knows nothing of a table that no rule asks', () => {
    assert.equal(ruled([], [other])('192.0.2.1'), 'interface 2')
  })

  it('keeps a rule for a network inside of it, whatever routes are around', () => {
    const to = ruled([rule(100, { to: '192.0.2.0/24', table: 100 }), rule(101, { to: '192.0.2.8/29', action: 8 })], [other])
    assert.deepEqual(['192.0.2.1', '192.0.2.9', '192.0.3.1'].map(to), ['interface 3', 'interface 3', 'interface 2'])
    const turned = ruled([rule(99, { to: '192.0.2.8/29', action: 8 }), rule(100, { to: '192.0.2.0/24', table: 100 })], [other])
    assert.deepEqual(['192.0.2.1', '192.0.2.9', '192.0.3.1'].map(turned), ['interface 3', 'errno 13', 'interface 2'])
  })

  it('leaves out rules for others, and names only those that may be for the pod', () => {
    const strange = ['uidrange', 'goto', 'oif'].map((word, index) => rule(100 + index, { action: 8, others: [word] }))
    const marked = rule(110, { action: 8, mark: 1, mask: 0xff, others: ['uidrange'] })
    const rules = [local, ...strange, marked, rule(111, { action: 8, iif: 'eth0' }), rule(112, { action: 8, from: '10.1.0.0/16' }), main, last]
    assert.equal(ruled(rules.slice(1, -2))('192.0.2.1'), 'interface 2')
    const named = unmirroredRules({ rules })
    assert.deepEqual(
      named.map((text) => text.replace(/:.*/, '')),
      ['ip rule 100 (uidrange)', 'ip rule 101 (goto)', 'ip rule 102 (oif)'],
    )
    assert.deepEqual(unmirroredRules({ rules: [local, main, last] }), [])
    const many = Array.from({ length: 20 }, (_, index) => rule(100 + index, { others: ['uidrange'] }))
    assert.deepEqual(unmirroredRules({ rules: many }).slice(8), ['12 more rules of policy routing: not mirrored'])
  })

  it('takes a mark that is not wanted for granted', () => {
    const to = ruled([rule(100, { inverted: true, mark: 51820, mask: 0xffffffff, table: 100 })], [other])
    assert.equal(to('192.0.2.1'), 'interface 3')
    assert.equal(ruled([rule(100, { inverted: true, action: 8 })])('192.0.2.1'), 'interface 2', 'not from all')
  })

  it('ends with the first 128 rules, and says so', () => {
    const many = Array.from({ length: 200 }, (_, index) => rule(100 + index, { to: `192.0.2.${index}/32`, action: 8 }))
    assert.deepEqual(['192.0.2.127', '192.0.2.128'].map(ruled(many)), ['errno 13', 'interface 2'])
    assert.deepEqual(unmirroredRules({ rules: [local, ...many, main] }), [
      "ip rule 228 and those after it: not mirrored; only the kernel's own and 128 others are",
    ])
  })
})
