import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compile } from '../../core/compile/compile.ts'
import { keptRules } from '../../core/compile/keep.ts'
import { mapNames } from '../../core/compile/maps.ts'
import type { Interception } from '../../core/plugin.ts'
import { compilePod, podAddresses, podRoutes, roomy, route } from './pods.ts'
import { Reference } from './reference.ts'

const rules = (port: number): Interception => ({
  sets: { web: { ports: [port] }, net: { cidrs: ['10.0.0.0/8', 'fd00::/8'] }, proxy: { uid: [1337], gid: ['1-2'] } },
  targets: { out: { port: 15001 }, kept: { ipv4: false } },
  outbound: [
    { name: 'proxy', when: { from: 'proxy' }, then: 'pass' },
    { name: 'web', when: { proto: 'tcp', port: 'web' }, unless: { to: 'net' }, then: 'out' },
    { name: 'rest', then: 'kept' },
  ],
  inbound: [{ name: 'in', when: { family: 'ipv6', to: 'pod' }, then: 'drop' }],
})

const first = compilePod(rules(80), { name: 'default/first', netns: 1n })
const second = compilePod(rules(81), { name: 'default/second', netns: 2n })
const before = compile({ pods: [first, second] }, roomy)
const keep = (netns: bigint, routes = podRoutes) => {
  const kept = keptRules(before.maps, netns, new Map())
  assert.ok(kept)
  return { name: 'default/kept', netns, routes, addresses: podAddresses, kept }
}

describe('a pod that keeps its rules', () => {
  it('has the same entries in every map, and nothing of another pod', () => {
    const alone = compile({ pods: [first] }, roomy)
    const { maps } = compile({ pods: [], kept: [keep(1n)] }, roomy)
    for (const name of mapNames) assert.deepEqual(maps[name], alone.maps[name], name)
  })

  it('stands beside pods that have new rules', () => {
    const { maps, pods } = compile({ pods: [second], kept: [keep(1n)] }, roomy)
    for (const name of mapNames) assert.deepEqual(new Set(maps[name].keys()), new Set(before.maps[name].keys()), name)
    assert.equal(pods.get(1n)?.policy, before.pods.get(1n)?.policy)
  })

  it('has the routes of now', () => {
    const desired = compile({ pods: [], kept: [keep(1n, [...podRoutes, route('10.99.0.0', 16, 254, 7)])] }, roomy)
    const reference = new Reference(desired)
    assert.equal(reference.route(1n, '10.99.1.1').error, 113)
    assert.equal(reference.decide({ netns: 1n, direction: 'outbound', proto: 'tcp', to: '192.0.2.1', port: 80 }).verdict, '127.0.0.1:15001')
  })

  it('has its rules in words: those that are known, or what the kernel knows of them', () => {
    const policy = before.pods.get(1n)?.policy ?? 0n
    const known = before.pods.get(1n)?.rules ?? []
    assert.equal(keptRules(before.maps, 1n, new Map([[policy, known]]))?.rules, known)
    assert.deepEqual(
      keep(1n).kept.rules.map(({ direction, index, name, condition, then }) => `${direction} ${index} ${name}: ${condition}: ${then}`),
      [
        'outbound 0 rule 0 of before: set 0: pass',
        'outbound 1 rule 1 of before: tcp, set 1, not set 2: 127.0.0.1:15001 or [::1]:15001',
        'outbound 2 rule 2 of before: any: ::1, port kept, IPv4 is refused',
        'inbound 0 rule 0 of before: ipv6, to pod: drop',
      ],
    )
  })

  it('does not exist when the kernel has nothing of it', () => {
    assert.equal(keptRules(before.maps, 3n, new Map()), undefined)
    assert.equal(keptRules({ ...before.maps, policies: new Map() }, 1n, new Map()), undefined)
  })

  it('has its place before others; what does not fit is refused, or left out with nothing of it', () => {
    const little = { ...roomy, policies: 1 }
    assert.throws(() => compile({ pods: [second], kept: [keep(1n)] }, little), /default\/second: map policies is full/)
    const { failed, ...lenient } = compile({ pods: [second], kept: [keep(1n)] }, little, false)
    assert.match(failed.get(second.netns)?.message ?? '', /default\/second: map policies is full/)
    const { failed: none, ...alone } = compile({ pods: [], kept: [keep(1n)] }, little)
    assert.equal(none.size, 0)
    assert.deepEqual(lenient.maps, alone.maps)
    assert.throws(() => compile({ pods: [], kept: [keep(1n)] }, { ...roomy, policies: 0 }), /default\/kept: map policies is full/)
  })
})

describe('the id of a policy', () => {
  it('does not depend on the order in which sets and targets are written', () => {
    const reversed = (record: object = {}) => Object.fromEntries(Object.entries(record).reverse())
    const other = { ...rules(80), sets: reversed(rules(80).sets), targets: reversed(rules(80).targets) }
    const [a, b] = [rules(80), other].map((each) => compile({ pods: [compilePod(each)] }, roomy).pods.get(1n)?.policy)
    assert.equal(a, b)
  })
})
