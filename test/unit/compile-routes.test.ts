// What the kernel's dumps do not show by themselves: the order of their entries must not matter. test/kernel/routes.test.ts compares with a kernel.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compile } from '../../core/compile/compile.ts'
import { RouteKind } from '../../core/contract.ts'
import type { Address, Route } from '../../core/native/api.ts'
import { address, compilePod, roomy, route } from './pods.ts'
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
