import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import type { BpfObject, NativeError } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import {
  CGROUP_CONNECT4,
  cgroup,
  compiled,
  connect,
  leavesNoDescriptors,
  nativeError,
  netns,
  SK_LOOKUP,
  server,
  temporaryDirectory,
  turnsDuring,
  u32,
  u64,
} from './fixtures.ts'

const ARRAY = 2

/** .rodata.pod of lookup.bpf.c: slot, verdict (0 drops, 1 passes). */
function pod(slot: number, verdict: number): Buffer {
  return Buffer.concat([u32(slot), u32(verdict)])
}

function seen(object: BpfObject, slot: number): bigint | undefined {
  using map = object.map('seen')
  return map.lookup(u32(slot))?.readBigUInt64LE()
}

const connects = compiled('connect')
const broken = compiled('broken')
const lookup = compiled('lookup')
const sockets = compiled('sockets')
const directory = temporaryDirectory()
const group = cgroup()
const target = server()
const first = netns('a')
const second = netns('b')

describe('object files', () => {
  leavesNoDescriptors()

  it('lists what was loaded', async () => {
    using object = await native.load(connects, { skip: ['slow'] })
    assert.deepEqual([...object.programs].sort(), ['allow', 'refuse', 'report', 'tail'])
    assert.deepEqual([...object.maps].sort(), ['.rodata', 'counts', 'records', 'steps'])
    using program = object.program('refuse')
    using counts = object.map('counts')
    const { name, type, tag, mapIds } = program.info
    assert.deepEqual([name, type], ['refuse', 18])
    assert.match(tag, /^[0-9a-f]{16}$/)
    assert(mapIds.includes(counts.info.id))
    assert.throws(() => object.program('slow'), nativeError('ENOENT', /skipped/))
    assert.throws(() => object.program('nothing'), nativeError('ENOENT', /nothing/))
    assert.throws(() => object.map('nothing'), nativeError('ENOENT', /nothing/))
  })

  it('gives handles that outlive the object', async () => {
    const object = await native.load(connects)
    using map = object.map('counts')
    object.close()
    object.close()
    map.update(u32(0), u64(3))
    assert.deepEqual(map.lookup(u32(0)), u64(3))
    assert.throws(() => object.map('counts'), nativeError('EBADF', /closed/))
    assert.throws(() => object.program('allow'), nativeError('EBADF'))
    assert.throws(() => object.clone('allow', '.rodata', u32(1)), nativeError('EBADF'))
  })

  it('brings the log of the verifier, which names the instruction', async () => {
    await assert.rejects(native.load(broken), (error) => {
      nativeError('EACCES', /broken/)(error)
      const log = (error as NativeError).log ?? ''
      assert.match(log, /unchecked/)
      assert.match(log, /\d+: \(79\) r0 = \*\(u64 \*\)\(r0 \+0\)/)
      assert.match(log, /R0 invalid mem access 'map_value_or_null'/)
      assert(log.length <= 65536)
      return true
    })
    using object = await native.load(broken, { skip: ['unchecked'] })
    assert.deepEqual(object.programs, ['sound'])
  })

  it('refuses files that are no objects', async () => {
    const text = `${directory}/text.o`
    writeFileSync(text, 'not an ELF file')
    await assert.rejects(native.load(`${directory}/missing.o`), nativeError('ENOENT', /missing\.o/))
    await assert.rejects(native.load(directory), nativeError('EISDIR'))
    await assert.rejects(native.load('/dev/null'), nativeError('EINVAL'))
    await assert.rejects(native.load(text), (error) => {
      nativeError('ENOEXEC', /text\.o/)(error)
      assert.match((error as NativeError).log ?? '', /ELF/)
      return true
    })
  })

  it('uses maps that are there', async () => {
    using before = await native.load(connects)
    using counts = before.map('counts')
    counts.update(u32(3), u64(42))
    using object = await native.load(connects, { reuse: { counts } })
    using same = object.map('counts')
    assert.equal(same.info.id, counts.info.id)
    assert.deepEqual(same.lookup(u32(3)), u64(42))
  })

  for (const [field, shape] of [
    ['type', { type: 1, keySize: 4, valueSize: 8, maxEntries: 4 }],
    ['value_size', { type: ARRAY, keySize: 4, valueSize: 16, maxEntries: 4 }],
    ['max_entries', { type: ARRAY, keySize: 4, valueSize: 8, maxEntries: 5 }],
    ['map_flags', { type: ARRAY, keySize: 4, valueSize: 8, maxEntries: 4, flags: 128 }],
  ] as const) {
    it(`refuses a map of another ${field}`, async () => {
      using counts = native.createMap({ name: 'other', ...shape })
      await assert.rejects(native.load(connects, { reuse: { counts } }), nativeError('EINVAL', new RegExp(`counts has ${field} `)))
    })
  }

  it('takes sizes and constants, and refuses unknown names', async () => {
    using object = await native.load(connects, { maxEntries: { counts: 9 }, rodata: { '.rodata': u32(5) } })
    using counts = object.map('counts')
    assert.equal(counts.info.maxEntries, 9)
    using program = object.program('allow')
    using link = native.attachCgroup(program, group, CGROUP_CONNECT4)
    assert.equal(await connect(target.port()), '')
    link.detach()
    assert.deepEqual(counts.lookup(u32(0)), u64(5))

    const unknown = nativeError('ENOENT', /nowhere/)
    await assert.rejects(native.load(connects, { skip: ['nowhere'] }), unknown)
    await assert.rejects(native.load(connects, { maxEntries: { nowhere: 1 } }), unknown)
    await assert.rejects(native.load(connects, { rodata: { nowhere: u32(1) } }), unknown)
    await assert.rejects(native.load(connects, { reuse: { nowhere: counts } }), unknown)
    await assert.rejects(native.load(connects, { rodata: { '.rodata': u64(1) } }), nativeError('EINVAL', /8 bytes, it has 4/))
    await assert.rejects(native.load(connects, { rodata: { counts: u64(1) } }), nativeError('EINVAL', /counts/))
  })

  it('clones a program with constants of its own', async () => {
    using object = await native.load(lookup)
    using drops = object.clone('inbound', '.rodata.pod', pod(1, 0))
    using passes = object.clone('inbound', '.rodata.pod', pod(2, 1))
    using original = object.program('inbound')
    assert.equal(drops.info.type, original.info.type)
    assert.equal(drops.info.name, 'inbound')
    assert.notEqual(drops.info.id, passes.info.id)

    using firstLink = native.attachNetns(drops, first.path, SK_LOOKUP)
    using secondLink = native.attachNetns(passes, second.path, SK_LOOKUP)
    assert.equal(first.connect(), 111)
    assert.equal(second.connect(), 0)
    assert.deepEqual([seen(object, 0), seen(object, 1), seen(object, 2)], [0n, 1n, 1n])

    firstLink.update(passes)
    assert.equal(first.connect(), 0)
    assert.equal(firstLink.info.programId, passes.info.id)
    assert.deepEqual([seen(object, 1), seen(object, 2)], [1n, 2n])
    secondLink.detach()
  })

  it('clones 250 programs in well under a second', async () => {
    using object = await native.load(lookup)
    const start = performance.now()
    const clones = Array.from({ length: 250 }, (_, index) => object.clone('inbound', '.rodata.pod', pod(index % 8, 1)))
    const elapsed = performance.now() - start
    for (const clone of clones) clone.close()
    assert(elapsed < 1000, `${elapsed} ms`)
  })

  it('refuses to clone what it cannot', async () => {
    using object = await native.load(lookup, { skip: ['plain'] })
    assert.throws(() => object.clone('inbound', '.rodata.pod', u32(1)), nativeError('EINVAL', /4 bytes, it has 8/))
    assert.throws(() => object.clone('inbound', 'seen', u64(1)), nativeError('EINVAL', /not/))
    assert.throws(() => object.clone('inbound', '.rodata.other', u64(1)), nativeError('ENOENT', /rodata.other/))
    assert.throws(() => object.clone('nothing', '.rodata.pod', u64(1)), nativeError('ENOENT', /nothing/))
    assert.throws(() => object.clone('plain', '.rodata.pod', u64(1)), nativeError('ENOENT', /skipped/))
    using all = await native.load(lookup)
    assert.throws(() => all.clone('plain', '.rodata.pod', u64(1)), nativeError('EINVAL', /does not read/))
    assert.throws(() => all.clone('callback', '.rodata.pod', u64(1)), nativeError('EINVAL', /callbacks/))
  })

  it('does not block the event loop while it loads', async () => {
    const load = async () => (await native.load(sockets)).close()
    const turns = await turnsDuring(() => Promise.all(Array.from({ length: 8 }, load)))
    assert(turns > 20, `${turns} turns`)
  })

  it('loads from many calls at once', async () => {
    const objects = await Promise.all(Array.from({ length: 8 }, () => native.load(lookup)))
    for (const object of objects) {
      assert.deepEqual([...object.programs].sort(), ['callback', 'inbound', 'plain'])
      object.close()
    }
  })
})
