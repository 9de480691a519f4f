/** When the agent looks at the sockets that may join: soon after one has asked, also when it asks while a look lasts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { u64Codec } from '../../core/codec.ts'
import { AccelAsk } from '../../core/contract.ts'
import { Latecomers } from '../../core/datapath/latecomers.ts'
import type { BpfMap, Native } from '../../core/native/api.ts'

const [soon, later] = [u64Codec.encode(BigInt(AccelAsk.SOON)), u64Codec.encode(BigInt(AccelAsk.LATER))]

/** A latecomers' agent that has begun, and what puts a record into its ring. */
function begin(look: () => Promise<number>): { readonly latecomers: Latecomers; readonly tell: (record: Buffer) => void } {
  let tell: (record: Buffer) => void = () => {}
  const native = {
    ringBuffer: (_: BpfMap, record: (bytes: Buffer) => void) => {
      tell = record
      return { close: () => {} }
    },
  } as unknown as Native
  const latecomers = new Latecomers(native, {} as BpfMap, { look, asked: () => {}, still: () => {} })
  latecomers.begin()
  return { latecomers, tell }
}

/** How many reads of sockets there are in two and a half seconds after the agent has begun, and was told; from the beginning one waits, or from then on. */
async function readsAfter(told: Buffer | undefined): Promise<number> {
  let reads = 0
  const { latecomers, tell } = begin(async () => {
    reads++
    return told === undefined || reads > 1 ? 1 : 0
  })
  using _ = latecomers
  if (told === undefined) await latecomers.look()
  else tell(told)
  await sleep(2500)
  return reads
}

test('bytes behind a reader that is busy: it is looked at ten times a second, also by an agent that starts; what only waits, less and less often', {
  timeout: 10_000,
}, async () => {
  const [busy, found, waits] = await Promise.all([readsAfter(later), readsAfter(undefined), readsAfter(soon)])
  assert(busy >= 30 && found >= 30 && waits < 24, `${busy}, ${found} and ${waits} reads, two at a time`)
})

test('a socket that asks while a look lasts is looked at soon after that', { timeout: 10_000 }, async () => {
  let reads = 0
  let pass: () => void = () => {}
  const { latecomers, tell } = begin(() => {
    reads++
    return new Promise<number>((resolve) => {
      pass = () => resolve(1) // one that waits
    })
  })
  using _ = latecomers
  const ask = () => tell(soon)

  ask()
  await sleep(30)
  assert.equal(reads, 1, 'a look of two reads has begun')
  ask()
  await sleep(20) // it is due now, and has to wait
  pass()
  await sleep(10)
  assert.equal(reads, 2)
  pass()
  // What the look has cost it may have to rest for, but it comes.
  for (let waited = 0; reads < 3 && waited < 2000; waited += 20) await sleep(20)
  assert.equal(reads, 3)
  pass()
  await sleep(10)
  pass()
})
