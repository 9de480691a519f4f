// The kernel's rules for IPv6 sources, one by one; test/kernel/routes6.test.ts compares with a kernel.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compileRoutes } from '../../core/compile/routes.ts'
import { RouteKind } from '../../core/contract.ts'
import type { Address, Route } from '../../core/native/api.ts'
import { address, route, routeReference, rule } from './pods.ts'

const flags = { temporary: 0x01, optimistic: 0x04, failed: 0x48, deprecated: 0x20, tentative: 0x40 }
const anywhere = route('::', 0, 254, 1, { gateway: 'fe80::99' })
const loopback = address('::1', 128, { index: 1 })
const state = (addresses: readonly Address[], routes: readonly Route[]) => ({ cookie: 1n, rules: [], addresses: [loopback, ...addresses], routes })

function sourceFor(addresses: readonly Address[], routes: readonly Route[] = [anywhere]): (to: string) => string {
  const reference = routeReference(state(addresses, routes))
  return (to) => {
    const { kind, error, source } = reference.route(1n, to)
    return kind === RouteKind.UNREACHABLE ? `errno ${error}` : source
  }
}

describe('the source of an IPv6 destination', () => {
  const rows: readonly (readonly [what: string, addresses: readonly Address[], ...answers: readonly (readonly [to: string, source: string])[]])[] = [
    [
      'has the scope of the destination, or the next wider one',
      [address('2001:db8::1', 64), address('fec0::1', 64), address('fe80::1', 64)],
      ['2600::1', '2001:db8::1'],
      ['fec0:1::1', 'fec0::1'],
      ['fe80:1::1', 'fe80::1'],
    ],
    [
      'is not a deprecated or optimistic address while there is another, also of another interface',
      [
        address('fd01::1', 64, { flags: flags.deprecated }),
        address('fd02::1', 64, { flags: flags.optimistic | flags.tentative }),
        address('2001:db8::1', 64, { index: 3 }),
      ],
      ['fd01::9', '2001:db8::1'],
    ],
    [
      'is an optimistic address rather than none, and never a tentative one',
      [address('fd01::1', 64, { flags: flags.tentative }), address('fd02::1', 64, { flags: 0x44 }), address('fd03::1', 64, { flags: flags.failed })],
      ['fd01::9', 'fd02::1'],
    ],
    [
      'is of the outgoing interface before all that follows',
      [address('fd01::1', 64, { index: 3 }), address('2001:db8::1', 64)],
      ['fd01::9', '2001:db8::1'],
    ],
    [
      'has the label of the destination',
      [address('2001:db8::1', 32), address('fd01::1', 64), address('2002:c000:204::1', 48), address('2001:0:1::1', 32)],
      ['2600::1', '2001:db8::1'],
      ['e000::1', '2001:db8::1'],
      ['fd77::1', 'fd01::1'],
      ['2002:1::1', '2002:c000:204::1'],
      ['2001:0:2::1', '2001:0:1::1'],
    ],
    ['is a public address', [address('fd01::1:1', 64, { flags: flags.temporary }), address('fd02::1', 64)], ['fd01::9', 'fd02::1']],
    [
      'shares most bits, of no more than its own prefix',
      [address('fd01:0:1::1', 48), address('fd01:0:0:1::1', 16)],
      ['fd01:0:0:1::2', 'fd01:0:1::1'],
      ['fd01:0:1::2', 'fd01:0:1::1'],
      ['fd02::1', 'fd01:0:1::1'],
    ],
    [
      'is a deprecated address rather than an optimistic one',
      [address('fd02::1', 64, { flags: 0x44 }), address('fd01::1', 64, { flags: flags.deprecated })],
      ['2600::1', 'fd01::1'],
    ],
    ['is the first of equal ones', [address('fd01::2', 64), address('fd01::1', 64)], ['2600::1', 'fd01::2']],
  ]
  for (const [what, addresses, ...answers] of rows)
    it(what, () => {
      const source = sourceFor(addresses)
      for (const [to, expected] of answers) assert.equal(source(to), expected, to)
    })

  it('is what the route prefers', () => {
    const source = sourceFor([address('fd01::1', 64), address('fd02::1', 64)], [{ ...anywhere, source: 'fd02::1' }])
    assert.equal(source('fd01::9'), 'fd02::1')
  })

  it('is the address itself for an own one', () => {
    const own = ['fd01::1', 'fd01::2'].map((to) => route(to, 128, 255, 2))
    assert.equal(sourceFor([address('fd01::1', 64), address('fd01::2', 64)], own)('fd01::2'), 'fd01::2')
  })

  it('is missing where there is no address that may be one: an error of its own', () => {
    const none = routeReference({ cookie: 1n, rules: [], addresses: [address('fd01::1', 64, { flags: flags.tentative })], routes: [] })
    assert.deepEqual(
      ['2600::1', '::1', 'ff02::1'].map((to) => none.route(1n, to).error),
      [99, 99, 101],
    )
    assert.equal(sourceFor([], [])('2600::1'), 'errno 101')
    assert.equal(sourceFor([address('fd01::1', 64, { index: 3 })])('fe80:1::9'), 'errno 99', 'the link has none')
  })
})

