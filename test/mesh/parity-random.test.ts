/** Pods as nobody wrote them by hand, beside Istio's iptables rules: another seed in each run. `npm run test:parity` runs as many as one likes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freshSeed, randomParity } from '../parity/random/run.ts'

const runs = 50

test(`${runs} random pods connect as with Istio's iptables rules`, { timeout: 280_000 }, async (context) => {
  const { failure, summary } = await randomParity({ runs, seed: freshSeed() })
  context.diagnostic(summary)
  assert.equal(failure, undefined, `${summary}\n${failure}`)
})
