/** Looking at sockets costs a twentieth of the time at most, and what comes after quiet times is looked at at once. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Allowance, marksIn } from '../../core/datapath/looks.ts'

/** A clock that a test sets, and an allowance by it. */
function timed(): { allowance: Allowance; wait: (milliseconds: number) => void } {
  let now = 5000
  const wait = (milliseconds: number) => {
    now += milliseconds
  }
  return { allowance: new Allowance(() => now), wait }
}

test('a burst: looks of 20 ms together need no rest between them; more has to wait 19 times as long', () => {
  const { allowance } = timed()
  for (let look = 0; look < 20; look++) {
    assert.equal(allowance.pause(), 0, `look ${look}`)
    allowance.spend(1)
  }
  assert.equal(allowance.pause(), 0)
  allowance.spend(1)
  assert.equal(allowance.pause(), 19)
})

test('looks that did not wait do not add up: whoever asks for views all the time does not stop the agent from looking by itself', () => {
  const { allowance, wait } = timed()
  for (let look = 0; look < 1000; look++) {
    wait(2)
    allowance.spend(2)
  }
  assert(allowance.pause() <= 38)
  wait(38)
  assert.equal(allowance.pause(), 0)
})

test('the pause ends when it says so, not before', () => {
  const { allowance, wait } = timed()
  allowance.spend(30)
  assert.equal(allowance.pause(), 190)
  wait(100)
  assert.equal(Math.round(allowance.pause()), 90)
  wait(89)
  assert(allowance.pause() > 0)
  wait(1.001)
  assert.equal(allowance.pause(), 0)
  allowance.spend(1)
  assert.equal(Math.round(allowance.pause()), 19, 'nothing was saved meanwhile')
})

test('what is saved has an end: after an hour of rest a burst is as long as after a second', () => {
  for (const quiet of [1000, 3_600_000]) {
    const { allowance, wait } = timed()
    allowance.spend(20)
    wait(quiet)
    let looks = 0
    for (; allowance.pause() === 0; looks++) allowance.spend(1)
    assert.equal(looks, 21, `${quiet} ms`)
  }
})

test('looks that are asked for all the time take a twentieth of it', () => {
  for (const cost of [0.5, 3, 40]) {
    const { allowance, wait } = timed()
    let [looking, all] = [0, 0]
    const pass = (milliseconds: number) => {
      wait(milliseconds)
      all += milliseconds
    }
    while (all < 60_000) {
      pass(allowance.pause())
      pass(cost)
      allowance.spend(cost)
      looking += cost
    }
    assert(looking / all > 0.045 && looking / all < 0.055, `looks of ${cost} ms: ${looking / all}`)
  }
})

test('a clock of its own, when none is given', () => {
  const allowance = new Allowance()
  assert.equal(allowance.pause(), 0)
  allowance.spend(1000)
  assert(allowance.pause() > 18_000)
})

test('marks: a __u32 for each', () => {
  assert.deepEqual(
    [0, 3, 4, 11].map((length) => marksIn({ length })),
    [0, 0, 1, 2],
  )
})
