import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type { BpfLink, BpfMap, BpfProgram } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import { cgroup, compiled, leavesNoDescriptors, temporaryDirectory, u32, u64 } from './fixtures.ts'

const lookup = compiled('lookup')
const group = cgroup()
const directory = temporaryDirectory()
// Some of the random calls make files.
before(() => process.chdir(directory))
before(async () => {
  const watch = await native.namespaces.watch('/proc/self/ns/net', () => {})
  watch.close() // the thread of the watches keeps two descriptors
})

/** A deterministic sequence, so that a failure can be repeated. */
function sequence(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state
  }
}

describe('wrong arguments', () => {
  leavesNoDescriptors()

  it('are type errors', async () => {
    using object = await native.load(lookup)
    using map = object.map('seen')
    using program = object.program('inbound')
    const wrong = <T>(value: unknown): T => value as T
    const calls: Record<string, () => unknown> = {
      'no object as a program': () => native.attachCgroup(wrong<BpfProgram>({ fd: 3 }), group, 10),
      'a map as a program': () => native.attachCgroup(wrong<BpfProgram>(map), group, 10),
      'a program as a map': () => native.ringBuffer(wrong<BpfMap>(program), () => {}),
      'null as a map': () => native.detachMap(program, wrong<BpfMap>(null), 7),
      'a heir of a map': () => native.setProgram(wrong<BpfMap>(Object.create(map)), 0, program),
      'a proxy of a map': () => native.setProgram(wrong<BpfMap>(new Proxy(map, {})), 0, program),
      'no function': () => native.ringBuffer(map, wrong('call me')),
      'a text as a key': () => map.lookup(wrong('abcd')),
      'words as a key': () => map.lookup(wrong(new Uint32Array(1))),
      'a view as a key': () => map.lookup(wrong(new DataView(new ArrayBuffer(4)))),
      'a negative flag': () => map.update(u32(0), u64(0), -1),
      'a broken flag': () => map.update(u32(0), u64(0), 0.5),
      'a flag that is no number': () => map.update(u32(0), u64(0), Number.NaN),
      'a size beyond 32 bits': () => native.createMap({ name: 'a', type: 1, keySize: 2 ** 32, valueSize: 4, maxEntries: 1 }),
      'an empty path': () => native.pinnedMap(''),
      'a path with NUL': () => native.pinnedMap('/sys/fs\0/bpf'),
      'no path': () => native.pinnedLink(wrong(undefined)),
      'a borrowed method': () => map.lookup.call(wrong(program), u32(0)),
      'a method without this': () => Reflect.apply(program.pin, undefined, ['/nowhere']),
      'a symbol as a name': () => object.map(wrong(Symbol('seen'))),
      'no constants': () => object.clone('inbound', '.rodata.pod', wrong([1, 2])),
    }
    for (const [name, call] of Object.entries(calls)) assert.throws(call, TypeError, name)
    const promises: Record<string, () => Promise<unknown>> = {
      'a number as a path': () => native.load(wrong(7)),
      'a text as a list': () => native.load(lookup, { skip: wrong('inbound') }),
      'no map to reuse': () => native.load(lookup, { reuse: { seen: wrong(program) } }),
      'a text as a size': () => native.load(lookup, { maxEntries: { seen: wrong('many') } }),
      'no paths': () => native.namespaces.inspect(wrong('/proc/self/ns/net')),
      'numbers as paths': () => native.namespaces.inspect(wrong([1, 2])),
      'a text as a callback': () => native.namespaces.watch('/proc/self/ns/net', wrong('call me')),
      'no path to watch': () => native.namespaces.watch(wrong(undefined), () => {}),
      'a list of numbers': () => native.namespaces.inodes(wrong([1])),
      'a program as an iterator': () => native.namespaces.iterate('/proc/self/ns/net', wrong<BpfLink>(program)),
    }
    for (const [name, call] of Object.entries(promises)) await assert.rejects(call, TypeError, name)
  })

  it('never crash: every function of the binary with random ones', async () => {
    const binary = createRequire(import.meta.url)(join(import.meta.dirname, `../../build/native/linux-${process.arch}/merbridge.node`))
    using object = await native.load(lookup)
    using map = object.map('seen')
    const loaded = await binary.objectLoad(lookup, [], [], [], [], '', false)
    const socket = await binary.namespaceSocket('/proc/self/ns/net')
    const watches = [binary.watchOpen(await binary.namespaceSocket('/proc/self/ns/net'), () => {})]
    const values: unknown[] = [
      ...[undefined, null, true, false, 0, 1, -1, 7, 2 ** 32, Number.NaN, 1.5, 3n, '', 'seen', '/proc/self/ns/net', '/nowhere/at-all', Symbol('a')],
      ...[
        [],
        ['/nowhere/at-all'],
        [['a', 1]],
        {},
        () => {},
        Buffer.alloc(0),
        Buffer.alloc(4),
        Buffer.alloc(8),
        new Uint32Array(2),
        map,
        Object.create(null),
      ],
      ...[socket, watches[0]],
      ...[binary.mapCreate('random', 2, 4, 8, 8, 0), binary.objectProgram(loaded, 'inbound'), loaded],
    ]
    const random = sequence(20)
    const names = Object.keys(binary).filter((name) => !['mountBpffs', 'barrier'].includes(name))
    assert(names.length > 40)
    const pending: Promise<unknown>[] = []
    let [thrown, returned] = [0, 0]
    for (let call = 0; call < 40_000; call++) {
      const name = names[random() % names.length] ?? ''
      const parameters = Array.from({ length: random() % 6 }, () => values[random() % values.length])
      try {
        const result = binary[name](...parameters)
        if (name === 'watchOpen') watches.push(result)
        if (name === 'storageMap' || name === 'filterProgram') binary.descriptorClose(result)
        if (result instanceof Promise) pending.push(name === 'namespaceSocket' ? result.then(binary.descriptorClose) : result)
        returned++
      } catch (error) {
        assert(error instanceof Error, name)
        thrown++
      }
      if (pending.length > 100) await Promise.allSettled(pending.splice(0))
    }
    await Promise.allSettled(pending)
    assert(thrown > 1000 && returned > 1000, `${thrown} ${returned}`)
    for (const value of [socket, ...values.slice(-3, -1)]) binary.descriptorClose(value)
    for (const watch of watches) binary.watchClose(watch)
    binary.objectClose(loaded)
  })
})

