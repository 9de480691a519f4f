/** What a soak takes for a leak, and what for other programs of the machine. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chanceOf } from '../soak/happenings.ts'
import { growth, type Measured } from '../soak/measure.ts'

const start: Measured = {
  maps: { handovers: 0, pods: 3, counters: 20 },
  slabs: { TCP: 40, 'kmalloc-512': 9000 },
  tcpPages: 100,
  sockets: { open: 0, all: 12 },
}

test('nothing has grown', () => {
  assert.deepEqual(growth(start, start, 1000), [])
  const others = { ...start, maps: { ...start.maps, counters: 90 }, slabs: { TCP: 200, 'kmalloc-512': 11_000 }, tcpPages: 300 }
  assert.deepEqual(growth(start, others, 1000), [])
})

test('one entry or socket is a leak; one object for each connection is one', () => {
  for (const [end, word] of [
    [{ maps: { ...start.maps, handovers: 1 } }, /map handovers: 0 at the start, 1 at the end/],
    [{ maps: { ...start.maps, pairs: 1 } }, /map pairs/],
    [{ slabs: { ...start.slabs, TCP: 10_040 } }, /cache TCP/],
    [{ slabs: { ...start.slabs, 'kmalloc-512': 19_000 } }, /cache kmalloc-512/],
    [{ tcpPages: 20_000 }, /pages of TCP/],
    [{ sockets: { open: 1, all: 12 } }, /open TCP sockets/],
    [{ sockets: { open: 0, all: 13 } }, /not freed: 12 at the start, 13 at the end/],
  ] as const) {
    const found = growth(start, { ...start, ...end }, 10_000)
    assert.equal(found.length, 1, found.join())
    assert.match(found.join(), word)
  }
})

test('a seed repeats what is done', () => {
  const row = (seed: number) =>
    Array.from(
      { length: 20 },
      (
        (chance) => () =>
          chance(100)
      )(chanceOf(seed)),
    )
  assert.deepEqual(row(7), row(7))
  assert.notDeepEqual(row(7), row(8))
  assert(row(9).every((each) => each >= 0 && each < 100))
})
