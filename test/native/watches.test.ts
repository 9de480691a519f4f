import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { native } from '../../core/native/index.ts'
import { leavesNoDescriptors, nativeError, netns } from './fixtures.ts'

const { watch } = native.namespaces
const index = new URL('../../core/native/index.ts', import.meta.url).href

const pod = netns('w')
const other = netns('v')

before(async () => {
  for (const command of ['link add eth0 type veth peer name peer0', 'link set peer0 up', 'link set eth0 up', 'addr add 10.9.0.2/24 dev eth0'])
    pod.run('ip', ...command.split(' '))
  const first = await watch(pod.path, () => {}) // the thread that waits keeps descriptors of its own
  first.close()
  await quiet(pod.path)
})

/** Duplicate address detection and the like come to an end. */
async function quiet(path: string): Promise<void> {
  let last = performance.now()
  using _watch = await watch(path, () => {
    last = performance.now()
  })
  for (let wait = 0; wait < 100 && performance.now() - last < 1500; wait++) await sleep(50)
}

/** How often a watch called back, and a wait until it has done so more often. */
class Calls {
  count = 0
  readonly add = (): void => {
    this.count++
  }
  async more(than: number): Promise<void> {
    for (let wait = 0; wait < 200 && this.count <= than; wait++) await sleep(5)
    assert(this.count > than, `${this.count} calls`)
  }
}

describe('a watch of a namespace', () => {
  leavesNoDescriptors()

  it('calls back when an address, a route, a rule or a link changes, and not for another namespace', async () => {
    const [calls, elsewhere] = [new Calls(), new Calls()]
    using watched = await watch(pod.path, calls.add)
    using _other = await watch(other.path, elsewhere.add)
    assert(watched.fd > 2)
    for (const command of [
      'addr add 10.9.0.3/24 dev eth0',
      'addr del 10.9.0.3/24 dev eth0',
      'addr add fd09::3/64 dev eth0 nodad',
      'route add unreachable 10.66.0.0/16',
      'route del unreachable 10.66.0.0/16',
      '-6 route add unreachable fd66::/32',
      'rule add pref 100 lookup 100',
      'rule del pref 100',
      '-6 rule add pref 100 lookup 100',
      '-6 rule del pref 100',
      'link set eth0 down',
      'link set eth0 up',
    ]) {
      await sleep(20)
      const before = calls.count
      pod.run('ip', ...command.split(' '))
      await calls.more(before)
    }
    assert.equal(elsewhere.count, 0)
  })

  it('calls nothing after close, not even what is on its way', async () => {
    const calls = new Calls()
    const watched = await watch(pod.path, calls.add)
    pod.run('ip', 'addr', 'add', '10.9.0.4/24', 'dev', 'eth0')
    // The command was waited for without the event loop: the call is waiting in the queue now.
    watched.close()
    watched.close()
    assert.equal(watched.closed, true)
    assert.throws(() => watched.fd, nativeError('EBADF'))
    pod.run('ip', 'addr', 'add', '10.9.0.5/24', 'dev', 'eth0')
    await sleep(50)
    assert.equal(calls.count, 0)
  })

  it('may be closed by its own callback', async () => {
    const calls = new Calls()
    const watched = await watch(pod.path, () => {
      calls.add()
      watched.close()
    })
    pod.run('ip', 'addr', 'add', '10.9.0.6/24', 'dev', 'eth0')
    await calls.more(0)
    pod.run('ip', 'addr', 'add', '10.9.0.7/24', 'dev', 'eth0')
    await sleep(50)
    assert.equal(calls.count, 1)
  })

  it('calls back few times for a burst, also one that its socket cannot hold, and goes on after it', async () => {
    const calls = new Calls()
    using _watch = await watch(pod.path, calls.add)
    const routes = Array.from({ length: 3000 }, (_, route) => `route add unreachable 10.100.${route >> 8}.${route & 255}/32`)
    execFileSync('nsenter', [`--net=${pod.path}`, 'ip', '-batch', '-'], { input: routes.join('\n') })
    await calls.more(0)
    await sleep(100)
    assert(calls.count <= 3, `${calls.count} calls for 3000 routes, while the event loop was held`)
    const before = calls.count
    pod.run('ip', 'route', 'del', 'unreachable', '10.100.0.1/32')
    await calls.more(before)
  })

  it('keeps the namespace alive until it is closed', async () => {
    const name = `mbn${process.pid}short`
    execFileSync('ip', ['netns', 'add', name])
    execFileSync('ip', ['link', 'add', `mb${process.pid}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name])
    const peer = () => {
      try {
        return execFileSync('ip', ['-o', 'link', 'show', `mb${process.pid}`], { stdio: 'pipe' }).length > 0
      } catch {
        return false
      }
    }
    const watched = await watch(`/run/netns/${name}`, () => {})
    execFileSync('ip', ['netns', 'del', name])
    await sleep(200)
    assert.equal(peer(), true)
    watched.close()
    for (let wait = 0; wait < 100 && peer(); wait++) await sleep(50)
    assert.equal(peer(), false)
  })

  it('names the path that cannot be watched', async () => {
    await assert.rejects(
      watch('/run/netns/nowhere', () => {}),
      nativeError('ENOENT', /nowhere/),
    )
    await assert.rejects(
      watch('/proc/self/ns/mnt', () => {}),
      nativeError('EINVAL', /not a network namespace/),
    )
    await assert.rejects(watch(pod.path, undefined as unknown as () => void), TypeError)
  })

  it('does not keep the process alive, open or closed', () => {
    const script = (end: string) => `import { native } from '${index}'
      globalThis.watched = await native.namespaces.watch('${pod.path}', () => {})\n${end}`
    for (const end of ['', 'watched.close()', 'process.exit(0)'])
      execFileSync(process.execPath, ['--input-type=module', '-e', script(end)], { timeout: 20_000 })
  })

  it('ends with its worker thread, in the middle of a burst', async () => {
    const script = `import('${index}').then(async ({ native }) => {
      globalThis.watches = []
      for (let i = 0; i < 20; i++) watches.push(await native.namespaces.watch('${pod.path}', () => {}))
      require('node:worker_threads').parentPort.postMessage('watching')
      for (;;) watches.push(await native.namespaces.watch('${pod.path}', () => watches.shift().close()))
    })`
    const toggled = Array.from({ length: 200 }, () => ['route add unreachable 10.99.9.9/32', 'route del unreachable 10.99.9.9/32']).flat()
    for (let round = 0; round < 4; round++) {
      const worker = new Worker(script, { eval: true })
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
      execFileSync('nsenter', [`--net=${pod.path}`, 'ip', '-batch', '-'], { input: toggled.join('\n') })
      await sleep(round * 5)
      await worker.terminate()
    }
  })
})

describe('inodes of namespaces', () => {
  leavesNoDescriptors()

  it('are those of inspect(), and undefined for what is none', async () => {
    const paths = [pod.path, '/run/netns/nowhere', other.path, '/etc/hostname', '/proc/self/ns/net']
    const inodes = await native.namespaces.inodes(paths)
    const states = await native.namespaces.inspect(paths)
    assert.deepEqual(
      inodes,
      states.map((state) => ('inode' in state ? state.inode : undefined)),
    )
    assert.deepEqual(
      inodes.map((inode) => inode === undefined),
      [false, true, false, true, false],
    )
  })
})
