import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { type AnyPlugin, describe, selects } from '../../core/describe.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { kit } from '../../core/kit.ts'
import type { Pod } from '../../core/plugin.ts'
import { podFacts } from './pods.ts'

const plugin = (answer: (pod: Pod) => unknown): AnyPlugin => ({
  api: 1,
  name: 'acme',
  options: kit.z.strictObject({}),
  selects: () => true,
  describe: (pod) => answer(pod) as ReturnType<AnyPlugin['describe']>,
})

const empty = { outbound: [], inbound: [] }
const rule = (more: object) => ({
  ...empty,
  sets: { web: { ports: [80] }, net: { cidrs: ['*'] }, me: { uid: [1] } },
  targets: { t: {} },
  outbound: [{ name: 'x', then: 'pass', ...more }],
})

const refused = (answer: unknown, text: RegExp) =>
  assert.throws(
    () =>
      describe(
        plugin(() => answer),
        podFacts(),
        {},
      ),
    (error) => {
      assert.ok(error instanceof MerbridgeError)
      assert.equal(error.code, 'PLUGIN_FAILED')
      assert.match(error.message, text)
      return true
    },
  )

group('describe', () => {
  it('reads annotations, and turns a bad value into a warning and the fallback', () => {
    const asked = plugin((pod) => {
      pod.warn('mind this')
      const read = ['a/good', 'a/bad', 'a/absent'].map((name) => pod.read(name, kit.ports, [1]))
      return { ...empty, sets: { read: { ports: read.flat() } } }
    })
    const answer = describe(asked, podFacts({ annotations: { 'a/good': '80,81', 'a/bad': 'eighty' } }), {})
    assert.ok('interception' in answer)
    assert.deepEqual(answer.interception.sets?.read?.ports, [80, 81, 1, 1])
    assert.deepEqual(answer.warnings, [
      'mind this',
      "annotation a/bad is ignored: expected a port from 0 to 65535, a range like 15090-15099, or '*', got 'eighty'",
    ])
  })

  it('parses other texts of the pod in the same way', () => {
    const asked = plugin((pod) => {
      const args = ['80', 'eighty', undefined]
      return { ...empty, sets: { read: { ports: args.flatMap((text) => pod.parse('the argument --ports', text, kit.ports, [1])) } } }
    })
    const answer = describe(asked, podFacts(), {})
    assert.ok('interception' in answer)
    assert.deepEqual(answer.interception.sets?.read?.ports, [80, 1, 1])
    assert.deepEqual(answer.warnings, [
      "the argument --ports is ignored: expected a port from 0 to 65535, a range like 15090-15099, or '*', got 'eighty'",
    ])
  })

  it("has a schema's error on one line, at most five of its issues", () => {
    const schema = kit.z.strictObject({ user: kit.z.number(), ports: kit.portList })
    const list = kit.z.array(kit.z.boolean())
    const asked = plugin((pod) => {
      pod.read('a/proxy', (text) => schema.parse(kit.yaml(text)), undefined)
      pod.read('a/list', (text) => list.parse(kit.yaml(text)), undefined)
      return empty
    })
    assert.deepEqual(
      describe(asked, podFacts({ annotations: { 'a/proxy': '{ user: me, ports: [70000], more: 1 }', 'a/list': '[1,1,1,1,1,1,1]' } }), {}).warnings,
      [
        "annotation a/proxy is ignored: user: expected number, got text; ports.0: expected a port from 0 to 65535, a range like 15090-15099, or '*', got '70000'; Unrecognized key: \"more\"",
        `annotation a/list is ignored: ${[0, 1, 2, 3, 4].map((index) => `${index}: expected boolean, got number`).join('; ')}; and 2 more`,
      ],
    )
  })

  it('passes on that a pod cannot be intercepted', () => {
    assert.deepEqual(
      describe(
        plugin(() => kit.cannot('gVisor')),
        podFacts(),
        {},
      ),
      { cannot: 'gVisor', warnings: [] },
    )
    refused({ cannot: '' }, /^acme: cannot: expected a reason$/)
  })

  it("turns what a plugin throws into an error with the plugin's name", () => {
    const thrower = plugin(() => {
      throw new TypeError('no container')
    })
    assert.throws(() => describe(thrower, podFacts(), {}), { code: 'PLUGIN_FAILED', message: 'acme: no container' })
    assert.throws(
      () => selects({ ...thrower, selects: () => 1 as unknown as boolean }, podFacts()),
      /acme: selects returned 1; expected true or false/,
    )
  })

  it('names the rule and the unknown set or target, and what there is', () => {
    refused(rule({ when: { port: 'y' } }), /^acme: outbound rule 0 'x': when\.port: unknown set 'y' \(sets: web, net, me\)$/)
    refused(rule({ unless: { to: ['net', 'toString'] } }), /outbound rule 0 'x': unless\.to: unknown set 'toString' \(/)
    refused(rule({ when: { port: 'wbe' } }), /unknown set 'wbe'; did you mean 'web'\?/)
    refused(rule({ when: { to: 'lopback' } }), /unknown set 'lopback'; did you mean 'loopback'\?/)
    refused(rule({ then: 'u' }), /outbound rule 0 'x': then: unknown target 'u'; did you mean 't'\? \(targets: t\)/)
    refused(rule({ then: 'psas' }), /unknown target 'psas'; did you mean 'pass'\?/)
    refused({ ...empty, outbound: [{ name: 'x', then: 't' }] }, /unknown target 't' \(targets: none\)/)
  })

  it('refuses a set of another kind than its place wants', () => {
    refused(rule({ when: { port: 'net' } }), /port: set 'net' has no ports/)
    refused(rule({ when: { to: 'web' } }), /to: set 'web' has no cidrs/)
    refused(rule({ when: { from: 'web' } }), /from: set 'web' has none of cidrs, uid, gid, mark, cgroup/)
    const inbound = { ...rule({}), inbound: [{ name: 'x', when: { from: 'me' }, then: 'pass' }] }
    refused(inbound, /inbound rule 0 'x': when\.from: set 'me' has uid, which a connection from outside the pod does not have/)
  })

  it('takes interfaces where a way out, or a way in, is known', () => {
    const side = (outbound: object, inbound: object, set: object = { interfaces: ['net2'] }) => ({
      sets: { side: set },
      outbound: [{ name: 'x', when: outbound, then: 'pass' }],
      inbound: [{ name: 'x', when: inbound, then: 'pass' }],
    })
    assert.ok(
      'interception' in
        describe(
          plugin(() => side({ to: 'side' }, { from: 'side' })),
          podFacts(),
          {},
        ),
    )
    refused(side({ from: 'side' }, {}), /outbound rule 0 'x': when\.from: set 'side' has interfaces, which outbound rules match in 'to:' only/)
    refused(side({}, { to: 'side' }, { interfaces: ['net2'], cidrs: ['10.0.0.0/8'] }), /has interfaces, which inbound rules match in 'from:' only/)
    refused(side({ to: 'side' }, {}, {}), /to: set 'side' has no cidrs and no interfaces/)
    refused(side({}, { from: 'side' }, {}), /from: set 'side' has none of cidrs, interfaces/)
    refused(side({}, {}, { interfaces: ['a b'] }), /set 'side', interfaces\[0\]: expected the name of a network interface/)
  })

  it('refuses reserved, repeated and empty names', () => {
    refused({ ...empty, sets: { pod: {} } }, /set 'pod': the name is reserved/)
    refused({ ...empty, targets: { drop: {} } }, /target 'drop': the name is reserved/)
    refused(
      {
        ...empty,
        outbound: [
          { name: 'a', then: 'pass' },
          { name: 'a', then: 'drop' },
        ],
      },
      /outbound rule 1 'a': rule 0 has the same name/,
    )
    refused(rule({ name: '' }), /outbound rule 0 '', name: the name is empty/)
  })

  it("takes addresses for lo that are nobody's, and no others", () => {
    const lo = (...loopbackAddresses: unknown[]) => ({ ...empty, loopbackAddresses })
    const kept = ['::6', '::7f00:6', '::2', '0:0::ffff:ffff']
    const answer = describe(
      plugin(() => lo(...kept)),
      podFacts(),
      {},
    )
    assert.deepEqual('interception' in answer && answer.interception.loopbackAddresses, kept)
    const expected = "expected an IPv6 address in ::/96, such as '::6', other than '::' and '::1'"
    for (const wrong of ['::1', '::', '10.0.0.1', '::ffff:10.0.0.1', 'fd00::1', '::1:0:6', 'fe80::6', '::6%lo', '::6/128', '', 'lo']) {
      refused(lo('::6', wrong), new RegExp(`^acme: loopbackAddresses\\[1\\]: ${expected}$`))
    }
    refused(lo(6), /loopbackAddresses\[0\]: expected a text, got 6/)
    refused(lo('::2', '::3', '::4', '::5', '::6'), /loopbackAddresses: expected at most 4 addresses$/)
    refused({ ...empty, loopbackAddresses: '::6' }, /loopbackAddresses: expected a list, got '::6'/)
    refused({ ...empty, loopbackAddress: ['::6'] }, /unknown key 'loopbackAddress'; did you mean 'loopbackAddresses'\?/)
  })

  it('refuses inbound rules for UDP alone: they would never decide', () => {
    const inbound = (rest: object) => ({ ...empty, inbound: [{ name: 'x', then: 'pass', ...rest }] })
    refused(
      inbound({ when: { proto: 'udp' } }),
      /inbound rule 0 'x': when\.proto: inbound rules see TCP only, so 'udp' never matches; leave the rule out/,
    )
    refused(inbound({ unless: { proto: 'tcp' } }), /inbound rule 0 'x': unless\.proto: inbound rules see TCP only/)
    for (const rest of [{ when: { proto: 'tcp' } }, { unless: { proto: 'udp' } }, {}]) {
      assert.ok(
        'interception' in
          describe(
            plugin(() => inbound(rest)),
            podFacts(),
            {},
          ),
      )
    }
    assert.ok(
      'interception' in
        describe(
          plugin(() => rule({ when: { proto: 'udp' } })),
          podFacts(),
          {},
        ),
    )
  })

  it('refuses unknown keys and values that mean nothing', () => {
    refused(rule({ whn: {} }), /outbound rule 0 'x': unknown key 'whn'; did you mean 'when'\? \(keys: name, when, unless, then\)/)
    refused(rule({ when: { proto: 'sctp' } }), /outbound rule 0 'x', when\.proto: expected 'tcp' or 'udp', got 'sctp'/)
    refused({ ...empty, sets: { s: { ports: ['x'] } } }, /set 's', ports\[0\]: expected a port/)
    refused({ ...empty, sets: { s: { cidrs: ['10.0.0.1/8'] } } }, /set 's', cidrs\[0\]: .*the network is 10\.0\.0\.0\/8/)
    refused({ ...empty, sets: { s: { mark: [{ value: 0x1539, mask: 0xfff }] } } }, /set 's', mark\[0\]: the value has bits outside its mask/)
    refused({ ...empty, targets: { t: { ipv4: '::1' } } }, /target 't', ipv4: expected an IPv4 address or false/)
    refused({ ...empty, targets: { t: { ipv4: false, ipv6: false } } }, /target 't': it has no address/)
    refused({ ...empty, targets: { t: {} }, inbound: [{ name: 'x', then: 't' }] }, /inbound rule 0 'x': then: target 't' has no port/)
    refused({ ...empty, sets: { s: { port: [80] } } }, /set 's': unknown key 'port'; did you mean 'ports'\?/)
    refused({ ...empty, targets: { t: { port: '15001' } } }, /target 't', port: expected a number, got '15001'/)
    refused({ ...empty, targets: { t: { port: 70000 } } }, /target 't', port: expected at most 65535, got 70000/)
    refused({ outbound: [] }, /^acme: inbound: the list is missing; a direction without rules is an empty list$/)
    refused({ ...empty, outbound: ['pass'] }, /^acme: outbound rule 0 '': expected an object, got 'pass'$/)
    refused({ ...empty, outbound: Array.from({ length: 30 }, () => 1) }, /; and 20 more$/)
    refused(undefined, /^acme: describe returned nothing; expected rules: \{ outbound: \[\.\.\.\], inbound: \[\.\.\.\] \}, or kit\.cannot\(reason\)$/)
    refused(Promise.resolve(empty), /^acme: describe must not be async: it returned a promise; return the value itself$/)
  })
})
