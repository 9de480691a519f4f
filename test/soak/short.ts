/** A short soak. MERBRIDGE_SOAK_MINUTES makes it longer, MERBRIDGE_SOAK_SEED repeats one; `npm run soak` is the long one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { reportText, soak } from './soak.ts'

const minutes = Number(process.env.MERBRIDGE_SOAK_MINUTES ?? 2)
const seed = Number(process.env.MERBRIDGE_SOAK_SEED ?? Date.now() % 1_000_000)

test(`${minutes} minutes of random traffic, reloads, kills and pods that come and go: no wrong byte, no hang, nothing left in the kernel`, {
  timeout: minutes * 60_000 + 240_000,
}, async (context) => {
  const report = await soak({ minutes, seed })
  context.diagnostic(reportText(report))
  assert.deepEqual(report.failures, [], `seed ${seed}`)
  assert(report.totals.messages > 1000 * minutes, 'there was traffic')
  assert((report.happenings['kills of the agent'] ?? 0) > 0 && (report.happenings.reloads ?? 0) > 0, JSON.stringify(report.happenings))
})
