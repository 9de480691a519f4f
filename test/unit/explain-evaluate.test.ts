/** explain's evaluator beside the reference, over generated policies: the same rule, and the same place where the connection goes. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { isLoopback, isPassthrough, isZero, parseAddress, zeroWords } from '../../core/address.ts'
import { evaluate, policyOf } from '../../core/explain/evaluate.ts'
import { outcomeOf } from '../../core/explain/outcome.ts'
import type { Interception, Match, Rule, SetSpec } from '../../core/plugin.ts'
import { compileOne } from './pods.ts'
import { readerOf } from './reader.ts'
import { type Connection, Reference } from './reference.ts'

const addresses = {
  4: [
    '10.9.0.2',
    '10.9.0.7',
    '127.0.0.1',
    '127.0.0.6',
    '127.0.0.9',
    '192.0.2.1',
    '192.0.2.130',
    '0.0.0.0',
    '224.0.0.1',
    '::ffff:10.9.0.7',
    '::ffff:0.0.0.0',
  ],
  6: ['fd09::2', 'fd09::7', '::1', '::6', '2001:db8::1', '2001:db8:8000::1', '::', 'ff02::1', 'fe80::1'],
}
const network = fc.constantFrom(
  ...['*', '10.0.0.0/8', '10.9.0.0/24', '10.9.0.2', '192.0.2.0/24', '192.0.2.128/25', '127.0.0.0/8', '0.0.0.0/1'],
  ...['fd00::/8', 'fd09::/64', 'fd09::2', '2001:db8::/32', '2001:db8:8000::/33', '::/1', '::1', '::/0'],
)
const port = fc.constantFrom(22, 80, 81, 443, 15001, 65535)
const id = fc.constantFrom(0, 1000, 1337, 1338, 4294967295)

const set: fc.Arbitrary<SetSpec> = fc.record({
  ports: fc.array(fc.oneof(port, fc.constantFrom('*', '80-443', '0-79')), { maxLength: 3 }),
  cidrs: fc.array(network, { maxLength: 3 }),
  uid: fc.array(fc.oneof(id, fc.constant('1000-1337')), { maxLength: 2 }),
  gid: fc.array(id, { maxLength: 2 }),
  mark: fc.array(fc.constantFrom({ value: 0x539, mask: 0xfff }, { value: 0, mask: 1 }), { maxLength: 2 }),
})

const names = ['a', 'b', 'c'] as const
const name = fc.constantFrom(...names)

const match = (inbound: boolean): fc.Arbitrary<Match> =>
  fc.record(
    {
      proto: fc.constantFrom('tcp' as const, 'udp' as const),
      family: fc.constantFrom('ipv4' as const, 'ipv6' as const),
      port: name,
      to: fc.oneof(name, fc.constantFrom('pod', 'loopback')),
      from: inbound ? name : fc.oneof(name, fc.constantFrom('passthrough', 'loopback')),
    },
    { requiredKeys: [] },
  )

/** What stands in `when` and in `unless` would never match, and is refused. */
function contradicts({ when = {}, unless = {} }: Rule): boolean {
  return (Object.keys(unless) as (keyof Match)[]).some((key) => key === 'family' || unless[key] === when[key])
}

const rules = (inbound: boolean) =>
  fc
    .array(
      fc.record({
        when: match(inbound),
        unless: fc.oneof(fc.constant({}), match(inbound)),
        then: fc.constantFrom('pass', 'drop', 'proxy', 'kept', 'six'),
      }),
      { maxLength: 8 },
    )
    .map((all) => all.map((each, index) => ({ name: `rule ${index}`, ...each })).filter((each) => !contradicts(each)))

/** Sets of equal members share a bit, which makes further contradictions: each set has a port, network and uid of its own. */
const interception: fc.Arbitrary<Interception> = fc
  .record({ sets: fc.tuple(set, set, set), outbound: rules(false), inbound: rules(true) })
  .map(({ sets, outbound, inbound }) => ({
    sets: Object.fromEntries(
      sets.map((each, index) => [
        names[index] ?? '',
        { ...each, ports: [...(each.ports ?? []), 60_000 + index], cidrs: [...(each.cidrs ?? []), `198.51.100.${index}`, `3fff::${index}`] },
      ]),
    ),
    targets: { proxy: { port: 15001 }, kept: { port: 15006, ipv4: '10.9.0.2', ipv6: false }, six: { port: 15001, ipv4: false, ipv6: 'fd09::2' } },
    outbound,
    inbound,
  }))

const ends = (family: 4 | 6) => {
  const address = fc.constantFrom(...addresses[family])
  const source = address.filter((text) => !['0.0.0.0', '::', '::ffff:0.0.0.0'].includes(text))
  return fc.record({ to: address, from: fc.option(source, { nil: undefined }) })
}

const connection = fc
  .record({
    ends: fc.oneof(ends(4), ends(6)),
    direction: fc.constantFrom('outbound' as const, 'inbound' as const),
    proto: fc.constantFrom('tcp' as const, 'udp' as const),
    port: fc.oneof(port, fc.constant(60_001)),
    uid: id,
    gid: id,
    mark: fc.constantFrom(0, 0x539, 0x1539),
  })
  .map(({ ends: { to, from }, ...rest }) => ({ to, from, ...rest }))

const parse = (text: string) => parseAddress(text) ?? assert.fail(text)
const isInside = (text: string | undefined) => text !== undefined && [isLoopback, isPassthrough, isZero].some((is) => is(parse(text)))

/** Where the reference, which knows no routing errors and no listeners, and explain can be compared. */
const place = (verdict: string, to: string | undefined): string => (verdict === 'redirect' ? `${to}` : verdict)

describe("explain's evaluator", () => {
  it('finds the rule and the target that the reference finds, for any policy and connection', () => {
    fc.assert(
      fc.property(interception, fc.array(connection, { minLength: 1, maxLength: 20 }), (policyOfPod, connections) => {
        const desired = compileOne(policyOfPod)
        const reference = new Reference(desired)
        const read = readerOf(desired)
        const policy = policyOf(read, 1n)
        assert.ok(policy !== undefined)
        for (const { direction, to, from, proto, ...rest } of connections) {
          // Nothing from outside comes from loopback, or goes to it; and it is TCP.
          if (direction === 'inbound' && (proto === 'udp' || isInside(from) || isInside(to))) continue
          const { family, words: dest } = parse(to)
          const source = direction === 'inbound' ? (from ?? (family === 6 ? '3fff::9' : '192.0.2.9')) : from
          const asked: Connection = { netns: 1n, proto, direction, to, ...rest, ...(source === undefined ? {} : { from: source }) }
          const expected = reference.decide(asked)
          const bound = source === undefined ? zeroWords : parse(source).words
          const own = { netns: 1n, protocol: proto, family, direction, dest, source: bound, ...rest }
          const evaluation = evaluate(read, policy, own)
          assert.equal(evaluation.facts, reference.facts(asked), 'facts')
          const found = desired.pods.get(1n)?.rules.find((rule) => rule.direction === direction && rule.index === evaluation.rule)
          assert.equal(found?.name, expected.rule)
          const outcome = outcomeOf(policy, own, evaluation, { read, anyErrno: true, portBound: false, listens: () => 'yes' })
          if (direction === 'inbound' || outcome.errno !== undefined) continue
          assert.equal(place(outcome.verdict, outcome.to), expected.verdict)
        }
      }),
      { numRuns: 600 },
    )
  })

  it('knows no pod that is not enrolled', () => {
    const read = readerOf(compileOne({ outbound: [], inbound: [] }))
    assert.equal(policyOf(read, 2n), undefined)
  })
})
