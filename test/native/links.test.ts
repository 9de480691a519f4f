import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { connect as netConnect } from 'node:net'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BpfObject } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import {
  bpffs,
  CGROUP_CONNECT4,
  cgroup,
  compiled,
  connect,
  leavesNoDescriptors,
  nativeError,
  netns,
  SK_LOOKUP,
  SK_MSG_VERDICT,
  SOCK_OPS,
  server,
  u32,
} from './fixtures.ts'

const REFUSED = 'EPERM'

const connects = compiled('connect')
const lookup = compiled('lookup')
const sockets = compiled('sockets')
const pins = bpffs(native.mountBpffs)
const group = cgroup()
const target = server()
const space = netns('l')

function counted(object: BpfObject, index: number): bigint | undefined {
  using counts = object.map('counts')
  return counts.lookup(u32(index))?.readBigUInt64LE()
}

describe('links at a cgroup', () => {
  leavesNoDescriptors()

  it('attaches, replaces and detaches', async () => {
    using object = await native.load(connects)
    using allow = object.program('allow')
    using refuse = object.program('refuse')
    using link = native.attachCgroup(allow, group, CGROUP_CONNECT4)
    assert.equal(await connect(target.port()), '')
    assert.equal(counted(object, 0), 1n)
    assert.deepEqual(
      { ...link.info, id: 0 },
      { id: 0, type: 3, programId: allow.info.id, cgroupId: BigInt(statSync(group).ino), attachType: CGROUP_CONNECT4 },
    )

    link.update(refuse)
    assert.equal(await connect(target.port()), REFUSED)
    assert.equal(link.info.programId, refuse.info.id)
    link.detach()
    assert.equal(await connect(target.port()), '')
    assert.throws(() => link.update(allow), nativeError('ENOLINK'))
  })

  it('ends with its last descriptor, unless it is pinned', async () => {
    using object = await native.load(connects)
    using refuse = object.program('refuse')
    native.attachCgroup(refuse, group, CGROUP_CONNECT4).close()
    assert.equal(await connect(target.port()), '')

    const link = native.attachCgroup(refuse, group, CGROUP_CONNECT4)
    link.pin(`${pins}/link`)
    const { id } = link.info
    link.close()
    assert.equal(await connect(target.port()), REFUSED)
    using again = native.pinnedLink(`${pins}/link`)
    assert.equal(again.info.id, id)
    again.detach()
    assert.equal(await connect(target.port()), '')
  })

  it('lists the programs of a cgroup in their order', async () => {
    using object = await native.load(connects)
    using allow = object.program('allow')
    using refuse = object.program('refuse')
    const before = native.queryCgroup(group, CGROUP_CONNECT4, true)
    assert.deepEqual(native.queryCgroup(group, CGROUP_CONNECT4, false), [])
    using first = native.attachCgroup(allow, group, CGROUP_CONNECT4)
    using second = native.attachCgroup(refuse, group, CGROUP_CONNECT4)
    const own = [first.info.programId, second.info.programId]
    assert.deepEqual(native.queryCgroup(group, CGROUP_CONNECT4, false), own)
    assert.deepEqual(native.queryCgroup(group, CGROUP_CONNECT4, true).slice(0, 2), own)
    assert.equal(native.queryCgroup(group, CGROUP_CONNECT4, true).length, before.length + 2)
    assert.throws(() => native.queryCgroup('/proc', CGROUP_CONNECT4, false), nativeError('EBADF', /proc/))
  })

  it('finds programs by id, while they are there', async () => {
    using object = await native.load(connects)
    const program = object.program('allow')
    const { id } = program.info
    assert.deepEqual(native.programById(id), program.info)
    program.pin(`${pins}/program`)
    program.close()
    using again = native.pinnedProgram(`${pins}/program`)
    assert.equal(again.info.id, id)
    assert.equal(native.programById(0xfffffff0), undefined)
  })

  it('names the cgroup that is not there', async () => {
    using object = await native.load(connects)
    using allow = object.program('allow')
    assert.throws(() => native.attachCgroup(allow, `${group}/none`, CGROUP_CONNECT4), nativeError('ENOENT', /none/))
    assert.throws(() => native.attachCgroup(allow, '/etc/passwd', CGROUP_CONNECT4), nativeError('ENOTDIR', /passwd/))
    assert.throws(() => native.attachCgroup(allow, group, SOCK_OPS), nativeError('EINVAL'))
  })

  it('runs what an array of programs holds', async () => {
    using object = await native.load(connects)
    using tail = object.program('tail')
    using refuse = object.program('refuse')
    using steps = object.map('steps')
    using _link = native.attachCgroup(tail, group, CGROUP_CONNECT4)
    assert.equal(await connect(target.port()), '')
    native.setProgram(steps, 0, refuse)
    assert.equal(await connect(target.port()), REFUSED)
    assert.equal((await steps.entries()).length, 1)
    assert.equal(steps.delete(u32(0)), true)
    assert.equal(await connect(target.port()), '')
    assert.throws(() => native.setProgram(steps, 2, refuse), nativeError('E2BIG'))
    using counts = object.map('counts')
    assert.throws(() => native.setProgram(counts, 0, refuse), nativeError('EINVAL', /array of programs/))
  })

  it('lets running programs end before the barrier opens', async () => {
    using object = await native.load(connects)
    using slow = object.program('slow')
    using _link = native.attachCgroup(slow, group, CGROUP_CONNECT4)
    using counts = object.map('counts')
    const running = () => counts.lookup(u32(2))?.readBigUInt64LE()
    // The program keeps the thread that connects busy, so that thread must not be the event loop's.
    const { Worker } = await import('node:worker_threads')
    const script = `require('node:net').connect(${target.port()}, '127.0.0.1').on('close', () => {}).on('connect', function () { this.end() })`
    const worker = new Worker(script, { eval: true })
    const ended = new Promise((resolve) => worker.on('exit', resolve))
    for (let wait = 0; running() === 0n && wait < 2000; wait++) await sleep(1)
    assert.equal(running(), 1n, 'the program runs')
    await native.barrier()
    assert.equal(running(), 0n)
    await ended
  })
})

