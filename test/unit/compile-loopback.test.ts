/** What a pod's lo must have, and what is to be done for it. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compile } from '../../core/compile/compile.ts'
import {
  isPresent,
  itemOf,
  loopbackChanges,
  loopbackSteps,
  loopbackWant,
  nothing,
  notThere,
  recordOf,
  tookUdp,
  withoutIpv6,
  withWanted,
} from '../../core/compile/loopback.ts'
import { compileRoutes } from '../../core/compile/routes.ts'
import { RouteKind, routeCodec, routeKeyCodec } from '../../core/contract.ts'
import type { Address, Route } from '../../core/native/api.ts'
import type { Interception } from '../../core/plugin.ts'
import { compilePod, roomy } from './pods.ts'

const address = (text: string, more: Partial<Address> = {}): Address => ({
  family: text.includes(':') ? 6 : 4,
  address: text,
  prefix: text.includes(':') ? 128 : 8,
  index: 1,
  interface: 'lo',
  scope: 254,
  secondary: false,
  ...more,
})
const ids = { kind: 'route', cidr: 'fd6d:6572:6272:6964::/96' } as const
const six = { kind: 'address', cidr: '::6/128' } as const
const idRoute: Route = { family: 6, destination: 'fd6d:6572:6272:6964::', prefix: 96, table: 255, type: 2, metric: 1024, index: 1 }
const [neither, udp, tcp6] = [
  { udp: false, tcp6: false },
  { udp: true, tcp6: false },
  { udp: false, tcp6: true },
]
const loopback = { addresses: [address('127.0.0.1'), address('::1')], routes: [] }

describe('what lo must have', () => {
  it('is nothing for rules that take no UDP and a plugin that names no address', () => {
    assert.deepEqual(loopbackWant(neither, [], loopback), nothing)
  })

  it('is the program and, where lo has IPv6, the route of ids, for rules that take UDP', () => {
    assert.deepEqual(loopbackWant(udp, [], loopback), { program: true, items: [ids] })
    const without = { addresses: [address('127.0.0.1'), address('fd00::1', { index: 2, scope: 0 })], routes: [] }
    assert.deepEqual(loopbackWant(udp, [], without), { program: true, items: [] })
    assert.deepEqual(loopbackWant(udp, ['::6'], without), { program: true, items: [] }, 'nor an address')
  })

  it('has what is there for UDP as long as the pod is enrolled', () => {
    assert.deepEqual([notThere, { program: false, added: [six] }, { program: true, added: [] }, { program: false, added: [six, ids] }].map(tookUdp), [
      false,
      false,
      true,
      true,
    ])
    const pod = compilePod({ targets: {}, outbound: [], inbound: [] })
    const lo = (more: object) => compile({ pods: [{ ...pod, ...loopback, ...more }] }, roomy).pods.get(pod.netns)?.loopback
    assert.deepEqual(lo({}), nothing)
    assert.deepEqual(lo({ tookUdp: true }), { program: true, items: [ids] })
  })

  it('is a local route for each other interface that has routes of the family, where lo has its own address, for rules that take UDP', () => {
    const route = (destination: string, index: number): Route => ({ ...idRoute, family: destination.includes(':') ? 6 : 4, destination, index })
    const routes = [route('10.0.0.0', 3), route('10.1.0.0', 2), route('fe80::', 2), route('10.1.0.0', 1)]
    const device = (cidr: string, index: number) => ({ kind: 'route', cidr, device: index })
    const four = [device('127.0.0.1/32', 2), device('127.0.0.1/32', 3)]
    assert.deepEqual(loopbackWant(udp, [], { ...loopback, routes }).items, [ids, ...four, device('::1/128', 2)])
    assert.deepEqual(loopbackWant(udp, [], { addresses: [address('127.0.0.1')], routes }).items, four)
    assert.deepEqual(loopbackWant(udp, [], { addresses: [address('::1')], routes }).items, [ids, device('::1/128', 2)])
    assert.deepEqual(loopbackWant(neither, [], { ...loopback, routes }).items, [])
    const ours = { ...route('127.0.0.1', 4), prefix: 32 }
    assert.deepEqual(loopbackWant(udp, [], { ...loopback, routes: [ours] }).items, [ids], 'its own route keeps none')
    const many = Array.from({ length: 40 }, (_, index) => route('10.0.0.0', index + 2))
    assert.equal(loopbackWant(udp, [], { ...loopback, routes: many }).items.length, 1 + 16)
  })

  it('is the route of ::1 alone for rules that send TCP over IPv6 there', () => {
    const routes = [{ ...idRoute, destination: 'fd00::', index: 2 }, { ...idRoute, family: 4, destination: '10.0.0.0', index: 2 } as const]
    const device = { kind: 'route', cidr: '::1/128', device: 2 } as const
    assert.deepEqual(loopbackWant(tcp6, [], { ...loopback, routes }), { program: false, items: [device] })
    assert.deepEqual(loopbackWant(tcp6, [], { addresses: [address('127.0.0.1')], routes }), nothing)
    const lo = (then: string, when: object = {}, target: object = {}) => {
      const pod = compilePod({ targets: { out: { port: 15001, ...target } }, outbound: [{ name: 'all', when, then }], inbound: [] })
      return compile({ pods: [{ ...pod, ...loopback, routes }] }, roomy).pods.get(pod.netns)?.loopback.items
    }
    for (const when of [{ proto: 'tcp' }, { proto: 'tcp', family: 'ipv6' }]) assert.deepEqual(lo('out', when), [device], JSON.stringify(when))
    assert.deepEqual(lo('out', { proto: 'tcp', family: 'ipv4' }), [])
    assert.deepEqual(lo('pass', { proto: 'tcp' }), [])
    assert.deepEqual(lo('drop', { proto: 'tcp' }), [])
    for (const ipv6 of [false, 'fd00::9']) assert.deepEqual(lo('out', { proto: 'tcp' }, { ipv6 }), [], String(ipv6))
  })

  it('has each address once, however it is written', () => {
    assert.deepEqual(loopbackWant(neither, ['::6', '0:0::6', '::0.0.0.6'], loopback).items, [six])
  })

  it('warns of IPv6 that ends at lo', () => {
    const global = address('fd00::1', { index: 2, scope: 0 })
    assert.equal(withoutIpv6(true, [], { addresses: [address('127.0.0.1'), global] }).length, 1)
    assert.deepEqual(withoutIpv6(false, [], { addresses: [address('127.0.0.1'), global] }), [])
    assert.deepEqual(withoutIpv6(true, [], { addresses: [address('127.0.0.1')] }), [])
    assert.deepEqual(withoutIpv6(true, ['::6'], { addresses: [address('::1'), global] }), [])
  })

  it('warns of an address that lo cannot have', () => {
    for (const udp of [false, true]) {
      const [warning = '', ...more] = withoutIpv6(udp, ['::6'], { addresses: [address('127.0.0.1')] })
      assert.match(warning, /::6 at lo .* net\.ipv6\.conf\.lo\.disable_ipv6/)
      assert.deepEqual(more, [])
    }
  })
})

describe('the steps', () => {
  const want = loopbackWant(udp, ['::6'], loopback)

  it('add what is not there, and remove only what the agent has added and nobody wants', () => {
    assert.deepEqual(loopbackSteps(want, [], loopback), { add: [six, ids], remove: [] })
    const there = { addresses: [...loopback.addresses, address('::6', { scope: 0 })], routes: [idRoute] }
    assert.deepEqual(loopbackSteps(want, [six], there), { add: [], remove: [] })
    assert.deepEqual(loopbackSteps(nothing, [six], there), { add: [], remove: [six] })
    assert.deepEqual(loopbackSteps(nothing, [], there), { add: [], remove: [] })
  })

  it('take an address of another interface, or a route to another one, for neither', () => {
    assert.equal(isPresent(six, { addresses: [address('::6', { index: 2 })], routes: [] }), false)
    for (const more of [{ index: 2 }, { table: 254 }, { type: 1 }, { prefix: 97 }])
      assert.equal(isPresent(ids, { addresses: [], routes: [{ ...idRoute, ...more }] }), false, JSON.stringify(more))
  })

  it('in words, in the order in which they are made', () => {
    assert.deepEqual(loopbackChanges(want, notThere, loopback), [
      'lo gets the program for answers over UDP',
      'lo gets ::6',
      'lo gets local route fd6d:6572:6272:6964::/96',
    ])
    assert.deepEqual(loopbackChanges(nothing, { program: true, added: [six] }, loopback), [
      'lo loses ::6',
      'lo loses the program for answers over UDP',
    ])
    assert.deepEqual(loopbackChanges({ ...nothing, program: true }, { program: true, added: [] }, loopback), [])
  })

  it('are remembered by records that say the same', () => {
    const four = { kind: 'address', cidr: '127.0.0.9/32' } as const
    for (const item of [six, four, ids, { ...ids, device: 7 }, { kind: 'route', cidr: '127.0.0.1/32', device: 2 } as const])
      assert.deepEqual(itemOf(recordOf(7n, item)), item)
  })
})

describe('the mirror of routes', () => {
  const interception: Interception = {
    targets: { names: { port: 15053 } },
    outbound: [{ name: 'names', when: { proto: 'udp' }, then: 'names' }],
    inbound: [],
    loopbackAddresses: ['::6'],
  }
  const mirrorOf = (more: object) => {
    const pod = compilePod(interception)
    const desired = compile({ pods: [{ ...pod, addresses: [...pod.addresses, address('::1')], ...more }] }, roomy)
    const all = [...desired.maps.routes.values()].map(({ key, value }) => ({ ...routeKeyCodec.decode(key), ...routeCodec.decode(value) }))
    return all.filter(({ prefixlen, addr }) => (prefixlen === 96 + 128 && addr[3] === 6) || addr[0] === 0xfd6d6572)
  }

  it('has what lo will get as local to the pod, before and after it is there', () => {
    const before = mirrorOf({})
    assert.deepEqual(
      before.map(({ kind }) => kind),
      [RouteKind.LOCAL, RouteKind.LOCAL],
    )
    const pod = compilePod(interception)
    const there = withWanted({ ...pod, addresses: [...pod.addresses, address('::1')] }, loopbackWant(udp, ['::6'], loopback))
    assert.deepEqual(mirrorOf({ addresses: there.addresses, routes: there.routes }), before)
  })
  it('says of 127.0.0.1 and ::1 what it said without routes for devices', () => {
    const local = (destination: string, index: number, metric: number): Route => {
      const family = destination.includes(':') ? 6 : 4
      return { family, destination, prefix: family === 4 ? 32 : 128, table: 255, type: 2, metric, index }
    }
    const addresses = [...loopback.addresses, address('10.0.0.2', { index: 2, scope: 0, prefix: 24 }), address('fd00::2', { index: 2, scope: 0 })]
    const own = [local('127.0.0.1', 1, 0), local('::1', 1, 0), local('10.0.0.2', 2, 0), local('fd00::2', 2, 0)]
    const answers = (routes: readonly Route[]) =>
      compileRoutes(7n, routes, addresses).map(({ key, value }) => [key.toString('hex'), value.toString('hex')])
    const plain = answers(own)
    const wanted = withWanted({ addresses, routes: own }, loopbackWant(udp, [], { addresses, routes: own })).routes
    assert.equal(wanted.length, own.length + 3)
    assert.deepEqual(answers(wanted.filter(({ destination }) => destination !== idRoute.destination)), plain)
    const there = [local('127.0.0.1', 2, 0x4000_0002), local('::1', 2, 0x4000_0002), ...own]
    assert.deepEqual(answers(there), plain)
  })
})
