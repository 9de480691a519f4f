/** The proxy is not there, goes, comes back, or listens in an unusual way: traffic waits for no agent, and never gets past the proxy. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Agent } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { connectOnce, type Endpoint, flood, type Step } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { type Listening, startApp, startProxy } from './sidecar.ts'

const reached = (step: Step) => (typeof step.seen === 'object' ? step.seen.listener : (step.seen ?? step.error))

describe('the proxy comes and goes', { timeout: 120_000 }, () => {
  let lab: Lab
  let pod: LabPod
  let peer: LabPod
  let agent: Agent
  let appServer: Listening
  let peerServer: Listening

  before(async () => {
    lab = await Lab.create('proxy')
    pod = await lab.pod('pod')
    peer = await lab.pod('peer')
    appServer = await startApp(pod)
    peerServer = await startApp(peer)
    agent = await Agent.start({ pods: [{ name: 'pod', netns: pod.netns }] })
  })

  after(async () => {
    await agent?.close()
    for (const server of [appServer, peerServer]) await server?.stop()
    await lab?.close()
  })

  const out = () => connectOnce(pod, app, [peer.address, 8080])
  const back = () => connectOnce(pod, proxy, [pod.address, 8080])
  const into = () => connectOnce(peer, app, [pod.address, 8080])

  async function refusedEverywhere(): Promise<void> {
    const seen = [await appServer.accepted(), await peerServer.accepted()]
    for (const attempt of [out, back, into]) assert.equal((await attempt()).error, 'ECONNREFUSED')
    assert.deepEqual([await appServer.accepted(), await peerServer.accepted()], seen, 'nothing got past the proxy')
  }

  async function servedEverywhere(name: string): Promise<void> {
    assert.equal(reached(await out()), `${name}:15001`)
    assert.equal(reached(await back()), `${name}:15006`)
    assert.equal(reached(await into()), `${name}:15006`)
  }

  /** 100 connections to the pod; how many each of the two listeners accepted. */
  async function share(one: Listening, two: Listening): Promise<readonly number[]> {
    const before = [await one.accepted(), await two.accepted()]
    const to: Endpoint[] = Array.from({ length: 100 }, () => [pod.address, 8080])
    assert.deepEqual(await flood(peer, { as: app, to, expect: ['one:15006', 'two:15006'], start: 0, end: 0 }), { ok: 100 })
    return [(await one.accepted()) - (before[0] ?? 0), (await two.accepted()) - (before[1] ?? 0)]
  }

  test('refused while nobody listens at the proxy’s ports', refusedEverywhere)

  test('served as soon as it listens, refused when it is killed, served when it is back', async () => {
    for (const name of ['first', 'second']) {
      const server = await startProxy(pod, { name })
      await servedEverywhere(name)
      await server.stop()
      await refusedEverywhere()
    }
  })

  test('the same without an agent', async () => {
    await agent.kill('SIGKILL')
    await using server = await startProxy(pod, { name: 'alone' })
    await servedEverywhere('alone')
    await server.stop()
    await refusedEverywhere()
    await agent.run()
  })

  test('a listener on loopback only serves what is sent to it from outside', async () => {
    await using _server = await startProxy(pod, { name: 'local', address: '127.0.0.1' })
    await servedEverywhere('local')
  })

  test('two listeners share a port, and either may go', async () => {
    for (const leaver of ['one', 'two'] as const) {
      const one = await startProxy(pod, { name: 'one', reuseport: true })
      const two = await startProxy(pod, { name: 'two', reuseport: true })
      const [first = 0, second = 0] = await share(one, two)
      assert(first > 0 && second > 0 && first + second === 100, `shared ${first} to ${second}`)
      const [gone, left] = leaver === 'one' ? [one, two] : [two, one]
      await gone.stop()
      const to: Endpoint[] = Array.from({ length: 100 }, () => [pod.address, 8080])
      const expect = [leaver === 'one' ? 'two:15006' : 'one:15006']
      assert.deepEqual(await flood(peer, { as: app, to, expect, start: 0, end: 0 }), { ok: 100 })
      await using again = await startProxy(pod, { name: 'one', reuseport: true })
      assert.deepEqual(await flood(peer, { as: app, to, expect: [...expect, 'one:15006'], start: 0, end: 0 }), { ok: 100 })
      await left.stop()
      assert.deepEqual(await flood(peer, { as: app, to, expect: ['one:15006'], start: 0, end: 0 }), { ok: 100 })
      await again.stop()
    }
  })

  test('a proxy that listened before its pod was enrolled is found', async () => {
    const early = await lab.pod('early')
    await using server = await startProxy(early, { name: 'early' })
    await agent.write({ pods: [pod, early].map(({ name, netns }) => ({ name, netns })) })
    await agent.enrolled()
    assert.equal(reached(await connectOnce(peer, app, [early.address, 8080])), 'early:15006')
    assert.equal(await server.accepted(), 1)
  })
})
