/** What was sent is counted, to the message and to the byte, whichever way it went, and whether an agent was there or not. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { AccelCount } from '../../core/acceleration/api.ts'
import type { AccelerationView, PodAccelerationView } from '../../core/acceleration/view.ts'
import { AccelReason, AccelStop } from '../../core/contract.ts'
import { readCounts } from '../../core/datapath/accelmaps.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { Agent, until } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { selfTested } from '../lab/verdict.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, kernel } from './fixture.ts'
import { type Connection, connection, cookieOf, exchanging, untilRedirected } from './joined.ts'

type Sum = readonly [messages: number, bytes: number]

describe('counts of messages', { timeout: 120_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  let lab: Lab
  let pod: LabPod
  let port = 7800
  before(async () => {
    lab = await Lab.create('tally')
    pod = await lab.pod('pod')
  })
  after(() => lab?.close())

  const sum = (counts: readonly AccelCount[], only?: AccelReason): Sum => {
    const chosen = counts.filter(({ reason }) => only === undefined || reason === only)
    return [Number(chosen.reduce((all, { messages }) => all + messages, 0n)), Number(chosen.reduce((all, { bytes }) => all + bytes, 0n))]
  }
  const less = ([messages, bytes]: Sum, [before, bytesBefore]: Sum): Sum => [messages - before, bytes - bytesBefore]

  test('after a look while a connection lives, and without one after it has ended', async () => {
    await using datapath = new DatapathUnderTest('tally')
    const agent = await datapath.start(datapath.config([pod], {}, { mode: 'all' }))
    const control = agent.datapath.acceleration
    const talks: Connection[] = []
    for (const as of [undefined, app, app]) {
      const ends = await exchanging(pod, ++port, as)
      talks.push(ends)
      await untilRedirected(agent, cookieOf(agent, pod), ends)
      await ends.tell('ping 20')
    }
    const before = await control.counts()
    for (const [index, { tell }] of talks.entries()) assert.equal(await tell(`exchange ${100 * (index + 1)} 100 300`), 'ok')
    const living = await control.counts()
    assert.deepEqual(less(sum(living), sum(before)), [1200, 240_000])
    assert.deepEqual(less(sum(living, AccelReason.REDIRECTED), sum(before, AccelReason.REDIRECTED)), [1200, 240_000])
    for (const { tell } of talks) {
      assert.equal(await tell('exchange 77 10 20'), 'ok')
      await tell('close')
    }
    const ended = await readCounts(agent.datapath.maps.accel_counters)
    assert.deepEqual(less(sum(ended), sum(living)), [77 * 6, 77 * 90])
    assert.deepEqual(less(sum(await control.counts()), sum(ended)), [0, 0], 'nothing twice')
    for (const ends of talks) await ends[Symbol.asyncDispose]()
  })

  /** What is counted for a joined connection that goes by TCP, because it is switched off, while it does what `work` tells it. */
  async function byTcp(work: (ends: Connection) => Promise<void>): Promise<Sum> {
    await using datapath = new DatapathUnderTest('tally')
    const agent = await datapath.start(datapath.config([pod], {}, { mode: 'all' }))
    const control = agent.datapath.acceleration
    await using ends = await connection(pod, ++port)
    await untilRedirected(agent, cookieOf(agent, pod), ends)
    const before = await control.counts()
    control.stop(AccelStop.OPERATOR)
    await work(ends)
    return less(sum(await control.counts()), sum(before))
  }

  test('of a message that TCP takes in parts, what TCP has taken', async () => {
    const [, bytes] = await byTcp(async ({ tell }) => assert.equal(await tell('both 20000000'), 'ok'))
    assert.equal(bytes, 40_000_000)
  })

  test('of an end that is closed with unread bytes, which sends no FIN', async () => {
    const counted = await byTcp(async ({ tell }) => {
      assert.equal(await tell('ping 10'), 'ok')
      assert.equal(await tell('send 100'), '100')
      assert.equal(await tell('close'), 'ok')
    })
    assert.deepEqual(counted, [21, 10 * 2 * 4 + 100])
  })

  test('also when the agent is killed between', async () => {
    await using agent = await Agent.start({ pods: [{ name: pod.name, netns: pod.netns }], acceleration: { mode: 'all' } })
    await selfTested(agent)
    await using ends = await exchanging(pod, ++port, app)
    await using mortal = await exchanging(pod, ++port, app)
    const talks = [ends, mortal]
    const view = async (): Promise<PodAccelerationView> => {
      const { pods } = await agent.ask<AccelerationView>('/v1/acceleration')
      assert(pods[0])
      return pods[0]
    }
    const all = async (): Promise<Sum> => {
      const { accelerated, tcp } = await view()
      return [accelerated.messages + tcp.messages, accelerated.bytes + tcp.bytes]
    }
    await until('both are accelerated', 10_000, async () => {
      for (const { tell } of talks) await tell('ping 20')
      return (await view()).connections.accelerating === 2 ? true : undefined
    })
    for (const { tell } of talks) await tell('ping 20')
    const before = await all()
    for (const { tell } of talks) await tell('exchange 300 100 300')
    await agent.kill('SIGKILL')
    for (const { tell } of talks) await tell('exchange 300 100 300')
    await mortal.tell('close')
    await agent.run()
    assert.deepEqual(less(await all(), before), [2400, 480_000])
  })
})
