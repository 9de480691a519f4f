/** The policies that the benchmark compares, its statistics, what it claims and the page that it writes. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { REQUESTS, STREAMS } from '../../bench/acceleration.ts'
import { accelerationClaims } from '../../bench/acceleration-report.ts'
import { type Figures, Result } from '../../bench/measure.ts'
import { performancePage } from '../../bench/page.ts'
import { destination4, destination6, interception, iptablesRules, nodes, POINTS } from '../../bench/points.ts'
import type { Claim } from '../../bench/report.ts'
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

/** A result with the same figures in each of some runs. */
function resultOf(title: string, figures: Readonly<Record<string, Figures>>): Result {
  const result = new Result({ title, count: 1, variants: figures })
  for (let run = 0; run < 5; run++) for (const [variant, each] of Object.entries(figures)) result.add(variant, each)
  return result
}

describe('claims of acceleration', () => {
  const claimed = (title: string, all: Figures, none: Figures = all) =>
    accelerationClaims([resultOf(title, { iptables: { p50: 100, rate: 100, cpu: 100 }, none, proxies: none, all })])
  const verdicts = (claims: readonly Claim[]) => claims.map(({ good, text }) => [good, text.startsWith(good ? 'proven: ' : 'NOT REACHED: ')])

  test('times have an upper bound, rates a lower one', () => {
    const title = '16 connections, 100 B'
    assert.deepEqual(verdicts(claimed(title, { p50: 79, rate: 132, cpu: 66 })), Array(3).fill([true, true]))
    assert.deepEqual(verdicts(claimed(title, { p50: 80, rate: 131, cpu: 67 })), Array(3).fill([false, true]))
  })

  test('a median that reaches a target proves nothing when its interval does not', () => {
    const result = new Result({ title: '4 connections, 10 MB', count: 1, variants: { iptables: 0, none: 0, proxies: 0, all: 0 } })
    for (const all of [170, 185, 185, 185, 190])
      for (const [variant, rate] of Object.entries({ iptables: 100, none: 100, proxies: 100, all })) result.add(variant, { rate })
    assert.deepEqual(
      accelerationClaims([result]).map(({ good, text }) => [good, text.startsWith('reached, not proven: ')]),
      [[false, true]],
    )
  })

  test('each target is of a workload that is measured', () => {
    const titles = [...REQUESTS, ...STREAMS]
    const figures = { p50: 1, rate: 1, cpu: 1 }
    const variants = { iptables: figures, none: figures, proxies: figures, all: figures }
    const claims = accelerationClaims(titles.map((title) => resultOf(title, variants)))
    assert.equal(claims.length, 8 + 2 * STREAMS.length)
    assert.equal(new Set(claims.map(({ text }) => text)).size, claims.length)
  })

  test('what goes one way is held against plain TCP, in each mode', () => {
    const [title = ''] = STREAMS
    const found = claimed(title, { rate: 98.9, cpu: 1 }, { rate: 100, cpu: 1 })
    assert.deepEqual(
      found.map(({ good }) => good),
      [true, false],
    )
  })

  test('nothing is claimed where a mode was not measured', () => {
    assert.deepEqual(accelerationClaims([resultOf('16 connections, 100 B', { iptables: { p50: 1 }, none: { p50: 1 } })]), [])
  })
})

describe('docs/performance.md', () => {
  const found = { table: 'the table', claims: [{ good: true, text: 'a claim' }], results: [resultOf('a', { none: { p50: 1 } })] }

  test('a part writes its own section, in its place, and leaves the others alone', () => {
    const both = performancePage('', { outside: found, traffic: found })
    const page = performancePage(both.replaceAll('the table', 'an old table'), { cost: found })
    assert.deepEqual(page.match(/^## .*$/gm), [
      '## Connections, requests and DNS queries',
      '## One connect() with many CIDRs and rules',
      '## Processes in no pod',
    ])
    assert.equal(page.match(/^an old table$/gm)?.length, 2)
    assert.equal(page.match(/^the table$/gm)?.length, 1)
    assert.equal(page.match(/^# /gm)?.length, 1)
    assert.equal(page.match(/^Machine: /gm)?.length, 3)
    assert.equal(performancePage(page, {}), page)
  })

  test('the page in the repository has the sections', async () => {
    const page = await readFile(join(import.meta.dirname, '../../docs/performance.md'), 'utf8')
    assert.equal(performancePage(page, {}), page)
  })
})