describe('links at a network namespace', () => {
  leavesNoDescriptors()

  it('attaches, lists and detaches', async () => {
    using object = await native.load(lookup, { rodata: { '.rodata.pod': Buffer.concat([u32(0), u32(0)]) } })
    using inbound = object.program('inbound')
    assert.deepEqual(native.queryNetns(space.path, SK_LOOKUP), [])
    using link = native.attachNetns(inbound, space.path, SK_LOOKUP)
    assert.equal(space.connect(), 111)
    assert.deepEqual(native.queryNetns(space.path, SK_LOOKUP), [inbound.info.id])
    assert.deepEqual(
      { ...link.info, id: 0 },
      { id: 0, type: 5, programId: inbound.info.id, netnsInode: statSync(space.path).ino, attachType: SK_LOOKUP },
    )
    link.pin(`${pins}/inbound`)
    using plain = object.program('plain')
    link.update(plain)
    assert.deepEqual([space.connect(), link.info.programId], [0, plain.info.id])
    link.update(inbound)
    assert.equal(space.connect(), 111)
    link.detach()
    assert.equal(space.connect(), 0)
    using again = native.pinnedLink(`${pins}/inbound`)
    assert.equal(again.info.netnsInode, 0)
  })

  it('refuses what is no network namespace', async () => {
    using object = await native.load(lookup)
    using inbound = object.program('inbound')
    assert.throws(() => native.attachNetns(inbound, '/etc/passwd', SK_LOOKUP), nativeError('EINVAL', /not a network namespace/))
    assert.throws(() => native.attachNetns(inbound, '/proc/self/ns/mnt', SK_LOOKUP), nativeError('EINVAL', /not a network namespace/))
    assert.throws(() => native.queryNetns('/run/netns/none', SK_LOOKUP), nativeError('ENOENT', /none/))
  })
})

describe('programs at a sockhash', () => {
  leavesNoDescriptors()

  it('drops messages while it is attached', async () => {
    using object = await native.load(sockets)
    using enrol = object.program('enrol')
    using drop = object.program('drop')
    using map = object.map('sockets')
    using _link = native.attachCgroup(enrol, group, SOCK_OPS)
    native.attachMap(drop, map, SK_MSG_VERDICT)
    assert.throws(() => native.detachMap(enrol, map, SK_MSG_VERDICT), nativeError('EINVAL'))

    const dropped = await exchange(target.port(), () => map)
    assert.deepEqual(dropped, { error: 'EACCES', entries: 1, empty: true })
    native.detachMap(drop, map, SK_MSG_VERDICT)
    assert.deepEqual(await exchange(target.port(), () => map), { error: '', entries: 1, empty: true })
  })
})

/** Sends a message through an enrolled socket; the sockhash's entries are read while the connection is open. */
function exchange(port: number, map: () => { entries(): Promise<{ value: Buffer }[]> }): Promise<{ error: string; entries: number; empty: boolean }> {
  return new Promise((resolve, reject) => {
    const socket = netConnect(port, '127.0.0.1')
    let found: { value: Buffer }[] = []
    const done = (error: string) => {
      socket.destroy()
      resolve({ error, entries: found.length, empty: found.every(({ value }) => value.length === 0) })
    }
    socket.on('connect', () => {
      map()
        .entries()
        .then((entries) => {
          found = entries
          socket.write('hello')
        }, reject)
    })
    socket.on('data', () => done(''))
    socket.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? 'unknown'))
  })
}
