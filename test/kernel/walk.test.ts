/** Acceleration where the iterator over socket storage must not be used: sockets are found by reading the namespace of each pod. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Agent } from '../../core/agent.ts'
import { AccelPlace, AccelReason } from '../../core/contract.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { type KernelFacts, probeKernel } from '../../core/features/probe.ts'
import { objectPath } from '../../core/root.ts'
import { passed, runSelfTest } from '../../core/selftest/selftest.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { btf, without } from '../lab/without.ts'
import { cgroup, DatapathUnderTest, native, kernel as usual } from './fixture.ts'
import { accelerate, type Connection, connection, cookieOf, edge, redirected, untilRedirected, vouch } from './joined.ts'

const kernel = await probeKernel(native, { btf, without: [...without, 'storage_iterator'] })
const reason = 'attach.without in the config'

describe('acceleration without the iterator over socket storage', { timeout: 180_000, skip: usual.skip.get(acceleration.stub) }, () => {
  let lab: Lab
  let pods: readonly [LabPod, LabPod]
  let port = 7300
  before(async () => {
    lab = await Lab.create('walk')
    pods = [await lab.pod('one'), await lab.pod('two')]
  })
  after(() => lab?.close())

  const start = (datapath: DatapathUnderTest, facts: KernelFacts = kernel, mode: object = {}): Promise<Agent> =>
    datapath.start(datapath.config(pods, {}, mode), { kernel: facts })

  const looker = ({ datapath: { layout } }: Agent): string | undefined => {
    const link = native.pinnedLink(layout.acceleration('late'))
    try {
      return native.programById(link.info.programId)?.name
    } finally {
      link.close()
    }
  }

  const joined = async (agent: Agent) =>
    (await agent.datapath.acceleration.pairs()).flatMap(({ ends }) => ends).filter(({ place }) => place === AccelPlace.JOINED).length

  /** By the agent's own looks. */
  async function untilJoined(agent: Agent, count: number, { tell }: Pick<Connection, 'tell'>): Promise<void> {
    const end = performance.now() + 5000
    for (; (await joined(agent)) !== count && performance.now() < end; await sleep(50)) {
      await tell('ping 5')
      await vouch(agent)
    }
    assert.equal(await joined(agent), count)
  }

  const bytesOf = async (agent: Agent, netns: bigint) => {
    const counts = (await agent.datapath.acceleration.counts()).filter((count) => count.netns === netns)
    const fast = counts.find((count) => count.reason === AccelReason.REDIRECTED)
    return {
      all: Number(counts.reduce((sum, { bytes }) => sum + bytes, 0n)),
      messages: Number(fast?.messages ?? 0n),
      bytes: Number(fast?.bytes ?? 0n),
    }
  }

  test('one of the two programs is there, and status tells which', async () => {
    await using datapath = new DatapathUnderTest('walkwhich')
    const agent = await start(datapath)
    assert.equal(agent.datapath.acceleration.unavailable, undefined)
    const programs = agent.datapath.object.programs.filter((name) => name === acceleration.late || name === acceleration.walk)
    assert.deepEqual(programs, [acceleration.walk])
    const shown = new Map([...kernel.features, ...agent.datapath.features].map((feature) => [feature.id, feature]))
    assert.equal(shown.get('storage_iterator')?.state, 'fallback')
    assert.ok(shown.get('storage_iterator')?.detail.includes(reason))
    assert.equal(shown.get('acceleration')?.state, 'yes')
  })

  test('in a pod: it joins by itself, each byte is counted once, and a socket that turns to blocking leaves', async () => {
    await using datapath = new DatapathUnderTest('walkpod')
    const agent = await start(datapath)
    const netns = accelerate(agent, pods[0])
    await using ends = await connection(pods[0], ++port)
    await untilJoined(agent, 2, ends)
    const change = { messages: 0, bytes: 0, all: 0 }
    for (let round = 0; round < 20 && change.messages < 40; round++) {
      await sleep(50) // what went by TCP is acknowledged then, and all is redirected
      const before = await bytesOf(agent, netns)
      assert.equal(await ends.tell('ping 20'), 'ok')
      const after = await bytesOf(agent, netns)
      Object.assign(change, { messages: after.messages - before.messages, bytes: after.bytes - before.bytes, all: after.all - before.all })
    }
    assert.deepEqual(change, { messages: 40, bytes: 160, all: 160 })
    assert.equal(await ends.tell('send 30000'), '30000')
    assert.equal(await ends.tell('block'), 'ok')
    for (let turn = 0; turn < 3; turn++) await agent.datapath.acceleration.joinLate()
    assert.equal(await ends.tell('read'), '30000 right', 'nothing was lost')
    const end = performance.now() + 3000
    for (; (await joined(agent)) > 0 && performance.now() < end; await sleep(100)) await agent.tick(false)
    assert.equal(await joined(agent), 0)
    const left = await bytesOf(agent, netns)
    assert.equal(await ends.tell('ping 20'), 'ok')
    let last = await bytesOf(agent, netns)
    for (let round = 0; round < 20 && last.all - left.all < 160; round++) {
      await sleep(20) // the last message is not acknowledged yet
      last = await bytesOf(agent, netns)
    }
    assert.deepEqual([last.messages - left.messages, last.all - left.all], [0, 160])
  })

  test('between pods; and what happens to one of them is nothing to the others', async () => {
    await using datapath = new DatapathUnderTest('walkpods')
    const gone = await lab.pod('gone')
    const agent = await datapath.start(datapath.config([...pods, gone]), { kernel })
    const [netns] = [...pods, gone].map((pod) => accelerate(agent, pod))
    assert(netns !== undefined)
    await using server = await edge(pods[1], 'serve', '0.0.0.0', 15006)
    await using client = await edge(pods[0], 'connect', pods[1].address, 15006)
    const tell = async () => {
      await Promise.all([client.tell('ping 5'), server.tell('echo 5')])
      return 'ok'
    }
    await untilRedirected(agent, netns, { tell, [Symbol.asyncDispose]: async () => {} })
    assert.equal(await joined(agent), 2)
    await gone.remove()
    await using other = await connection(pods[0], ++port)
    await untilRedirected(agent, netns, other)
    assert.equal(await joined(agent), 4)
  })

  test('sockets of a pod that is not accelerated any more leave and are counted as before', async () => {
    await using datapath = new DatapathUnderTest('walkoff')
    const agent = await start(datapath)
    const netns = cookieOf(agent, pods[0])
    await using ends = await connection(pods[0], ++port)
    await untilRedirected(agent, netns, ends)
    for (const reload of [true, false]) {
      if (reload) await agent.reload(datapath.config(pods, {}, { mode: 'none' }))
      else await agent.tick(true)
      assert.equal(agent.datapath.have.accelerated.size, 0)
      const before = await bytesOf(agent, netns)
      assert.equal(await ends.tell('ping 10'), 'ok')
      assert.equal((await bytesOf(agent, netns)).all - before.all, 80)
      assert.equal(await joined(agent), 2)
    }
    await ends.tell('block')
    for (let turn = 0; turn < 10 && (await joined(agent)) > 0; turn++) await agent.datapath.acceleration.joinLate()
    assert.equal(await joined(agent), 0)
  })

  test('a restart with the other iterator takes over what is joined, both ways', { skip: usual.skip.get(acceleration.late) }, async () => {
    await using datapath = new DatapathUnderTest('walkswap')
    let agent = await start(datapath, usual)
    assert.equal(looker(agent), acceleration.late)
    const netns = cookieOf(agent, pods[0])
    await using kept = await connection(pods[0], ++port)
    await untilRedirected(agent, netns, kept)
    for (const [facts, name] of [
      [kernel, acceleration.walk],
      [usual, acceleration.late],
    ] as const) {
      await agent[Symbol.asyncDispose]()
      agent = await start(datapath, facts)
      assert.equal(looker(agent), name)
      await untilRedirected(agent, netns, kept)
      await using fresh = await connection(pods[0], ++port)
      await untilRedirected(agent, netns, fresh)
    }
    assert.equal(await redirected(agent, netns, AccelReason.FULL), 0)
  })

  test('the self-test passes', async () => {
    const verdict = await runSelfTest({ native, kernel, object: objectPath('merbridge.bpf.o'), cgroup }, new AbortController().signal)
    assert.deepEqual(
      verdict.checks.flatMap(({ problems }) => problems),
      [],
    )
    assert(passed(verdict))
  })
})
