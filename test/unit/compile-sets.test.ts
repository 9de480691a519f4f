// A trie answers with the longest match only. These tests compare the compiled entries with membership by plain arithmetic.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { IdSpec, Interception, Match, PortSpec, SetSpec } from '../../core/plugin.ts'
import { compileOne } from './pods.ts'
import { type Connection, inCidr, Reference } from './reference.ts'

const connection: Connection = { netns: 1n, direction: 'outbound', proto: 'tcp', to: '192.0.2.1', port: 80 }

/** One policy with a rule for each set; answers in which of them a connection is, by the compiled bytes. */
function compiledMembership(specs: readonly SetSpec[], matchOf: (name: string) => Match): (connection: Connection) => boolean[] {
  const names = specs.map((_, index) => `set ${index}`)
  const interception: Interception = {
    sets: Object.fromEntries(specs.map((spec, index) => [`set ${index}`, spec])),
    outbound: names.map((name) => ({ name, when: matchOf(name), then: 'pass' })),
    inbound: [],
  }
  const reference = new Reference(compileOne(interception))
  const { record } = reference.policy(1n)
  return (asked) => {
    const facts = reference.facts(asked)
    return names.map((_, index) => {
      const { mask = 0n, value = 0n } = record.outbound[index] ?? {}
      return (facts & mask) === value
    })
  }
}

const inRange = (value: number, spec: PortSpec | IdSpec): boolean => {
  if (spec === '*') return true
  const [low, high = low] = String(spec).split('-').map(Number)
  return low !== undefined && high !== undefined && value >= low && value <= high
}