describe('worker threads', () => {
  leavesNoDescriptors()

  const index = new URL('../../core/native/index.ts', import.meta.url).href

  function inWorker(script: string): Promise<number> {
    const worker = new Worker(`import('${index}').then(async ({ native }) => { ${script} })`, { eval: true })
    return new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject))
  }

  it('use the addon at the same time, each with handles of its own', async () => {
    const script = `
      for (let round = 0; round < 10; round++) {
        const object = await native.load('${lookup}')
        const map = object.map('seen')
        await native.namespaces.inspect(['/proc/self/ns/net', '/nowhere'])
        if ((await map.entries()).length !== 8) process.exit(1)
        map.close()
        object.close()
      }`
    assert.deepEqual(await Promise.all([inWorker(script), inWorker(script), inWorker(script)]), [0, 0, 0])
    assert.equal((await native.namespaces.inspect(['/proc/self/ns/net'])).length, 1)
  })

  it('may be terminated at any moment', async () => {
    const script = `
      const map = native.createMap({ name: 'many', type: 1, keySize: 4, valueSize: 8, maxEntries: 1000 })
      for (;;) {
        const all = [native.load('${lookup}'), native.namespaces.inspect(['/proc/self/ns/net']), map.entries(), native.barrier()]
        for (let call = 0; call < 1000; call++) map.info
        for (const result of await Promise.allSettled(all)) result.value?.close?.()
      }`
    for (let round = 0; round < 12; round++) {
      const worker = new Worker(`import('${index}').then(async ({ native }) => { ${script} })`, { eval: true })
      await sleep(100 + round * 7)
      await worker.terminate()
    }
  })

  it('end in the middle of everything without a crash, and leave nothing open', async () => {
    const script = `
      const ring = native.createMap({ name: 'ring', type: 27, keySize: 0, valueSize: 0, maxEntries: 4096 })
      native.ringBuffer(ring, () => {})
      for (let watch = 0; watch < 20; watch++) native.namespaces.watch('/proc/self/ns/net', () => {})
      const object = await native.load('${lookup}')
      const maps = Array.from({ length: 20 }, () => object.map('seen'))
      for (let job = 0; job < 50; job++) native.namespaces.inspect(Array(20).fill('/proc/self/ns/net'))
      for (let job = 0; job < 20; job++) maps[job].entries()
      native.load('${lookup}')
      process.exit(7)`
    for (let round = 0; round < 5; round++) assert.equal(await inWorker(script), 7)
  })
})
