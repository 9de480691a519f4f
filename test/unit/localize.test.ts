// Names of interfaces and ids of a user namespace mean something else in each pod: here the bytes that come of them, in test/kernel/ what the kernel does.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compile } from '../../core/compile/compile.ts'
import { insideId, type Locality, outsideIds, unmappedIds } from '../../core/compile/localize.ts'
import type { Interception } from '../../core/plugin.ts'
import { compilePod, podRoutes, roomy, route } from './pods.ts'
import { Reference } from './reference.ts'

const targets = { out: { port: 15001 }, in: { port: 15006 } }
const byInterface: Interception = {
  sets: { side: { interfaces: ['net2'] }, every: { interfaces: ['net+'] } },
  targets,
  outbound: [
    { name: 'side', when: { to: 'side' }, then: 'pass' },
    { name: 'other', when: { to: 'every' }, unless: { to: 'side' }, then: 'drop' },
    { name: 'rest', then: 'out' },
  ],
  inbound: [
    { name: 'side', when: { from: 'side' }, then: 'pass' },
    { name: 'rest', then: 'in' },
  ],
}
const names = (...interfaces: readonly (readonly [number, string])[]): Locality => ({
  interfaces: interfaces.map(([index, name]) => ({ index, name })),
})
const routes = [...podRoutes, route('192.0.2.0', 24, 254, 1, { index: 7 }), route('198.51.100.0', 24, 254, 1, { index: 8 })]

const compiled = (locality: Locality, interception = byInterface) => compile({ pods: [compilePod(interception, { routes, locality })] }, roomy)
const decider = (locality: Locality, interception = byInterface) => {
  const reference = new Reference(compiled(locality, interception))
  return (to: string, more: object = {}) => reference.decide({ netns: 1n, direction: 'outbound', proto: 'tcp', to, port: 80, ...more }).rule
}

describe('interfaces', () => {
  it('are matched by the route, by the device of the socket, and inbound by where the connection came in', () => {
    const rule = decider(names([1, 'lo'], [2, 'eth0'], [7, 'net2'], [8, 'net3']))
    assert.equal(rule('192.0.2.1'), 'side')
    assert.equal(rule('198.51.100.1'), 'other')
    assert.equal(rule('203.0.113.1'), 'rest')
    assert.equal(rule('203.0.113.1', { device: 7 }), 'side')
    assert.equal(rule('192.0.2.1', { device: 2 }), 'rest')
    assert.equal(rule('10.9.0.2', { device: 7 }), 'side', "another device's address is not local for a socket that is bound to one")
    assert.equal(rule('10.9.0.2', { device: 2 }), 'rest')
    assert.equal(rule('10.9.0.2', { direction: 'inbound', device: 7 }), 'side')
    assert.equal(rule('10.9.0.2', { direction: 'inbound', device: 2 }), 'rest')
  })

  it('that the pod does not have match nothing, and are no contradiction when a rule names two of them', () => {
    const rule = decider(names([2, 'eth0']))
    assert.equal(rule('192.0.2.1'), 'rest')
    assert.equal(rule('10.9.0.2', { direction: 'inbound', device: 7 }), 'rest')
    assert.equal(decider(names([7, 'net2']))('192.0.2.1'), 'side')
  })

  it('make one policy of equal indexes, and two of different ones', () => {
    const policyOf = (locality: Locality) => compiled(locality).pods.get(1n)?.policy
    assert.equal(policyOf(names([1, 'lo'], [7, 'net2'])), policyOf(names([7, 'net2'], [9, 'other'])))
    assert.notEqual(policyOf(names([7, 'net2'])), policyOf(names([8, 'net2'])))
    const two = [7, 8].map((index) => compilePod(byInterface, { name: `default/${index}`, netns: BigInt(index), locality: names([index, 'net2']) }))
    const { pods } = compile({ pods: two }, roomy)
    assert.notEqual(pods.get(7n)?.policy, pods.get(8n)?.policy)
  })
})

const ids = {
  uid: [
    { inside: 0, outside: 100_000, count: 1000 },
    { inside: 1337, outside: 501_337, count: 1 },
    { inside: 2000, outside: 4_000_000_000, count: 294_967_295 },
  ],
  gid: [{ inside: 0, outside: 200_000, count: 65_536 }],
}

const byOwner: Interception = {
  sets: { proxy: { uid: [1337, '900-1100'], gid: [1338] }, nobody: { uid: [1500, '1338-1999'] } },
  targets,
  outbound: [
    { name: 'proxy', when: { from: 'proxy' }, unless: { from: 'nobody' }, then: 'pass' },
    { name: 'rest', then: 'out' },
  ],
  inbound: [],
}

describe('ids of a user namespace', () => {
  it('are those of the initial one, line by line of the map', () => {
    assert.deepEqual(outsideIds({ low: 998, high: 1337 }, ids.uid), [
      { low: 100_998, high: 100_999 },
      { low: 501_337, high: 501_337 },
    ])
    assert.deepEqual(outsideIds({ low: 0, high: 0xffffffff }, ids.uid)[2], { low: 4_000_000_000, high: 4_294_967_294 })
    assert.deepEqual(outsideIds({ low: 1000, high: 1336 }, ids.uid), [])
    assert.equal(insideId(501_337, ids.uid), 1337)
    assert.equal(insideId(1337, ids.uid), undefined)
  })

  it('decide as the kernel shows them to the programs', () => {
    const rule = decider({ interfaces: [], ids }, byOwner)
    const of = (uid: number, gid = 7) => rule('8.8.8.8', { uid, gid })
    assert.equal(of(501_337), 'proxy')
    assert.equal(of(1337), 'rest', 'a uid of the node that happens to have this number')
    assert.equal(of(100_950), 'proxy')
    assert.equal(of(101_050), 'rest', 'not mapped')
    assert.equal(of(100_000, 201_338), 'proxy')
    assert.equal(of(100_000, 1338), 'rest')
  })

  it('that are not mapped are a warning each', () => {
    assert.deepEqual(unmappedIds(byOwner, { interfaces: [], ids }), [
      "uid 900-1100 (set 'proxy') is mapped in part only in the pod's user namespace: what is not mapped matches nothing",
      "uid 1500 (set 'nobody') is not mapped in the pod's user namespace: what is not mapped matches nothing",
      "uid 1338-1999 (set 'nobody') is not mapped in the pod's user namespace: what is not mapped matches nothing",
    ])
    assert.deepEqual(unmappedIds(byOwner, { interfaces: [] }), [])
  })
})