describe('the mirror of IPv6 routes', () => {
  const count = (addresses: readonly Address[], routes: readonly Route[]): number =>
    compileRoutes(1n, routes, [loopback, ...addresses]).filter(({ key }) => key.readUInt32LE(4) === 6).length

  it('has no entry that says what a shorter prefix says', () => {
    const routes = [anywhere, route('fd01::', 64, 254, 1), route('::1', 128, 255, 2, { index: 1 })]
    const always = 1 // ff00::/8
    assert.equal(count([address('fd01::1', 64)], routes), always + 3)
    const more = [address('fe80::1', 64), address('::6', 128, { index: 1 })]
    assert.equal(count([address('fd01::1', 64), ...more], [...routes, route('::6', 128, 255, 2, { index: 1 })]), always + 5, 'and fe80::/10')
  })

  it('compares the first eight addresses, the own ones of the interface first, and grows no further', () => {
    const others = Array.from({ length: 300 }, (_, index) =>
      address(`fd${(index % 256).toString(16).padStart(2, '0')}:${index}::1`, 64, { index: 1 }),
    )
    const own = Array.from({ length: 7 }, (_, index) => address(`2001:db8:${index}::1`, 64))
    assert.equal(sourceFor([...others, ...own])('2001:db8:6::9'), '2001:db8:6::1')
    assert.ok(count([...others, ...own], [anywhere]) < 100)
    const everywhere = others.map((each, index) => ({ ...each, index: 2 + (index % 40) }))
    const many = Array.from({ length: 40 }, (_, index) => route(`${(0x2600 + index).toString(16)}::`, 16, 254, 1, { index: 2 + index }))
    assert.ok(count(everywhere, [anywhere, ...many]) <= 300)
  })

  it('takes the preference of a router after the metric', () => {
    const ways = [{ index: 3, preference: -1 }, { index: 4 }, { index: 5, preference: 1 }, { index: 6, preference: 1, metric: 9 }].map((more) =>
      route('::', 0, 254, 1, more),
    )
    const { interface: index } = routeReference(state([address('fd01::1', 64)], ways)).route(1n, '2600::1')
    assert.equal(index, 5)
  })

  it('asks routes for a source only after an error, and they hide others of the same prefix', () => {
    const [here, there] = [address('fd01::1', 64), address('fd02::1', 64, { index: 3 })]
    const toFar = (more: Partial<Route>) => route('2600::', 16, 254, 1, more)
    const source = (...routes: Route[]) => sourceFor([here, there], routes)('2600::1')
    assert.equal(source(toFar({ from: 'fd01::/64' })), 'fd01::1')
    assert.equal(source(toFar({ from: 'fd02::/64', index: 3 })), 'errno 101')
    assert.equal(source(toFar({ from: 'fd01::/64' }), { ...anywhere, index: 3 }), 'fd02::1')
    assert.equal(source(toFar({ from: 'fd02::/64' }), toFar({ index: 3 })), 'errno 101')
    assert.equal(source({ ...anywhere, from: 'fd02::/64' }, { ...anywhere, index: 3 }), 'fd02::1')
  })

  it('has nothing for mapped addresses, which are IPv4', () => {
    const routes = [route('::ffff:0.0.0.0', 96, 254, 7), { ...route('::ffff:10.0.0.0', 104, 254, 7), family: 6 as const }]
    assert.equal(sourceFor([address('fd01::1', 64)], [...routes, anywhere])('::2'), 'fd01::1')
    assert.equal(count([], routes), 1)
  })

  it('is made anew when anything is not the same any more', () => {
    const [routes, addresses, rules] = [[anywhere], [address('fd01::1', 64)], [rule(1, { family: 6, action: 8 })]]
    const [once, again] = [compileRoutes(1n, routes, addresses), compileRoutes(1n, routes, addresses)]
    assert.equal(once, again)
    const others = [compileRoutes(2n, routes, addresses), compileRoutes(1n, routes, []), compileRoutes(1n, routes, addresses, rules)]
    for (const other of others) assert.notDeepEqual(other, once)
  })
})
