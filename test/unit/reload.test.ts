import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Reloads } from '../../core/reload.ts'

test('reloads run one at a time, and each request is followed by one that began after it', async () => {
  const late: number[] = []
  let running = 0
  let text = 0
  const seen: number[] = []
  const reloads = new Reloads(async () => {
    assert.equal(++running, 1, 'never two at once')
    const read = text
    await sleep(read % 2 === 0 ? 20 : 1) // an older text that takes longer must not come last
    seen.push(read)
    running--
  })
  const asked: Promise<void>[] = []
  for (text = 1; text <= 50; text++) {
    const since = text
    asked.push(reloads.request().then(() => void ((seen.at(-1) ?? 0) < since && late.push(since))))
    if (text % 10 === 0) await sleep(5)
  }
  text = 50
  await Promise.all(asked)
  assert.deepEqual(late, [], 'whoever asked was served by a later reading')
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    seen,
  )
  assert.equal(seen.at(-1), 50)
  assert(seen.length < 20, `${seen.length} reloads for 50 requests`)
})

test('after a pause a request is served at once', async () => {
  let count = 0
  const reloads = new Reloads(async () => void count++)
  await reloads.request()
  await reloads.request()
  assert.equal(count, 2)
})
