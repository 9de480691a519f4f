/** Each check of the contract, by a plugin that breaks it and says so, and one that keeps all of it. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { kit } from '../../core/kit.ts'
import type { Interception, Match, Pod } from '../../core/plugin.ts'
import { reachable } from '../../core/testing/reach.ts'
import { type AnyPlugin, contractProblems, decisionOf, testPod } from '../../core/testing.ts'
import { compileOne, compilePod } from './pods.ts'
import { Reference } from './reference.ts'

const good: Interception = {
  sets: { proxy: { uid: [7] }, web: { ports: [80] } },
  targets: { out: { port: 9901 } },
  outbound: [
    { name: 'proxy', when: { from: 'proxy' }, then: 'pass' },
    { name: 'web', when: { proto: 'tcp', port: 'web' }, then: 'out' },
  ],
  inbound: [],
}

const { z } = kit
const port = z.int().default(9901).describe('the port')
const plugin = (answer: unknown | ((pod: Pod, options: unknown) => unknown), more: Partial<AnyPlugin> = {}): AnyPlugin => ({
  api: 1,
  name: 'acme',
  options: z.strictObject({ port }),
  selects: () => true,
  describe: (typeof answer === 'function' ? answer : () => answer) as AnyPlugin['describe'],
  ...more,
})

const found = (subject: AnyPlugin) => [...new Set(contractProblems(subject).map(({ problem }) => problem.replace(/^pod [\w-]+: /, '')))]
const outbound = (...rules: Interception['outbound']) => ({ ...good, sets: {}, targets: {}, outbound: rules })

describe('the contract of plugins', () => {
  it('is kept by a good one', () => assert.deepEqual(found(plugin(good)), []))

  let count = 0
  const broken: readonly (readonly [what: string, plugin: AnyPlugin, problem: RegExp])[] = [
    [
      'a describe that never ends',
      plugin(() => {
        for (;;);
      }),
      /describe did not end within 1 s/,
    ],
    [
      'throws for some pod',
      plugin(({ containers }: Pod) => (containers.length === 0 ? (undefined as unknown as Pod).name : good)),
      /Cannot read properties of undefined/,
    ],
    ['returns nonsense', plugin({ outbound: [{ name: 'x', then: 'otu' }], inbound: [] }), /unknown target 'otu'/],
    [
      'has too many rules',
      plugin(outbound(...Array.from({ length: 65 }, (_, index) => ({ name: `r${index}`, when: { proto: 'udp' as const }, then: 'drop' })))),
      /65 outbound rules: at most 64 fit/,
    ],
    ['intercepts nothing', plugin({ cannot: 'no' }), /it intercepts none of the pods/],
    ['selects nothing', plugin(good, { selects: () => false }), /selects takes none of the pods/],
    ['is none', plugin(good, { name: 'Acme Mesh' }), /name is "Acme Mesh"; expected lower-case/],
    ['changes its pod', plugin((pod: { labels: Record<string, string> }) => Object.assign(pod.labels, { x: 'y' })), /Cannot add property x/],
    ['counts', plugin(() => ({ ...good, targets: { out: { port: 9000 + (count++ % 2) } } })), /answers differently when it is asked again/],
    ['looks at the clock', plugin(() => (Date.now() > 0 ? good : undefined)), /it looks at Date/],
    ['throws dice', plugin(() => (Math.random() < 2 ? good : undefined)), /it looks at random/],
    ['looks at the environment', plugin(() => (process.env.HOME === '' ? undefined : good)), /it looks at env/],
    [
      'depends on the order of keys',
      plugin(({ namespace }: Pod) => ({ ...good, targets: { out: { port: Object.keys(namespace)[0] === 'name' ? 1 : 2 } } })),
      /answers differently when keys are in another order/,
    ],
    ['has defaults that are not valid', plugin(good, { options: z.strictObject({ port: z.int().describe('x') }) }), /without options: port: /],
    ['takes any option', plugin(good, { options: z.object({ port }) }), /a misspelt option is no error/],
    [
      'does not describe its options',
      plugin(good, {
        options: z.strictObject({
          a: z
            .strictObject({ b: z.int().default(1) })
            .prefault({})
            .describe('a'),
        }),
      }),
      /^option a.b has no description/,
    ],
    [
      'has options without a JSON Schema',
      plugin(good, { options: z.strictObject({ at: z.date().optional().describe('x') }) }),
      /options have no JSON Schema/,
    ],
    ['has a set that no rule uses', plugin({ ...good, sets: { ...good.sets, more: { ports: [1] } } }), /^set 'more' is used by no rule/],
    ['has a target that no rule uses', plugin({ ...good, targets: { ...good.targets, more: { port: 1 } } }), /^target 'more' is used by no rule/],
    ['has a name that cannot be shown', plugin(outbound({ name: 'a\u001b[2J', then: 'pass' })), /cannot be printed/],
    ['has a name that is too long', plugin(outbound({ name: 'x'.repeat(90), then: 'pass' })), /more than 80 characters/],
    [
      'has a rule after one that takes everything',
      plugin(outbound({ name: 'all', then: 'pass' }, { name: 'more', when: { proto: 'tcp' }, then: 'drop' })),
      /^outbound rule 'more': earlier rules take everything/,
    ],
    [
      'means IPv4 where it says everything',
      plugin({
        ...good,
        sets: { all: { cidrs: ['0.0.0.0/0'] } },
        outbound: [{ name: 'all', when: { proto: 'tcp', to: 'all' }, then: 'out' }],
      }),
      /^set 'all' has every IPv4 address and not every IPv6 address: write '\*' for both/,
    ],
    [
      'sends the other family somewhere else',
      plugin({ ...good, targets: { out: { port: 9901, ipv4: '169.254.1.1' } } }),
      /^target 'out' sends IPv4 to 169\.254\.1\.1, and IPv6 to loopback, because it has no ipv6/,
    ],
    [
      'knows loopback of IPv4 alone',
      plugin({
        ...good,
        sets: { own: { cidrs: ['127.0.0.0/8'] } },
        outbound: [
          { name: 'own', when: { to: 'own' }, then: 'pass' },
          { name: 'all', when: { proto: 'tcp' }, then: 'out' },
        ],
      }),
      /^TCP of an app to 127\.0\.0\.1 or ::1, port 80: IPv4 gets 'pass', IPv6 gets 'out', and no rule names a family/,
    ],
    [
      'knows the pod by its IPv4 address alone',
      plugin(({ addresses }: Pod) => ({
        ...good,
        sets: { own: { cidrs: addresses.filter((address) => address.includes('.')) } },
        outbound: [
          { name: 'own', when: { to: 'own' }, then: 'pass' },
          { name: 'all', when: { proto: 'udp' }, then: 'out' },
        ],
      })),
      /^UDP of an app to the pod's own address, port 53: IPv4 gets 'pass', IPv6 gets 'out'/,
    ],
  ]
  it('lets a plugin treat families differently where a rule says so', () => {
    const rules: Interception['outbound'] = [
      { name: 'no IPv6', when: { family: 'ipv6' }, then: 'pass' },
      { name: 'all', when: { proto: 'tcp' }, then: 'out' },
    ]
    assert.deepEqual(found(plugin({ ...good, sets: {}, outbound: rules })), [])
    const perPod = plugin(({ name }: Pod) => ({
      ...good,
      sets: { some: { cidrs: name === 'crowded' ? ['0.0.0.0/0'] : ['*'] } },
      outbound: [{ name: 'all', when: { proto: 'tcp', to: 'some' }, then: 'out' }],
    }))
    assert.deepEqual(found(perPod), [], 'what one pod alone asks for may be meant so')
  })

  for (const [what, subject, problem] of broken) {
    it(`is broken by one that ${what}`, () =>
      assert.ok(
        found(subject).some((text) => problem.test(text)),
        found(subject).join('\n') || 'no problem was found',
      ))
  }
})

describe('a rule that can never decide', () => {
  const sets: Interception['sets'] = {
    all: { ports: ['*'] },
    low: { ports: ['1-1023'] },
    web: { ports: [80, 443] },
    none: { ports: [] },
    ten: { cidrs: ['10.0.0.0/8'] },
    inTen: { cidrs: ['10.1.0.0/16'] },
    every: { cidrs: ['*'] },
    me: { uid: [1000] },
    us: { uid: ['1000-1010'] },
  }
  const dead = (...whens: readonly (Match | { readonly unless: Match })[]) => {
    const outbound = whens.map((when, index) => ({ name: String(index), ...('unless' in when ? when : { when }), then: 'pass' }))
    const alive = reachable({ sets, outbound, inbound: [] }, 'outbound')
    return outbound.flatMap(({ name }) => (alive.has(name) ? [] : [name])).join()
  }

  it('is found, also behind several rules together and by what sets contain', () => {
    assert.equal(dead({}, { proto: 'tcp' }), '1')
    assert.equal(dead({ proto: 'tcp' }, { proto: 'udp' }, {}), '2')
    assert.equal(dead({ port: 'all' }, { port: 'web' }), '1')
    assert.equal(dead({ port: 'low' }, { port: 'web' }), '1')
    assert.equal(dead({ port: 'web' }, { port: 'low' }), '')
    assert.equal(dead({ port: 'none' }), '0')
    assert.equal(dead({ to: 'every' }, {}), '1')
    assert.equal(dead({ to: 'ten' }, { to: 'inTen' }), '1')
    assert.equal(dead({ to: 'inTen' }, { to: 'ten' }), '')
    assert.equal(dead({ family: 'ipv4' }, { to: 'ten' }), '1')
    assert.equal(dead({ to: 'pod' }, { to: 'loopback' }), '1')
    assert.equal(dead({ from: 'us' }, { from: 'me', port: 'web' }), '1')
    assert.equal(dead({ unless: { from: 'us' } }, { from: 'me' }, { from: 'us' }, {}), '3')
    assert.equal(dead({ to: ['ten', 'loopback'] }), '0')
    assert.equal(dead({ from: 'me' }, { to: 'ten' }, { port: 'web' }, { proto: 'tcp' }, {}), '')
  })
})

describe('decisionOf', () => {
  it('takes both families, both protocols, mapped and unspecified addresses', () => {
    const rules = plugin({
      targets: { out: { port: 9901, ipv6: false } },
      outbound: [
        { name: 'loopback', when: { to: 'loopback' }, then: 'pass' },
        { name: 'udp', when: { proto: 'udp', family: 'ipv4' }, then: 'out' },
        { name: 'tcp', when: { proto: 'tcp' }, then: 'out' },
      ],
      inbound: [{ name: 'in', then: 'out' }],
    } satisfies Interception)
    const of = (connection: Omit<Parameters<typeof decisionOf>[2], 'port'>) => decisionOf(rules, testPod(), { port: 53, ...connection })
    assert.deepEqual(of({ to: '10.1.2.3' }), { rule: 'tcp', then: 'out' })
    assert.deepEqual(of({ to: '2001:db8::1' }), { rule: 'tcp', then: 'out', refused: true })
    assert.deepEqual(of({ to: '::ffff:10.1.2.3' }), { rule: 'tcp', then: 'out' })
    assert.equal(of({ to: '::ffff:10.1.2.3', proto: 'udp' }).rule, 'udp')
    assert.equal(of({ to: '2001:db8::1', proto: 'udp' }).rule, undefined)
    for (const to of ['127.0.0.1', '::ffff:127.0.0.1', '::1', '0:0::1', '0.0.0.0', '::']) assert.equal(of({ to }).rule, 'loopback', to)
    assert.equal(of({ to: '0.0.0.0', from: '10.0.0.2' }).rule, 'tcp')
    assert.equal(of({ direction: 'inbound', to: '10.0.0.2' }).rule, 'in')
    assert.equal(of({ direction: 'inbound', to: '10.0.0.2', proto: 'udp' }).rule, undefined, 'inbound rules see TCP only')
    for (const to of ['web', '10.0.0.0/8', 'fe80::1%eth0']) assert.throws(() => of({ to }), /to: expected an IPv4 or IPv6 address without a zone/)
  })

  it("counts the plugin's addresses of lo among the pod's own", () => {
    const rules = (loopbackAddresses?: readonly string[]) =>
      plugin({
        targets: { out: { port: 9901 } },
        outbound: [
          { name: 'own', when: { to: 'pod' }, then: 'pass' },
          { name: 'rest', then: 'out' },
        ],
        inbound: [],
        ...(loopbackAddresses === undefined ? {} : { loopbackAddresses }),
      })
    const rule = (to: string, own?: readonly string[]) => decisionOf(rules(own), testPod(), { to, port: 80 }).rule
    assert.deepEqual([rule('::6', ['::6']), rule('0::0:6', ['::6']), rule('::7', ['::6']), rule('::6')], ['own', 'own', 'rest', 'rest'])
    assert.equal(decisionOf(rules(['::6']), testPod(), { to: '::6', port: 80, proto: 'udp' }).rule, 'own')
  })

  it('refuses connections that cannot be', () => {
    const rules = plugin({ outbound: [], inbound: [] })
    const wrong = (more: object, message: RegExp) =>
      assert.throws(() => decisionOf(rules, testPod(), { to: '10.1.2.3', port: 80, ...more }), { name: 'TypeError', message })
    for (const port of [-1, 65536, 1.5, Number.NaN]) wrong({ port }, /^port: expected a whole number from 0 to 65535, got /)
    wrong({ port: '80' }, /^port: expected a whole number from 0 to 65535, got '80'$/)
    wrong({ port: undefined }, /^the connection has no 'port'$/)
    wrong({ to: undefined }, /^the connection has no 'to'$/)
    wrong({ to: 5 }, /^to: expected a text, got 5$/)
    wrong({ protocol: 'udp' }, /^'protocol' is not a key of a connection: expected direction, proto, /)
    wrong({ prot: 'udp' }, /^'prot' is not a key of a connection: did you mean proto or port\?$/)
    wrong({ constructor: 1 }, /^'constructor' is not a key/)
    wrong({ proto: 'sctp' }, /^proto: expected tcp or udp, got 'sctp'$/)
    wrong({ direction: 'in' }, /^direction: expected outbound or inbound/)
    wrong({ uid: -1 }, /^uid: expected a whole number from 0 to 4294967295, got -1$/)
    assert.equal(decisionOf(rules, testPod(), { to: '10.1.2.3', port: 0, mark: 0xffffffff }).then, 'pass')
  })

  const interception: Interception = {
    sets: {
      web: { ports: [80, '8000-8100'] },
      ten: { cidrs: ['10.0.0.0/8', 'fd00::/8'] },
      me: { uid: [1000], gid: [5], mark: [{ value: 1, mask: 3 }] },
      source: { cidrs: ['10.9.0.2'] },
    },
    targets: { out: { port: 15001, ipv4: '127.0.0.1' } },
    outbound: [
      { name: 'through', when: { from: 'passthrough', to: 'pod' }, then: 'pass' },
      { name: 'me', when: { from: 'me' }, unless: { port: 'web' }, then: 'drop' },
      { name: 'loopback', when: { to: 'loopback' }, then: 'pass' },
      { name: 'ten', when: { proto: 'tcp', to: 'ten', from: 'source', family: 'ipv4' }, then: 'out' },
      { name: 'web', when: { port: 'web' }, unless: { to: 'pod' }, then: 'drop' },
    ],
    inbound: [{ name: 'in', when: { port: 'web', from: 'ten' }, then: 'out' }],
  }
  const pod = testPod({ addresses: ['10.9.0.2', 'fd09::2'] })

  it('decides as the compiled rules do', () => {
    const reference = new Reference(compileOne(interception))
    assert.equal(compilePod(interception).netns, 1n)
    const connections = fc.record({
      direction: fc.constantFrom('outbound' as const, 'outbound' as const, 'inbound' as const),
      proto: fc.constantFrom('tcp' as const, 'udp' as const),
      to: fc.constantFrom('10.9.0.2', '10.1.1.1', '127.0.0.1', '127.0.0.9', '192.0.2.1', 'fd00::1', 'fd09::2', '::1'),
      port: fc.constantFrom(80, 8050, 8101, 443),
      from: fc.constantFrom('10.9.0.2', '127.0.0.6', '127.0.0.1', 'fd09::2', '10.1.1.1'),
      uid: fc.constantFrom(0, 1000),
      gid: fc.constantFrom(0, 5),
      mark: fc.constantFrom(0, 1, 5),
    })
    fc.assert(
      fc.property(connections, (connection) => {
        fc.pre(connection.to.includes(':') === connection.from.includes(':'))
        const { rule } = decisionOf(plugin(interception), pod, connection)
        assert.equal(rule, reference.decide({ netns: 1n, ...connection }).rule)
      }),
      { numRuns: 2000 },
    )
  })
})
