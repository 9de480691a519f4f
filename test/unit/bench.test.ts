/** The policies that the benchmark compares, and its statistics. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { destination4, destination6, interception, iptablesRules, nodes, POINTS } from '../../bench/points.ts'
import { pairedRatio, quantile } from '../../bench/statistics.ts'
import type { Interception } from '../../core/plugin.ts'

const cidrsOf = ({ sets = {} }: Interception) => Object.values(sets).flatMap(({ cidrs = [] }) => cidrs)

describe('policies of growing size', () => {
  for (const point of POINTS) {
    test(`${point.size} ${point.kind}: as many in the plugin as in iptables, none matches`, () => {
      const own = interception(point)
      const cidrs = cidrsOf(own)
      const [v4, v6] = [cidrs.filter((cidr) => !cidr.includes(':')), cidrs.filter((cidr) => cidr.includes(':'))]
      assert.equal(new Set(cidrs).size, cidrs.length)
      assert.equal(v4.length, v6.length)
      if (point.kind === 'CIDRs') assert.equal(v4.length, point.size)
      else assert.equal(own.outbound.length, point.size)
      const { v4: rules4, v6: rules6 = '' } = iptablesRules(point)
      const all = point.kind === 'CIDRs' ? point.size + 1 : point.size
      for (const [text, ranges, destination] of [
        [rules4, v4, destination4],
        [rules6, v6, destination6],
      ] as const) {
        const rules = text.split('\n').filter((line) => line.startsWith('-A'))
        assert.equal(rules.length, all)
        assert.equal(new Set(rules).size, all)
        assert.match(rules.at(-1) ?? '', /REDIRECT/)
        const first = destination.replace(/\.1$/, '.0/24').replace(/::1$/, '::/48')
        assert.ok(!ranges.includes(first))
      }
      assert.equal(new Set(own.outbound.map(({ when }) => JSON.stringify(when))).size, own.outbound.length)
    })
  }

  test('the way through the trie grows with the logarithm of the number of networks', () => {
    assert.equal(nodes(1), 1)
    assert.ok(nodes(10_000) >= 10 && nodes(10_000) <= 21, String(nodes(10_000)))
    assert.ok(nodes(10_000) > nodes(100))
  })
})

describe('statistics', () => {
  test('a ratio is that of neighbours, so that a trend of the machine does not matter', () => {
    const base = Array.from({ length: 40 }, (_, run) => 100 + run * 10)
    const { estimate, low, high } = pairedRatio(
      base.map((time) => time * 0.9),
      base,
    )
    for (const value of [estimate, low, high]) assert.ok(Math.abs(value - 0.9) < 1e-9)
  })

  test('the interval has the true ratio in it, and becomes smaller with more runs', () => {
    const noisy = (runs: number) => Array.from({ length: runs }, (_, run) => 100 + ((run * 37) % 21) - 10)
    const [few, many] = [20, 320].map((runs) => pairedRatio(noisy(runs).toReversed(), noisy(runs)))
    for (const found of [few, many]) assert.ok(found !== undefined && found.low <= 1 && found.high >= 1)
    assert.ok((many?.high ?? 1) - (many?.low ?? 0) < (few?.high ?? 0) - (few?.low ?? 1))
  })

  test('nearest rank', () => {
    assert.equal(quantile([3, 1, 2], 0.5), 2)
    assert.equal(quantile([3, 1, 2], 0.99), 3)
    assert.throws(() => quantile([], 0.5), /no samples/)
  })
})