const ranges = (max: number) => {
  const edge = fc.oneof(fc.integer({ min: 0, max }), fc.constantFrom(0, 1, 7, 8, max - 1, max))
  const range = fc.tuple(edge, edge).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`)
  return { edge, spec: fc.oneof(edge, edge.map(String), range) }
}

/** Values worth asking for: the ends of every range and their neighbours. */
const edgesOf = (specs: readonly (number | string)[], max: number): number[] =>
  specs
    .flatMap((spec) => String(spec).split('-').map(Number))
    .flatMap((value) => [value - 1, value, value + 1])
    .filter((value) => value >= 0 && value <= max)

const ports = ranges(0xffff)
const ids = ranges(0xffffffff)
const lists = <T>(spec: fc.Arbitrary<T>) => fc.array(fc.array(spec, { maxLength: 5 }), { minLength: 1, maxLength: 4 })

const octets = (count: number) => fc.array(fc.integer({ min: 0, max: 255 }), { minLength: count, maxLength: count })

/** Networks near each other, so that they nest; every length from 0 on. */
const ipv4 = fc.tuple(fc.constantFrom('10.0.0.0', '10.1.0.0', '192.168.1.0', '0.0.0.0', '255.255.255.255'), fc.integer({ min: 0, max: 32 }))
const ipv6 = fc.tuple(
  fc.constantFrom('fd00::', 'fd00:1::', '2001:db8::1', '::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'),
  fc.integer({ min: 0, max: 128 }),
)

/** The network of the address, by plain bits. */
function masked([text, length]: readonly [string, number]): string {
  const six = text.includes(':')
  const bits = six ? 128 : 32
  const groups = six ? expand(text) : text.split('.').map(Number)
  const width = six ? 16 : 8
  const cleared = groups.map((group, index) => {
    const keep = Math.min(width, Math.max(0, length - index * width))
    return group & (((1 << keep) - 1) << (width - keep))
  })
  return `${six ? cleared.map((group) => group.toString(16)).join(':') : cleared.join('.')}/${Math.min(length, bits)}`
}

function expand(text: string): number[] {
  const [head = '', tail = ''] = text.split('::')
  const groups = (part: string) =>
    part
      .split(':')
      .filter(Boolean)
      .map((group) => Number.parseInt(group, 16))
  const missing = 8 - groups(head).length - groups(tail).length
  return [...groups(head), ...Array<number>(missing).fill(0), ...groups(tail)]
}

const cidr = fc.oneof(ipv4.map(masked), ipv6.map(masked), fc.constantFrom('*', '10.1.2.3', 'fd00::1', '127.0.0.0/8'))
const hosts = fc.oneof(
  octets(4).map((parts) => parts.join('.')),
  fc.constantFrom('10.0.0.1', '10.1.2.3', '192.168.1.77', '127.0.0.9', '0.0.0.1', '255.255.255.255'),
  fc.constantFrom('fd00::1', 'fd00:1::ffff', '2001:db8::1', '2001:db8::2', '::2', 'ffff::1', '::ffff:10.1.2.3'),
)

describe('named sets', () => {
  it('hold exactly the ports that their members name', () => {
    fc.assert(
      fc.property(lists(fc.oneof(ports.spec, fc.constant('*'))), fc.array(ports.edge), (specs, more) => {
        const member = compiledMembership(
          specs.map((list) => ({ ports: list })),
          (port) => ({ port }),
        )
        for (const port of [
          ...edgesOf(
            specs.flat().filter((spec) => spec !== '*'),
            0xffff,
          ),
          ...more,
        ]) {
          assert.deepEqual(
            member({ ...connection, port }),
            specs.map((list) => list.some((spec) => inRange(port, spec))),
            `port ${port}`,
          )
        }
      }),
    )
  })

  for (const kind of ['uid', 'gid'] as const) {
    it(`hold exactly the ids that their members name (${kind})`, () => {
      fc.assert(
        fc.property(lists(ids.spec), fc.array(ids.edge), (specs, more) => {
          const member = compiledMembership(
            specs.map((list) => ({ [kind]: list })),
            (from) => ({ from }),
          )
          for (const id of [...edgesOf(specs.flat(), 0xffffffff), ...more]) {
            assert.deepEqual(
              member({ ...connection, [kind]: id }),
              specs.map((list) => list.some((spec) => inRange(id, spec))),
              `${kind} ${id}`,
            )
          }
        }),
      )
    })
  }

  for (const use of ['to', 'from'] as const) {
    it(`hold exactly the addresses that their members name (${use})`, () => {
      fc.assert(
        fc.property(lists(cidr), fc.array(hosts, { minLength: 1 }), (specs, addresses) => {
          const member = compiledMembership(
            specs.map((cidrs) => ({ cidrs })),
            (name) => ({ [use]: name }),
          )
          for (const address of addresses) {
            const asked = use === 'to' ? { ...connection, to: address } : { ...connection, to: address, from: address }
            assert.deepEqual(
              member(asked),
              specs.map((list) => list.some((entry) => inCidr(address, entry))),
              address,
            )
          }
        }),
      )
    })
  }

  it('take members of several kinds as alternatives', () => {
    const spec: SetSpec = {
      uid: [1337],
      gid: ['2000-2999'],
      mark: [{ value: 0x539, mask: 0xfff }],
      cgroup: [0x1_0000_0002n],
      cidrs: ['172.16.0.0/12'],
    }
    const member = compiledMembership([spec], (from) => ({ from }))
    for (const [what, inside] of [
      [{}, false],
      [{ uid: 1337 }, true],
      [{ gid: 2500 }, true],
      [{ gid: 3000 }, false],
      [{ mark: 0x1539 }, true],
      [{ mark: 0x53a }, false],
      [{ cgroup: 0x1_0000_0002n }, true],
      [{ cgroup: 2n }, false],
      [{ from: '172.16.1.1' }, true],
      [{ from: '172.32.1.1' }, false],
      [{ uid: 1337, gid: 2500, mark: 0x539 }, true],
    ] as const) {
      assert.deepEqual(
        member({ ...connection, ...what }),
        [inside],
        JSON.stringify(what, (_, value) => (typeof value === 'bigint' ? `${value}` : value)),
      )
    }
  })

  it('share a bit when their members are equal, and differ by use', () => {
    const specs = [{ ports: [80, 443] }, { ports: ['443', '80', '80-80'] }, { ports: [80] }]
    const interception: Interception = {
      sets: { a: specs[0] ?? {}, b: specs[1] ?? {}, c: specs[2] ?? {}, n: { cidrs: ['10.0.0.0/8'] } },
      outbound: [
        { name: '1', when: { port: 'a' }, then: 'pass' },
        { name: '2', when: { port: 'b' }, then: 'pass' },
        { name: '3', when: { port: 'c' }, then: 'pass' },
        { name: '4', when: { to: 'n' }, then: 'pass' },
        { name: '5', when: { from: 'n' }, then: 'pass' },
      ],
      inbound: [],
    }
    const masks = new Reference(compileOne(interception))
      .policy(1n)
      .record.outbound.slice(0, 5)
      .map(({ mask }) => mask)
    assert.equal(masks[0], masks[1])
    assert.equal(new Set(masks).size, 4)
  })
})
