import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compile } from '../../core/compile/compile.ts'
import type { MapName } from '../../core/compile/maps.ts'
import { podCodec, policyCodec, proxyPortCodec } from '../../core/contract.ts'
import { MerbridgeError } from '../../core/errors.ts'
import type { Interception, Rule } from '../../core/plugin.ts'
import { compileOne, compilePod, roomy } from './pods.ts'
import { type Connection, Reference } from './reference.ts'

const rules = (...outbound: Rule[]): Interception => ({ outbound, inbound: [] })
const pass = (name: string, more: Partial<Rule> = {}): Rule => ({ name, then: 'pass', ...more })
const connection: Connection = { netns: 1n, direction: 'outbound', proto: 'tcp', to: '192.0.2.1', port: 80 }

const refusal = (text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof MerbridgeError)
  assert.equal(error.code, 'COMPILE_FAILED')
  assert.match(error.message, text)
  assert.notEqual(error.hint, '')
  return true
}

describe('compile', () => {
  it('lets the first matching rule decide and passes when none matches', () => {
    const interception: Interception = {
      sets: { web: { ports: [80] } },
      targets: { proxy: { port: 15001 } },
      outbound: [
        { name: 'udp', when: { proto: 'udp' }, then: 'drop' },
        { name: 'web', when: { port: 'web' }, unless: { family: 'ipv6', to: 'pod' }, then: 'proxy' },
        { name: 'web again', when: { port: 'web' }, then: 'pass' },
      ],
      inbound: [],
    }
    const reference = new Reference(compileOne(interception))
    const decide = (more: Partial<Connection>) => reference.decide({ ...connection, ...more })
    assert.deepEqual(decide({}), { verdict: '127.0.0.1:15001', rule: 'web' })
    assert.deepEqual(decide({ to: '::ffff:192.0.2.1' }), { verdict: '127.0.0.1:15001', rule: 'web' })
    assert.deepEqual(decide({ to: '2001:db8::1' }), { verdict: 'pass', rule: 'web again' })
    assert.deepEqual(decide({ to: '10.9.0.2' }), { verdict: 'pass', rule: 'web again' })
    assert.deepEqual(decide({ to: '0.0.0.0' }), { verdict: 'pass', rule: 'web again' })
    assert.deepEqual(decide({ proto: 'udp' }), { verdict: 'drop', rule: 'udp' })
    assert.deepEqual(decide({ port: 81 }), { verdict: 'pass', rule: undefined })
  })

  it('sends to the target of the family, keeps the port where there is none, and refuses a family without an address', () => {
    const target = (spec: object) => {
      const interception = { targets: { t: spec }, outbound: [{ name: 'all', then: 't' }], inbound: [] }
      const reference = new Reference(compileOne(interception))
      return ['192.0.2.1', '2001:db8::1'].map((to) => reference.decide({ ...connection, to }).verdict)
    }
    assert.deepEqual(target({ port: 15001 }), ['127.0.0.1:15001', '[::1]:15001'])
    assert.deepEqual(target({ ipv4: '10.9.0.2' }), ['10.9.0.2:80', '[::1]:80'])
    assert.deepEqual(target({ port: 1, ipv4: false, ipv6: 'fd00::1' }), ['refused', '[fd00::1]:1'])
    assert.deepEqual(target({ port: 1, ipv6: false }), ['127.0.0.1:1', 'refused'])
  })

  it('says every rule in words, as the operator reads them', () => {
    const interception: Interception = {
      sets: { proxy: { uid: [1337] }, skipped: { ports: [22] } },
      targets: { outbound: { port: 15001 }, pod: { ipv4: '10.9.0.2' }, six: { port: 1, ipv4: false } },
      outbound: [
        { name: 'a', when: { proto: 'tcp', from: 'proxy', to: 'pod' }, unless: { to: 'loopback', port: 'skipped' }, then: 'outbound' },
        { name: 'b', when: { family: 'ipv4' }, then: 'pod' },
        { name: 'c', then: 'drop' },
      ],
      inbound: [{ name: 'd', when: { port: 'skipped' }, then: 'six' }],
    }
    assert.deepEqual(compileOne(interception).pods.get(1n)?.rules, [
      {
        direction: 'outbound',
        index: 0,
        name: 'a',
        condition: 'proto tcp, from proxy, to pod, not to loopback, not port skipped',
        then: 'outbound (127.0.0.1:15001 or [::1]:15001)',
      },
      { direction: 'outbound', index: 1, name: 'b', condition: 'family ipv4', then: 'pod (10.9.0.2, port kept)' },
      { direction: 'outbound', index: 2, name: 'c', condition: 'any', then: 'drop' },
      { direction: 'inbound', index: 0, name: 'd', condition: 'port skipped', then: 'six (port 1)' },
    ])
  })

  it('gives equal interceptions one policy, whatever their rules are called, and different ones another', () => {
    const one = { sets: { web: { ports: [80] } }, ...rules(pass('a', { when: { port: 'web' } })) }
    const renamed = { sets: { other: { ports: [80] } }, ...rules(pass('b', { when: { port: 'other' } })) }
    const different = { sets: { web: { ports: [81] } }, ...rules(pass('a', { when: { port: 'web' } })) }
    const two = rules(pass('both', { when: { port: 'z' } }), pass('a', { when: { port: 'x' } }), { name: 'b', when: { port: 'y' }, then: 'drop' })
    const swapped = [
      { sets: { z: { ports: [80, 443] }, x: { ports: [80] }, y: { ports: [443] } }, ...two },
      { sets: { z: { ports: [80, 443] }, x: { ports: [443] }, y: { ports: [80] } }, ...two },
    ]
    assert.equal(new Set(swapped.map((interception) => compileOne(interception).pods.get(1n)?.policy)).size, 2)
    const pods = [one, one, renamed, different].map((interception, index) =>
      compilePod(interception, { name: `default/${index}`, netns: BigInt(index + 1) }),
    )
    const desired = compile({ pods }, roomy)
    const ids = [1n, 2n, 3n, 4n].map((netns) => desired.pods.get(netns)?.policy)
    assert.equal(ids[0], ids[1])
    assert.equal(ids[0], ids[2])
    assert.notEqual(ids[0], ids[3])
    assert.equal(desired.maps.policies.size, 2)
    assert.deepEqual(
      [...desired.maps.pods.values()].map(({ value }) => podCodec.decode(value)),
      [1n, 2n, 3n, 4n].map((netns, index) => ({ netns, policy: ids[index] })),
    )
    assert.deepEqual(
      desired.pods.get(3n)?.rules.map(({ name }) => name),
      ['b'],
    )
  })

  it('is complete: the policy in the map is the one that its id names, and nothing else is there', () => {
    const desired = compileOne(rules(pass('all')))
    const [policy] = [...desired.maps.policies.values()]
    assert.equal(policyCodec.decode(policy?.value ?? Buffer.alloc(0)).outboundRules, 1)
    assert.deepEqual(
      [desired.maps.port_sets.size, desired.maps.owner_sets.size, desired.maps.cidr_sets.size, desired.maps.proxy_ports.size],
      [0, 0, 0, 0],
    )
  })

  it('lists the ports of proxies: those of inbound rules and those on loopback, not those elsewhere', () => {
    const interception: Interception = {
      targets: {
        outbound: { port: 15001 },
        node: { port: 16001, ipv4: '169.254.1.1', ipv6: false },
        inbound: { port: 15006, ipv4: '10.9.0.2', ipv6: false },
        kept: { ipv4: '10.9.0.2' },
      },
      outbound: [pass('all')],
      inbound: [{ name: 'all', then: 'inbound' }],
    }
    const ports = [...compileOne(interception).maps.proxy_ports.values()].map(({ key }) => proxyPortCodec.decode(key).port)
    assert.deepEqual(ports, [15001, 15006])
  })
})

