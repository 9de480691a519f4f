import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { native } from '../../core/native/index.ts'
import { CGROUP_CONNECT4, cgroup, compiled, connect, leavesNoDescriptors, nativeError, server, temporaryDirectory } from './fixtures.ts'

const connects = compiled('connect')
const group = cgroup()
const target = server()
const directory = temporaryDirectory()

describe('ring buffers', () => {
  leavesNoDescriptors()

  it('bring every record in order, and none after close', async () => {
    using object = await native.load(connects)
    using report = object.program('report')
    using map = object.map('records')
    using _link = native.attachCgroup(report, group, CGROUP_CONNECT4)
    const ports: number[] = []
    const ring = native.ringBuffer(map, (record) => ports.push(record.readUInt16BE(0)))
    assert(ring.fd > 2)
    for (let index = 0; index < 100; index++) await connect(target.port())
    for (let wait = 0; wait < 100 && ports.length < 100; wait++) await sleep(10)
    assert.deepEqual(ports, Array(100).fill(target.port()))

    ring.close()
    ring.close()
    assert.equal(ring.closed, true)
    assert.throws(() => ring.fd, nativeError('EBADF'))
    await connect(target.port())
    await sleep(50)
    assert.equal(ports.length, 100)
  })

  it('may be closed by its own callback', async () => {
    using object = await native.load(connects)
    using report = object.program('report')
    using map = object.map('records')
    using _link = native.attachCgroup(report, group, CGROUP_CONNECT4)
    for (let index = 0; index < 20; index++) await connect(target.port())
    let seen = 0
    await new Promise<void>((resolve) => {
      const ring = native.ringBuffer(map, () => {
        seen++
        ring.close()
        resolve()
      })
    })
    await sleep(50)
    assert.equal(seen, 1)
  })

  it('survive a receiver that is slower than the programs', async () => {
    using object = await native.load(connects)
    using report = object.program('report')
    using map = object.map('records')
    using _link = native.attachCgroup(report, group, CGROUP_CONNECT4)
    const ring = native.ringBuffer(map, () => {})
    // More than the ring holds (4096 bytes, 16 per record) and than waits for the event loop, which is held here.
    const script = `
import socket
for i in range(6000):
    s = socket.socket(); s.setblocking(False); s.connect_ex(('127.0.0.1', 1)); s.close()`
    execFileSync('/usr/bin/python3', ['-c', script])
    ring.close()
    assert.equal(ring.closed, true)
  })

  it('take only maps of their type', async () => {
    using object = await native.load(connects)
    using counts = object.map('counts')
    assert.throws(() => native.ringBuffer(counts, () => {}), nativeError('EINVAL'))
    counts.close()
    assert.throws(() => native.ringBuffer(counts, () => {}), nativeError('EBADF'))
  })

  it('let the process end once closed, and at its exit while open', () => {
    const index = new URL('../../core/native/index.ts', import.meta.url).href
    const common = `import { native } from '${index}'
      const object = await native.load('${connects}')
      const ring = native.ringBuffer(object.map('records'), () => {})
      await native.namespaces.inspect(['/proc/self/ns/net'])\n`
    for (const end of ['ring.close()', 'process.exit(0)']) {
      execFileSync(process.execPath, ['--input-type=module', '-e', common + end], { timeout: 20_000, cwd: directory })
    }
  })
})
