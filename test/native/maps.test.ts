import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BpfMap, NativeError } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import { bpffs, leavesNoDescriptors, nativeError, turnsDuring, u32, u64 } from './fixtures.ts'

const [HASH, ARRAY, PROG_ARRAY, PERCPU_HASH, LRU_HASH, LPM_TRIE, SOCKHASH, PERCPU_ARRAY, RINGBUF] = [1, 2, 3, 5, 9, 11, 18, 6, 27]
const NO_PREALLOC = 1

function create(type: number, keySize: number, valueSize: number, maxEntries: number, flags = 0): BpfMap {
  return native.createMap({ name: 'mbn_test', type, keySize, valueSize, maxEntries, flags })
}

function lpmKey(prefix: number, ...address: number[]): Buffer {
  return Buffer.concat([u32(prefix), Buffer.from(address)])
}

function pairs(count: number): { key: Buffer; value: Buffer }[] {
  return Array.from({ length: count }, (_, index) => ({ key: u32(index), value: u64(index * 3) }))
}

function sorted(entries: readonly { key: Buffer; value: Buffer }[]): string[] {
  return entries.map(({ key, value }) => `${key.toString('hex')}=${value.toString('hex')}`).sort()
}

const pins = bpffs(native.mountBpffs)

describe('maps', () => {
  leavesNoDescriptors()

  it('reads, writes and deletes single entries', () => {
    using map = create(HASH, 4, 8, 2)
    assert.equal(map.lookup(u32(1)), undefined)
    assert.equal(map.isEmpty(), true)
    map.update(u32(1), u64(7))
    assert.equal(map.isEmpty(), false)
    assert.deepEqual(map.lookup(u32(1)), u64(7))
    assert.throws(() => map.update(u32(1), u64(8), 1), nativeError('EEXIST'))
    assert.throws(() => map.update(u32(2), u64(8), 2), nativeError('ENOENT'))
    map.update(u32(2), u64(8))
    assert.throws(() => map.update(u32(3), u64(8)), nativeError('E2BIG'))
    assert.equal(map.delete(u32(1)), true)
    assert.equal(map.delete(u32(1)), false)
  })

  it('tells what a map is', () => {
    using map = create(HASH, 4, 8, 16, NO_PREALLOC)
    const { id, ...shape } = map.info
    assert(id > 0)
    assert.deepEqual(shape, { name: 'mbn_test', type: HASH, keySize: 4, valueSize: 8, maxEntries: 16, flags: NO_PREALLOC })
  })

  for (const [name, type, flags] of [
    ['hash', HASH, 0],
    ['array', ARRAY, 0],
    ['lru hash', LRU_HASH, 0],
  ] as const) {
    it(`writes and reads a whole ${name}`, async () => {
      using map = create(type, 4, 8, 5000, flags)
      const want = pairs(5000)
      await map.updateBatch(want)
      const have = sorted(await map.entries())
      // An LRU map may evict before it is full.
      const wanted = new Set(sorted(want))
      assert(have.length > (type === LRU_HASH ? 4000 : 4999), String(have.length))
      assert.deepEqual(
        have.filter((entry) => !wanted.has(entry)),
        [],
      )
    })
  }

  it('writes, reads and deletes a whole LPM trie', async () => {
    using map = create(LPM_TRIE, 8, 8, 600, NO_PREALLOC)
    const want = Array.from({ length: 500 }, (_, index) => ({ key: lpmKey(24, 10, index >> 8, index & 255, 0), value: u64(index) }))
    await map.updateBatch(want)
    assert.deepEqual(sorted(await map.entries()), sorted(want))
    assert.deepEqual(map.lookup(lpmKey(32, 10, 1, 2, 3)), u64(258))
    assert.equal(await map.deleteBatch(want.map(({ key }) => key)), 500)
    assert.deepEqual(await map.entries(), [])
  })

  for (const [name, type] of [
    ['per-CPU hash', PERCPU_HASH],
    ['per-CPU array', PERCPU_ARRAY],
  ] as const) {
    it(`has a value for every CPU, padded to 8 bytes, in a ${name}`, async () => {
      using map = create(type, 4, 4, 3)
      const value = Buffer.concat(Array.from({ length: native.possibleCpus }, (_, cpu) => u64(cpu + 1)))
      map.update(u32(2), value)
      assert.deepEqual(map.lookup(u32(2)), value)
      assert.throws(() => map.update(u32(2), u32(1)), nativeError('EINVAL', /4 bytes/))
      const entries = await map.entries()
      assert.deepEqual(entries.find(({ key }) => key.equals(u32(2)))?.value, value)
      await map.updateBatch([{ key: u32(1), value }])
      assert.deepEqual(map.lookup(u32(1)), value)
    })
  }

  it('reads maps that have no batch calls', async () => {
    using sockets = create(SOCKHASH, 4, 4, 8)
    assert.deepEqual(await sockets.entries(), [])
    using programs = create(PROG_ARRAY, 4, 4, 8)
    assert.deepEqual(await programs.entries(), [])
    using ring = create(RINGBUF, 0, 0, 4096)
    await assert.rejects(ring.entries(), nativeError('EINVAL', /no keys/))
  })

  it('skips keys that are not there when it deletes many', async () => {
    using map = create(HASH, 4, 8, 100)
    await map.updateBatch(pairs(100).filter((_, index) => index % 3 !== 1))
    assert.equal(await map.deleteBatch(Array.from({ length: 90 }, (_, index) => u32(index))), 60)
    assert.deepEqual(
      (await map.entries()).map(({ key }) => key.readUInt32LE()).sort((a, b) => a - b),
      [90, 92, 93, 95, 96, 98, 99],
    )
    assert.equal(await map.deleteBatch([]), 0)
    await map.updateBatch([])
  })

  it('says how many were written before a failure', async () => {
    using map = create(HASH, 4, 8, 10)
    await assert.rejects(map.updateBatch(pairs(30)), (error) => {
      nativeError('E2BIG')(error)
      const { done } = error as NativeError
      assert(done !== undefined && done >= 10 && done < 30, String(done))
      return true
    })
    using trie = create(LPM_TRIE, 8, 8, 10, NO_PREALLOC)
    const entries = [lpmKey(8, 10, 0, 0, 0), lpmKey(33, 10, 0, 0, 0)].map((key) => ({ key, value: u64(1) }))
    await assert.rejects(trie.updateBatch(entries), (error) => {
      nativeError('EINVAL')(error)
      assert.equal((error as NativeError).done, 1)
      return true
    })
  })

  it('ends a dump of a map that changes all the time, without repeating a key', async () => {
    using map = create(LPM_TRIE, 8, 8, 2000, NO_PREALLOC)
    const keys = Array.from({ length: 1000 }, (_, index) => lpmKey(32, 10, 0, index >> 8, index & 255))
    await map.updateBatch(keys.map((key) => ({ key, value: u64(0) })))
    let running = true
    const changing = (async () => {
      for (let round = 0; running; round++) {
        for (let index = 0; index < 50; index++) map.delete(keys[(round * 50 + index) % 1000] ?? u32(0))
        for (let index = 0; index < 50; index++) map.update(keys[(round * 50 + index) % 1000] ?? u32(0), u64(round))
        await sleep(0)
      }
    })()
    for (let dump = 0; dump < 50; dump++) {
      const entries = await map.entries()
      assert.equal(new Set(entries.map(({ key }) => key.toString('hex'))).size, entries.length)
      assert(entries.length <= 1000)
    }
    running = false
    await changing
  })

  it('does not block the event loop while it reads', async () => {
    using map = create(HASH, 4, 8, 200_000)
    await map.updateBatch(pairs(200_000))
    assert((await turnsDuring(async () => map.entries())) > 5)
  })

  it('keeps the descriptor until running calls have ended', async () => {
    const map = create(HASH, 4, 8, 100_000)
    await map.updateBatch(pairs(100_000))
    const reading = map.entries()
    map.close()
    assert.equal((await reading).length, 100_000)
  })

  it('freezes and pins', () => {
    using map = create(ARRAY, 4, 8, 1)
    map.update(u32(0), u64(5))
    map.freeze()
    assert.throws(() => map.update(u32(0), u64(6)), nativeError('EPERM'))
    map.pin(`${pins}/frozen`)
    assert.throws(() => map.pin(`${pins}/frozen`), nativeError('EEXIST', /frozen/))
    using again = native.pinnedMap(`${pins}/frozen`)
    assert.equal(again.info.id, map.info.id)
    assert.deepEqual(again.lookup(u32(0)), u64(5))
    assert.throws(() => native.pinnedMap(`${pins}/missing`), nativeError('ENOENT', /missing/))
    assert.throws(() => native.pinnedProgram(`${pins}/frozen`), nativeError('EINVAL', /not a program/))
    assert.throws(() => native.pinnedLink(`${pins}/frozen`), nativeError('EINVAL', /not a link/))
  })

  it('closes once, and refuses to use what is closed', async () => {
    const map = create(ARRAY, 4, 8, 1)
    assert(map.fd > 2)
    assert.equal(map.closed, false)
    map.close()
    map.close()
    assert.equal(map.closed, true)
    const closed = nativeError('EBADF', /closed/)
    assert.throws(() => map.fd, closed)
    assert.throws(() => map.info, closed)
    assert.throws(() => map.lookup(u32(0)), closed)
    assert.throws(() => map.update(u32(0), u64(0)), closed)
    assert.throws(() => map.delete(u32(0)), closed)
    assert.throws(() => map.pin(`${pins}/closed`), closed)
    await assert.rejects(map.entries(), closed)
    await assert.rejects(map.updateBatch(pairs(1)), closed)
    await assert.rejects(map.deleteBatch([u32(0)]), closed)
  })

  it('never reads or writes beyond a buffer', async () => {
    using map = create(HASH, 4, 8, 4)
    const wrong = nativeError('EINVAL', /bytes/)
    for (const key of [Buffer.alloc(0), Buffer.alloc(3), Buffer.alloc(5)]) {
      assert.throws(() => map.lookup(key), wrong)
      assert.throws(() => map.update(key, u64(0)), wrong)
      assert.throws(() => map.delete(key), wrong)
      await assert.rejects(map.updateBatch([{ key, value: u64(0) }]), wrong)
      await assert.rejects(map.deleteBatch([u32(0), key]), wrong)
    }
    assert.throws(() => map.update(u32(0), u32(0)), wrong)
    await assert.rejects(map.updateBatch([{ key: u32(0), value: u32(0) }]), wrong)
  })

  it('names what cannot be created', () => {
    assert.throws(() => create(HASH, 0, 8, 1), nativeError('EINVAL', /create map mbn_test/))
    assert.throws(() => native.createMap({ name: 'a'.repeat(16), type: ARRAY, keySize: 4, valueSize: 4, maxEntries: 1 }), nativeError('ENAMETOOLONG'))
  })
})
