/**
 * Each feature that has a fallback, done without on this kernel: what an app and its proxy see stays the same, but for what the fallback says. What
 * old kernels lack is lacking here in the same way, because the programs and the agent know no other reason than `attach.without`.
 */
import assert from 'node:assert/strict'
import { copyFileSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import type { Agent } from '../../core/agent.ts'
import { attachTypes } from '../../core/datapath/hooks.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { type Forceable, forceable } from '../../core/features/catalogue.ts'
import { type KernelFacts, probeKernel } from '../../core/features/probe.ts'
import { must, run } from '../lab/net.ts'
import { startProxy } from '../mesh/sidecar.ts'
import { connect, connectOnce } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { cgroup, DatapathUnderTest, native, reached, refusalsOf, threePods } from './fixture.ts'

const pods = await threePods('fallbacks')
const { lab, client, server, out } = pods
/** Its proxy begins to listen while the datapath is in place; those of the others did before. */
const late = await lab.pod('late')
after(() => pods.close())

const facts = (without: readonly Forceable[], btf = 'auto'): Promise<KernelFacts> => probeKernel(native, { without, btf })
const features = (kernel: KernelFacts, agent: Agent) => new Map([...kernel.features, ...agent.datapath.features].map((each) => [each.id, each]))

/** What every kernel gives, with and without its fallbacks. */
async function checkInterception(agent: Agent): Promise<void> {
  const step = await out()
  assert.equal(reached(step), 'client:15001')
  assert.ok(typeof step.seen === 'object')
  assert.equal(step.seen.origin['16'], `${server.address}:8080 (16 bytes)`)
  assert.equal(step.seen.peer.replace(/:\d+$/, ''), client.address)
  assert.equal(step.origin?.['16'], `${server.address}:8080 (16 bytes)`)
  assert.equal(reached(await connectOnce(client, proxy, [server.address, 8080])), 'server:15006')
  assert.equal(reached(await connectOnce(lab.node, app, [server.address, 9999])), 'server:15006')
  assert.equal(reached(await connectOnce(client, app, ['127.0.0.1', 8080])), 'client:app')
  assert.deepEqual(await agent.datapath.maps.handovers.entries(), [])

  const lateProxy = await startProxy(late)
  assert.equal(reached(await connectOnce(client, proxy, [late.address, 8080])), 'late:15006')
  await lateProxy.stop()
  assert.equal((await connectOnce(client, proxy, [late.address, 8080])).error, 'ECONNREFUSED')
}

describe('the datapath without', { timeout: 180_000 }, () => {
  for (const without of [
    ...forceable.map((id) => [id]),
    forceable.filter((id) => id !== 'kernel_reads'),
    forceable.filter((id) => id !== 'sockops_netns_cookie'),
  ]) {
    test(without.join(', '), async () => {
      await using datapath = new DatapathUnderTest('fallback')
      const kernel = await facts(without)
      const agent = await datapath.start(datapath.config([client, server, late]), { kernel })
      const shown = features(kernel, agent)
      for (const id of without) assert.equal(shown.get(id)?.state, 'fallback', id)
      await checkInterception(agent)
      const peer = (await out()).peer
      assert.equal(peer, without.includes('getpeername') ? '127.0.0.1:15001' : `${server.address}:8080`)
      await agent[Symbol.asyncDispose]()
      assert.equal(reached(await out()), 'client:15001', 'without the agent, too')
    })
  }

  test('set_retval: a destination without a route and an internal failure keep their errno, others become EPERM', async () => {
    await using datapath = new DatapathUnderTest('errno')
    await using agent = await datapath.start(datapath.config([client]), { kernel: await facts(['set_retval']) })
    await must(client.command(['ip', 'route', 'add', 'blackhole', '10.66.2.0/24']))
    await agent.tick()
    assert.equal((await connectOnce(client, app, ['10.66.2.1', 80])).error, 'EPERM')
    assert.equal((await connectOnce(client, app, ['224.0.0.1', 80])).error, 'ENETUNREACH')
    await must(client.command(['ip', 'route', 'del', 'default']))
    await agent.tick()
    for (const more of [{}, { nonblock: true }, { fastopen: true }, { bind: [client.address, 0] as const }, { device: 'eth0' }])
      assert.equal((await connectOnce(client, app, ['10.99.0.1', 80], more)).error, 'ENETUNREACH', JSON.stringify(more))
    await must(client.command(['ip', 'route', 'add', 'default', 'via', lab.node.address]))
    await agent.tick()

    const entries = await agent.datapath.maps.policies.entries()
    await agent.datapath.maps.policies.deleteBatch(entries.map(({ key }) => key))
    for (const more of [{}, { nonblock: true }, { fastopen: true }, { bind: [client.address, 0] as const }, { bind: ['0.0.0.0', 40_123] as const }])
      assert.equal((await connectOnce(client, app, [server.address, 8080], more)).error, 'ECONNREFUSED', JSON.stringify(more))
    assert.equal((await connectOnce(client, app, [server.address, 8080], { device: 'eth0' })).error, 'EPERM')
    assert.equal((await refusalsOf(agent.datapath)).get('no policy'), 6)
    assert.deepEqual(await agent.datapath.maps.handovers.entries(), [], 'what is refused is not handed over')
  })

  test('set_retval: a socket that was redirected and is refused the next time', async () => {
    await using datapath = new DatapathUnderTest('errno-again')
    await using agent = await datapath.start(datapath.config([client]), { kernel: await facts(['set_retval']) })
    const to = [server.address, 8080] as const
    const [result] = await connect(client, [{ id: 'again', as: app, to: [to, ['224.0.0.1', 80], to] }])
    assert.deepEqual(result?.steps.map(reached), ['client:15001', 'ENETUNREACH', 'client:15001'])
    assert.deepEqual(await agent.datapath.maps.handovers.entries(), [])
  })

  test('nothing: a socket with a source route, which would lead past the proxy, is refused', async () => {
    for (const without of [[], ['set_retval']] as const) {
      await using datapath = new DatapathUnderTest('source-route')
      await using agent = await datapath.start(datapath.config([client]), { kernel: await facts(without) })
      const hop = server.address.split('.').join(', ')
      const script = `
import socket
s = socket.socket()
s.setsockopt(0, 4, bytes([131, 7, 4, ${hop}, 0])) # IP_OPTIONS: loose source route
try: print(s.connect_ex(('${server.address}', 8080)))
except OSError as error: print(error.errno)`
      const { stdout, stderr } = await client.exec(['/usr/bin/python3', '-c', script])
      assert.equal(stdout.trim(), '1', `EPERM ${stderr}`)
      assert.equal((await refusalsOf(agent.datapath)).get('source route'), 1)
      assert.equal(reached(await out()), 'client:15001', 'others are not touched')
    }
  })

  test('kernel_reads: the ids of the process that connects decide, not those of the socket', async () => {
    const made = { creator: proxy }
    const who = async (kernel: KernelFacts) => {
      await using datapath = new DatapathUnderTest('owner')
      await using _agent = await datapath.start(datapath.config([client]), { kernel })
      return reached(await connectOnce(client, { uid: 0, gid: 0 }, [server.address, 8080], made))
    }
    assert.equal(await who(await facts([])), 'server:app', "the proxy's socket passes")
    assert.equal(await who(await facts(['kernel_reads'])), 'client:15001', 'root connects with it')
  })

  test('socket_netns_cookie: the cookie is the one that the kernel tells elsewhere, and nothing stays attached', async () => {
    await using datapath = new DatapathUnderTest('cookies')
    const [known] = await native.namespaces.inspect([client.netns])
    assert.ok(known !== undefined && !(known instanceof Error))
    const attached = () => native.queryCgroup(cgroup, attachTypes.sockCreate, true).map((id) => native.programById(id)?.name)
    const count = async () => (await run(['bpftool', '-j', 'prog', 'show', 'name', 'mb_cookie'])).stdout
    const agent = await datapath.start(datapath.config([client]), { kernel: await facts(['socket_netns_cookie']) })
    assert.deepEqual(
      agent.outcomes.map(({ netns }) => netns),
      [known.cookie],
    )
    assert.match(await count(), /mb_cookie/)
    assert.ok(attached().includes('mb_cookie'), 'it is attached while the agent runs')
    await agent[Symbol.asyncDispose]()
    for (let i = 0; i < 50 && /mb_cookie/.test(await count()); i++) await native.barrier()
    assert.doesNotMatch(await count(), /mb_cookie/)
  })

  test('what a config does without is done without after a restart, and comes back', async () => {
    await using datapath = new DatapathUnderTest('restart')
    const links = () => readdirSync(join(datapath.pins, 'links'))
    const config = datapath.config([client])
    for (const [kernel, peer] of [
      [await facts([]), `${server.address}:8080`],
      [await facts(['getpeername']), '127.0.0.1:15001'],
      [await facts([]), `${server.address}:8080`],
    ] as const) {
      const agent = await datapath.start(config, { kernel })
      assert.equal((await out()).peer, peer)
      assert.equal(links().includes('getpeername4'), peer !== '127.0.0.1:15001')
      await agent[Symbol.asyncDispose]()
    }
  })

  test('BTF from a file', async () => {
    const file = join(lab.directory, 'vmlinux.btf')
    copyFileSync('/sys/kernel/btf/vmlinux', file)
    await chmod(file, 0o644)
    await using datapath = new DatapathUnderTest('btf')
    const kernel = await facts([], file)
    await using agent = await datapath.start(datapath.config([client, server, late]), { kernel })
    await checkInterception(agent)
    assert.deepEqual(features(kernel, agent).get('btf')?.detail, `${file} (attach.btf in the config)`)

    const refusal = async (path: string) => {
      const error: unknown = await facts([], path).catch((reason: unknown) => reason)
      assert.ok(error instanceof MerbridgeError && error.code === 'KERNEL_UNSUPPORTED', String(error))
      return error.message
    }
    await chmod(file, 0o666)
    assert.match(await refusal(file), /can be written by others than root/)
    assert.match(await refusal(`${file}.no`), /is not a file/)
    assert.match(await refusal(lab.directory), /is not a file/)
    assert.match(await refusal('/proc/kmsg'), /is empty/)
    await writeFile(file, 'no BTF')
    await chmod(file, 0o644)
    assert.match(await refusal(file), /holds no BTF/)
    await writeFile(file, readFileSync('/sys/kernel/btf/vmlinux').subarray(0, 100_000))
    assert.match(await refusal(file), /of another kernel/)
    assert.equal(existsSync(`${file}.no`), false)
  })

  test('both ways to know the pod in sock_ops: a clear refusal', async () => {
    const error: unknown = await facts(['kernel_reads', 'sockops_netns_cookie']).catch((reason: unknown) => reason)
    assert.ok(error instanceof MerbridgeError && error.code === 'KERNEL_UNSUPPORTED', String(error))
    assert.match(error.message, /neither the netns cookie/)
    assert.match(error.hint, /attach.without/)
  })
})
