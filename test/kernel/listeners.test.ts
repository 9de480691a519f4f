/**
 * Proxies that listened before their pod was enrolled, registered from user space. sock_ops and the iterator see the proxies of these tests too, so
 * `forget` takes what they wrote out of the map first, and a connection must be refused then.
 */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Limit } from '../../core/contract.ts'
import { type ProxyPlace, processesOnce, registerListeners } from '../../core/datapath/listeners.ts'
import type { BpfMap } from '../../core/native/api.ts'
import { kill, Lab, type LabPod, must } from '../lab/net.ts'
import { startProxy } from '../mesh/sidecar.ts'
import { connectOnce } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, native, reached } from './fixture.ts'

const PORT = 15006
/** Of the test in which a proxy exits: how often, and the milliseconds in which it does, longer than a search takes. */
const [ROUNDS, LOOKING] = [40, 100]
const holder = resolve(import.meta.dirname, 'holder.py')
const root = resolve(import.meta.dirname, '../..')

let lab: Lab
let client: LabPod
let server: LabPod
let datapath: DatapathUnderTest
let map: BpfMap
let place: ProxyPlace
const descriptors = () => readdirSync('/proc/self/fd').length

async function forget(): Promise<void> {
  await map.deleteBatch((await map.entries()).map(({ key }) => key))
  assert.equal(await inbound(), 'ECONNREFUSED', 'nobody is registered')
}

const register = () => registerListeners(native, map, place)
const inbound = async () => reached(await connectOnce(client, app, [server.address, 8080]))
const slotsUsed = async () => (await map.entries()).length

interface Holder extends AsyncDisposable {
  readonly child: ChildProcess
  /** Of the processes that have the socket, the one that was started first. */
  readonly pids: readonly number[]
}

async function hold(pod: LabPod, words: readonly string[], who: { uid?: number } = {}): Promise<Holder> {
  const file = join(pod.directory, 'holder.py') // the checkout may be where the uid may not read
  await must(['install', '-m', '644', holder, file])
  const child = pod.spawn(['/usr/bin/python3', '-B', file, ...words], { stdio: ['ignore', 'pipe', 'inherit'], ...who })
  const { value } = await createInterface({ input: child.stdout as NonNullable<typeof child.stdout> })
    [Symbol.asyncIterator]()
    .next()
  assert(value, 'holder.py ended')
  return { child, pids: String(value).split(' ').map(Number), [Symbol.asyncDispose]: () => kill(child) }
}