describe('compile refuses', () => {
  const many = (count: number, name: string) => Array.from({ length: count }, (_, index) => `${name} ${index}`)

  it('a rule that can never match, and names it', () => {
    const contradiction = pass('odd', { when: { proto: 'tcp', to: 'pod' }, unless: { to: 'pod' } })
    assert.throws(() => compileOne(rules(pass('fine'), contradiction)), refusal(/default\/web: outbound rule 1 'odd': can never match/))
    const families = pass('odd', { when: { family: 'ipv4' }, unless: { family: 'ipv4' } })
    assert.throws(() => compileOne(rules(families)), refusal(/outbound rule 0 'odd'/))
  })

  it('more sets than the fact word has bits, and names the set', () => {
    const names = many(49, 'set')
    const interception = {
      sets: Object.fromEntries(names.map((name, index) => [name, { ports: [index + 1] }])),
      ...rules(...names.map((name) => pass(name, { when: { port: name } }))),
    }
    assert.throws(() => compileOne(interception), refusal(/set 'set 48' is one too many: a policy has at most 48 sets/))
  })

  it('more rules, targets and marks than fit', () => {
    assert.throws(() => compileOne(rules(...many(65, 'rule').map((name) => pass(name)))), refusal(/65 outbound rules: at most 64/))
    const targets = Object.fromEntries(many(17, 'target').map((name) => [name, { port: 1 }]))
    assert.throws(() => compileOne({ targets, ...rules() }), refusal(/17 targets: at most 16/))
    const mark = Array.from({ length: 9 }, (_, value) => ({ value, mask: 0xff }))
    assert.throws(
      () => compileOne({ sets: { marked: { mark } }, ...rules(pass('m', { when: { from: 'marked' } })) }),
      refusal(/set 'marked'.*at most 8/),
    )
    assert.doesNotThrow(() => compileOne(rules(...many(64, 'rule').map((name) => pass(name)))))
  })

  it('what a map has no room for, and names the map, its limit and the set or the pod', () => {
    const interception = {
      sets: { few: { ports: [1] }, 'too many': { ports: ['2-9999'] } },
      ...rules(pass('a', { when: { port: 'few' } }), pass('b', { when: { port: 'too many' } })),
    }
    const tight = (map: MapName, capacity: number) => () => compile({ pods: [compilePod(interception)] }, { ...roomy, [map]: capacity })
    assert.throws(tight('port_sets', 5), refusal(/default\/web: set 'too many': map port_sets is full: it holds 5 entries/))
    assert.throws(tight('routes', 3), refusal(/default\/web: map routes is full: it holds 3 entries/))
    assert.throws(tight('pods', 0), refusal(/default\/web: map pods is full: it holds 0 entries/))
    assert.throws(tight('policies', 0), refusal(/map policies is full/))
    assert.doesNotThrow(tight('policies', 1))
  })

  it('two pods in one network namespace', () => {
    const pods = [compilePod(rules(), { name: 'a/a' }), compilePod(rules(), { name: 'b/b' })]
    assert.throws(() => compile({ pods }, roomy), refusal(/b\/b: another pod has the same network namespace/))
  })
})
