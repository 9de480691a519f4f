/** What the demo says of its rounds. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compared, median, type Pair, type Round, tells } from '../demo/rounds.ts'

const round = (latency: number): Round => ({ latency, rate: 1e6 / latency, requests: 1, ports: [], cpu: 1 })
const pairs = (...values: readonly (readonly [off: number, on: number])[]): Pair[] => values.map(([off, on]) => ({ off: round(off), on: round(on) }))
const latency = (of: Round) => of.latency

test('the median of an even number of values is between the two in the middle', () => {
  assert.deepEqual([median([3, 1, 2]), median([4, 1, 2, 3])], [2, 2.5])
})

test('a row has median, least and most of both, and the median of the ratios of neighbours', () => {
  assert.deepEqual(compared('latency', pairs([100, 80], [200, 160], [400, 200]), latency), ['latency', '200 (100 to 400)', '160 (80 to 200)', '0.80'])
})

test('rounds tell when nearly all pairs say the same, however far they are from each other', () => {
  assert.equal(tells(pairs([100, 80], [400, 300], [100, 90], [100, 70]), latency), true)
  assert.equal(tells(pairs([100, 110], [400, 500], [100, 105], [100, 101], [100, 99]), latency), true)
  assert.equal(tells(pairs([100, 80], [100, 120], [100, 90], [100, 110]), latency), false)
})