/** A process in the pod that binds the proxy's port whenever it is asked: "free" or the errno. */
function binder(pod: LabPod): { ask(): Promise<string>; stop(): Promise<void> } {
  const script = `
import errno, socket, sys
for _ in sys.stdin:
    with socket.socket() as sock:
        try:
            sock.bind(('0.0.0.0', ${PORT})) # no listen(), which sock_ops would see
            outcome = 'free'
        except OSError as error:
            outcome = errno.errorcode[error.errno]
    print(outcome, flush=True)`
  const child = pod.spawn(['/usr/bin/python3', '-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout as NonNullable<typeof child.stdout> })[Symbol.asyncIterator]()
  const ask = async () => {
    child.stdin?.write('\n')
    return (await lines.next()).value ?? 'the binder has ended'
  }
  return { ask, stop: () => kill(child) }
}

describe('listeners that user space registers', { timeout: 120_000 }, () => {
  before(async () => {
    lab = await Lab.create('listeners')
    client = await lab.pod('client')
    server = await lab.pod('server')
    datapath = new DatapathUnderTest('listeners')
    const agent = await datapath.start(datapath.config([server]))
    map = agent.datapath.maps.listeners
    const [state] = await native.namespaces.inspect([server.netns])
    assert(state && 'cookie' in state)
    place = { netns: state.cookie, path: server.netns, inode: state.inode, ports: new Set([15001, PORT]) }
  })

  after(async () => {
    await datapath?.[Symbol.asyncDispose]()
    await lab?.close()
  })

  for (const address of ['0.0.0.0', '127.0.0.1', '::'] as const) {
    test(`a proxy on ${address}`, async () => {
      await using _ = await startProxy(server, { address })
      await forget()
      const before = descriptors()
      assert.deepEqual(await register(), { registered: 2, missing: [] })
      assert.equal(descriptors(), before)
      assert.equal(await inbound(), `server:${PORT}`)
    })
  }

  test('what is registered already takes no further slot', async () => {
    await using _ = await startProxy(server)
    assert.equal(await inbound(), `server:${PORT}`, 'sock_ops has registered it')
    const looked = () => Promise.reject(new Error('no process needs to be looked at'))
    assert.deepEqual(await registerListeners(native, map, place, looked), { registered: 0, missing: [] })
    assert.equal(await slotsUsed(), 2)
    await forget()
    await register()
    assert.deepEqual(await register(), { registered: 0, missing: [] })
    assert.equal(await slotsUsed(), 2)
  })

  test('other ports of the pod are left alone', async () => {
    await using _ = await startProxy(server, { ports: [PORT, 15090] })
    await forget()
    assert.deepEqual(await register(), { registered: 1, missing: [] })
    assert.equal(await slotsUsed(), 1)
  })

  test('each member of an SO_REUSEPORT group, so that any may close', async () => {
    const members = []
    for (const name of ['a', 'b', 'c']) members.push(await startProxy(server, { name, ports: [PORT], reuseport: true }))
    try {
      await forget()
      assert.deepEqual(await register(), { registered: 3, missing: [] })
      for (const [index, closing] of members.entries()) {
        const seen = new Set<string | undefined>()
        for (let i = 0; i < 4; i++) seen.add(await inbound())
        const left = ['a', 'b', 'c'].slice(index).map((name) => `${name}:${PORT}`)
        for (const name of seen) assert.ok(left.includes(name ?? ''), `${name} of ${left}`)
        await closing.stop()
      }
      assert.equal(await slotsUsed(), 0)
    } finally {
      for (const member of members) await member.stop()
    }
  })

  test('a proxy that was started as another user', async () => {
    await using _ = await hold(server, ['other', String(PORT)], { uid: 1337 })
    await forget()
    assert.deepEqual(await register(), { registered: 1, missing: [] })
    assert.equal(await inbound(), 'other')
  })

  test('a socket of two processes is registered once and stays as long as one of them lives', async () => {
    await using two = await hold(server, ['two', String(PORT), 'fork'])
    const [parent = 0, forked = 0] = two.pids
    try {
      assert.equal(two.pids.length, 2)
      await forget()
      assert.deepEqual(await register(), { registered: 1, missing: [] })
      assert.match((await inbound()) ?? '', /^two/)
      process.kill(parent, 'SIGKILL')
      await once(two.child, 'exit')
      assert.equal(await inbound(), 'two:child')
    } finally {
      if (forked > 0) process.kill(forked, 'SIGKILL')
    }
    const since = performance.now()
    while ((await slotsUsed()) > 0) {
      assert(performance.now() - since < 5000, 'the child ends, and the entry with it')
      await sleep(5)
    }
  })

  test('a proxy of the node that listens in the pod’s namespace without being in it', async () => {
    await using _ = await hold(lab.node, ['node', String(PORT), 'enter', server.netns])
    await forget()
    assert.deepEqual(await register(), { registered: 1, missing: [] })
    assert.equal(await inbound(), 'node')
  })

  test('a process that is younger than the table of processes', async () => {
    const processes = processesOnce()
    await processes()
    await using _ = await startProxy(server)
    await forget()
    assert.deepEqual(await registerListeners(native, map, place, processes), { registered: 2, missing: [] })
    assert.equal(await inbound(), `server:${PORT}`)
  })

  test('more listeners than slots: the rest is named', async () => {
    await using _ = await startProxy(server, { ports: Array<number>(Limit.SLOTS + 1).fill(PORT), reuseport: true })
    await forget()
    const reason = `all ${Limit.SLOTS} slots of the port are taken`
    assert.deepEqual(await register(), { registered: Limit.SLOTS, missing: [{ address: '0.0.0.0', port: PORT, uid: 1337, reason }] })
    assert.equal(await inbound(), `server:${PORT}`)
  })

  test('a proxy that exits while it is looked at: nothing is kept, and its port is free at once', async () => {
    const port = binder(server)
    const before = descriptors()
    const results: number[] = []
    try {
      assert.equal(await port.ask(), 'free')
      const open = descriptors()
      for (let round = 0; round < ROUNDS; round++) {
        const { child } = await hold(server, ['short', String(PORT)])
        await map.deleteBatch((await map.entries()).map(({ key }) => key))
        assert.equal(await port.ask(), 'EADDRINUSE')
        const [exit, close] = [once(child, 'exit'), once(child, 'close')]
        // Every second round is left to the second search, during which they may exit as well.
        const looking = round % 2 === 0 ? register() : registerListeners(native, map, place, async () => ({ all: [], in: () => [] }))
        const killing = sleep((round * LOOKING) / ROUNDS).then(() => child.kill('SIGKILL'))
        await exit
        let outcome = await port.ask()
        if (outcome !== 'free') await sleep(5) // the thread that has the duplicate may wait for a CPU
        if (outcome !== 'free') outcome = await port.ask()
        assert.equal(outcome, 'free', `round ${round}`)
        const { registered, missing } = await looking
        await killing
        assert.deepEqual(missing, [])
        results.push(registered)
        assert.equal(await slotsUsed(), 0)
        await close
        assert.ok(descriptors() <= open, 'none is left open') // what an earlier process had may go meanwhile
      }
    } finally {
      await port.stop()
    }
    assert.ok(results.includes(0) && results.includes(1), `some exit before they are registered and some after: ${results}`)
    assert.ok(descriptors() <= before)
  })

  test('another namespace under the same path is refused', async () => {
    await using _ = await startProxy(server)
    await forget()
    await assert.rejects(registerListeners(native, map, { ...place, inode: place.inode + 1 }), /is another network namespace now/)
    assert.equal(await slotsUsed(), 0)
  })

  test('without the right to look into processes, the operator is told which one is missing', async () => {
    await using _ = await startProxy(server, { ports: [PORT] })
    await forget()
    const script = `
      import { native } from '${root}/core/native/index.ts'
      import { registerListeners } from '${root}/core/datapath/listeners.ts'
      using map = native.pinnedMap('${join(datapath.pins, 'maps', 'listeners')}')
      const place = { netns: ${place.netns}n, path: '${place.path}', inode: ${place.inode}, ports: new Set([${PORT}]) }
      console.log(JSON.stringify(await registerListeners(native, map, place)))`
    const without = ['setpriv', '--bounding-set=-sys_ptrace', '--inh-caps=-sys_ptrace', process.execPath, '--input-type=module', '-e', script]
    const { registered, missing } = JSON.parse(await must(without)) as Awaited<ReturnType<typeof register>>
    assert.equal(registered, 0)
    assert.deepEqual(
      missing.map(({ port, uid }) => [port, uid]),
      [[PORT, 1337]],
    )
    assert.match(missing[0]?.reason ?? '', /^\d+ processes may not be looked into: .*CAP_SYS_PTRACE$/)
    assert.equal(await inbound(), 'ECONNREFUSED')
  })
})
