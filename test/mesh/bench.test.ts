/** That the benchmark still runs, with one round of each part. What it measures then means nothing. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { REQUESTS, STREAMS } from '../../bench/acceleration.ts'
import { FORMS } from '../../bench/addresses.ts'
import { MODES } from '../../bench/modes.ts'
import { SIZES } from '../../bench/points.ts'
import { run } from '../lab/process.ts'

const bench = (...argv: string[]) => run([process.execPath, join(import.meta.dirname, '../../bench/main.ts'), ...argv], { timeoutMs: 120_000 })

/** The cells of each row whose first cell has the title. */
const rows = (output: string, title: string) =>
  output
    .split('\n')
    .filter((line) => line.startsWith(`| ${title}`))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )

/** A ratio with its interval, "0.85 (0.84 to 0.87)" */
const ratio = /^\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)$/

describe('npm run bench', { timeout: 300_000 }, () => {
  test('measures connections, requests and DNS queries of each form, beside iptables', async () => {
    const { code, stdout, stderr } = await bench('--quick', '--rounds', '1', '--only', 'traffic')
    assert.equal(code, 0, stderr)
    const connects = ['connect()', 'connect() and one exchange'].flatMap((title) => FORMS.map((form) => `${title}, ${form}`))
    const resolvers = ['a connected socket for each', 'one connected socket', 'sendto(), a socket for each', 'sendto(), one socket']
    const queries = [...resolvers, 'sendto(), one socket, its second server'].flatMap((title) => FORMS.map((form) => `DNS, ${title}, ${form}`))
    for (const title of [...connects, ...queries, 'request through two Envoys, connection kept', 'request through two Envoys, new connection']) {
      const [median, p99] = rows(stdout, `${title} `)
      assert.equal(median?.[1], 'median', `${title}\n${stdout}`)
      assert.equal(p99?.[1], 'p99')
      assert.match(median?.[5] ?? '', ratio)
    }
    assert.doesNotMatch(stdout, /proven/i)
  })

  test('measures connect() with growing numbers of CIDRs and rules, by the kernel itself too', async () => {
    const { code, stdout, stderr } = await bench('--quick', '--rounds', '1', '--only', 'cost')
    assert.equal(code, 0, stderr)
    for (const family of ['IPv4', 'IPv6']) {
      const lines = rows(stdout, '').filter(([title = '']) => title.endsWith(family))
      assert.equal(lines.length, SIZES.CIDRs.length + SIZES.rules.length, stdout)
      for (const [title, , nanoseconds, growth] of lines) {
        assert.ok(Number(nanoseconds) > 100 && Number(nanoseconds) < 1e6, `${title}: ${nanoseconds} ns`)
        assert.match(growth ?? '', ratio)
      }
    }
  })

  test('measures what processes in no pod pay', async () => {
    const { code, stdout, stderr } = await bench('--quick', '--rounds', '1', '--only', 'outside')
    assert.equal(code, 0, stderr)
    for (const family of ['IPv4', 'IPv6'])
      for (const what of ['connect()', 'UDP, sendto(), one socket']) assert.equal(rows(stdout, `${what}, ${family} `).length, 2, stdout)
  })

  test('measures acceleration in each mode, beside iptables and the naive redirect', async () => {
    const { code, stdout, stderr } = await bench('--quick', '--rounds', '1', '--only', 'acceleration')
    assert.equal(code, 0, stderr)
    const inStreams = ['MB/s', 'CPU [µs/MB]']
    for (const [titles, figures] of [
      [REQUESTS, ['p50 [µs]', 'p99 [µs]', '1/s', 'CPU [µs]']],
      [STREAMS, [...inStreams, ...inStreams]],
    ] as const)
      for (const title of titles) {
        const lines = rows(stdout, `${title} `).filter(([first]) => first === title)
        const named = lines.map(([, figure]) => figure)
        assert.deepEqual(named, figures, `${title}\n${stdout}`)
        for (const [, figure, base, ...ratios] of lines) {
          assert.ok(Number(base) > 0, `${title}: ${figure} is ${base}`)
          assert.equal(ratios.length, titles === REQUESTS ? MODES.length - 1 : 2)
          for (const each of ratios) assert.match(each, ratio)
        }
      }
  })

  test('says what is wrong with its arguments', async () => {
    const wrong = await bench('--only', 'nonsense')
    assert.equal(wrong.code, 1)
    assert.equal(wrong.stderr, 'bench: --only nonsense: the parts are traffic, cost, outside, acceleration\n')
    assert.equal((await bench('--rounds', '4')).stderr, 'bench: --rounds 4: a whole number of at least 5 is needed\n')
  })
})
