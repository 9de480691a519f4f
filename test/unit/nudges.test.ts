/** When namespaces are looked at in which a reader stands still: once for each time that it is told, in turn, and not too often. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Nudges } from '../../core/datapath/nudges.ts'

test('what is told once is looked at once, whoever tells it besides; what is told again, again', async () => {
  const seen: bigint[] = []
  const nudges = new Nudges(async (netns) => void seen.push(netns))
  nudges.tell(1n)
  nudges.tell(2n)
  nudges.tell(1n)
  await sleep(100)
  assert.deepEqual(seen, [1n, 2n])
  nudges.tell(1n)
  await sleep(100)
  assert.deepEqual(seen, [1n, 2n, 1n])
  nudges[Symbol.dispose]()
  nudges.tell(1n)
  await sleep(50)
  assert.equal(seen.length, 3, 'the end is the end')
})

test('what is told while it is looked is looked at once more', async () => {
  let looks = 0
  const nudges = new Nudges(async () => {
    if (++looks === 2) nudges.tell(1n)
  })
  nudges.tell(1n)
  await sleep(100)
  assert.equal(looks, 1)
  nudges.tell(1n)
  await sleep(200)
  assert.equal(looks, 3)
  nudges[Symbol.dispose]()
})

test('looking costs a twentieth of the time at most', async () => {
  let looks = 0
  const nudges = new Nudges(async () => {
    looks++
    await sleep(20)
  })
  for (let netns = 0n; netns < 50n; netns++) nudges.tell(netns)
  await sleep(1000)
  nudges[Symbol.dispose]()
  assert(looks >= 1 && looks <= 3, `${looks} looks`)
})
