/** When namespaces are looked at whose readers may be behind: soon, again while they are, and not for ever. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Nudges } from '../../core/datapath/nudges.ts'

test('a pod where nothing is behind is looked at twice; each record begins anew', async () => {
  let looks = 0
  const nudges = new Nudges(async () => {
    looks++
    return 0
  })
  nudges.tell(1n)
  nudges.tell(1n)
  await sleep(400)
  assert.equal(looks, 2)
  nudges.tell(1n)
  await sleep(400)
  assert.equal(looks, 4)
  nudges[Symbol.dispose]()
})

test('while readers are behind it is looked again, less and less often; other pods are not forgotten', async () => {
  const seen: bigint[] = []
  const nudges = new Nudges(async (netns) => {
    seen.push(netns)
    return netns === 1n ? 1 : 0
  })
  nudges.tell(1n)
  nudges.tell(2n)
  await sleep(600)
  nudges[Symbol.dispose]()
  const behind = seen.filter((netns) => netns === 1n).length
  assert(behind >= 3 && behind <= 6, `${behind} looks`)
  assert.equal(seen.filter((netns) => netns === 2n).length, 2)
  await sleep(600)
  assert.equal(seen.length, behind + 2, 'the end is the end')
})

test('what is told while it is looked is looked at once more', async () => {
  let looks = 0
  const nudges = new Nudges(async () => {
    if (++looks === 2) nudges.tell(1n)
    return 0
  })
  nudges.tell(1n)
  await sleep(500)
  assert.equal(looks, 4)
  nudges[Symbol.dispose]()
})

test('looking costs a twentieth of the time at most', async () => {
  let looks = 0
  const nudges = new Nudges(async () => {
    looks++
    await sleep(20)
    return 1
  })
  for (let netns = 0n; netns < 50n; netns++) nudges.tell(netns)
  await sleep(1000)
  nudges[Symbol.dispose]()
  assert(looks >= 1 && looks <= 3, `${looks} looks`)
})
