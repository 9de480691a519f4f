/** Readers that are told of changes only are told, whichever way bytes come: no byte waits for a reader that does not know of it. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Agent } from '../../core/agent.ts'
import { AccelReason, AccelStop } from '../../core/contract.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { long } from '../lab/long.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { DatapathUnderTest, kernel } from './fixture.ts'
import { accelerate, type Connection, joinedEdges, type Read, redirected } from './joined.ts'

const KiB = 1024
const times = (count: number, ...sizes: readonly number[]): number[] => Array.from({ length: count }, () => sizes).flat()
/** Messages, more than 64 KiB of them may wait. */
const shapes: readonly (readonly [string, readonly number[]])[] = [
  ['small ones', times(60, 100)],
  ['pages', times(40, 4096)],
  ['large ones', times(4, 64 * KiB)],
  ['one that fits, one that does not', [60 * KiB, 60 * KiB]],
  ['all sizes', times(4, 1, 30_000, 100, 20_000, 5000, 17)],
  ['a small one last', [...times(12, 8 * KiB), 1]],
]
/** Seconds: of the reader's longest wait, after the agent's longest pause. */
const soon = 1.9

describe('readers that are told of changes only', { timeout: 240_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  let lab: Lab
  let datapath: DatapathUnderTest
  let agent: Agent
  let pods: readonly LabPod[]
  let netns: bigint
  let port = 7000

  before(async () => {
    lab = await Lab.create('edges')
    pods = [await lab.pod('one'), await lab.pod('two')]
    datapath = new DatapathUnderTest('edges')
    agent = await datapath.start(datapath.config(pods))
    const [first] = pods.map((pod) => accelerate(agent, pod))
    assert(first !== undefined)
    netns = first
  })
  after(async () => {
    await datapath?.[Symbol.asyncDispose]()
    await lab?.close()
  })

  const talk = (between: boolean, work: (client: Connection, server: Connection) => Promise<void>) =>
    joinedEdges(agent, pods as [LabPod, LabPod], { netns, between, port: ++port }, work)

  async function reads(server: Connection, bytes: number, title: string): Promise<Read> {
    const got = JSON.parse(await server.tell(`read ${bytes}`)) as Read
    assert.deepEqual([got.read, got.right], [bytes, true], `${title}: all of it, and right`)
    return got
  }

  for (const between of long ? [false, true] : [false]) {
    const where = between ? 'between pods' : 'in a pod'

    test(`${where}: the way does not change while a pipelined request waits`, () =>
      talk(between, async (client, server) => {
        const before = await redirected(agent, netns)
        assert.equal(await client.tell(`send ${times(40, 100).join(' ')}`), '4000')
        await reads(server, 4000, '40 messages')
        assert.equal((await redirected(agent, netns)) - before, 40)
      }))

    test(`${where}: switching off holds when the reader has what waits`, () =>
      talk(between, async (client, server) => {
        const before = await redirected(agent, netns)
        assert.equal(await client.tell('send 100'), '100')
        agent.datapath.acceleration.stop(AccelStop.OPERATOR)
        try {
          assert.equal(await client.tell('send 100'), '100')
          const got = JSON.parse(await server.tell('read 200')) as Read
          assert.equal(got.read, 200)
          assert.equal((await redirected(agent, netns)) - before, 2)
          assert.equal(await client.tell('send 100'), '100')
          await reads(server, 100, 'after the switch')
          assert.equal((await redirected(agent, netns)) - before, 2)
        } finally {
          agent.datapath.acceleration.resume(AccelStop.OPERATOR)
        }
      }))

    test(`${where}: a reader that stands still while its connection leaves, as a stream, is told of what came by TCP`, () =>
      talk(between, async (client, server) => {
        const bytes = Number(await client.tell(`send ${times(1200, 100).join(' ')}`))
        await sleep(300)
        const { longest } = await reads(server, bytes, 'a stream')
        assert(longest < soon, `${longest} s`)
      }))

    test(`${where}: and as its sender turns to blocking`, () =>
      talk(between, async (client, server) => {
        agent.datapath.acceleration.setBudget(BigInt(64 * KiB))
        try {
          const bytes = Number(await client.tell(`send ${times(60, 4000).join(' ')}`))
          await client.tell('block')
          assert.equal(await client.tell('send 1'), '1')
          await sleep(1500)
          const got = JSON.parse(await server.tell(`read ${bytes + 1}`)) as Read
          assert.equal(got.read, bytes + 1)
          assert(got.longest < soon, `${got.longest} s`)
        } finally {
          agent.datapath.acceleration.setBudget(4_000_000n)
        }
      }))

    for (const [title, sizes] of shapes) {
      test(`${where}: what is beyond the budget is told of again: ${title}`, () =>
        talk(between, async (client, server) => {
          agent.datapath.acceleration.setBudget(BigInt(64 * KiB))
          try {
            const [fast, slow] = [await redirected(agent, netns), await redirected(agent, netns, AccelReason.BUDGET)]
            const bytes = Number(await client.tell(`send ${sizes.join(' ')}`))
            assert.equal(
              bytes,
              sizes.reduce((sum, size) => sum + size, 0),
            )
            await sleep(400)
            assert((await redirected(agent, netns)) > fast, 'some are redirected')
            assert((await redirected(agent, netns, AccelReason.BUDGET)) > slow, 'and some are not')
            const { longest } = await reads(server, bytes, title)
            assert(longest < soon, `${longest} s`)
          } finally {
            agent.datapath.acceleration.setBudget(4_000_000n)
          }
        }))
    }
  }

  test('an agent that starts finds the readers that were behind before', () =>
    talk(false, async (client, server) => {
      agent.datapath.acceleration.setBudget(BigInt(64 * KiB))
      assert.equal(await client.tell('send 61440 61440'), '122880')
      await sleep(400) // the agent has taken the note
      await agent[Symbol.asyncDispose]()
      agent = await datapath.start(datapath.config(pods))
      for (const pod of pods) accelerate(agent, pod)
      agent.datapath.acceleration.setBudget(4_000_000n)
      const { longest } = await reads(server, 122_880, 'after the restart')
      assert(longest < soon, `${longest} s`)
    }))

  test('a socket that turns to blocking leaves, so a signal ends its recv() as over TCP', async () => {
    for (const restart of [0, 1]) {
      await talk(false, async (client, server) => {
        await server.tell('block')
        for (let second = 0; second < 3; second++) {
          await sleep(1000)
          await agent.tick(false)
        }
        const got = server.tell(`recv ${restart}`)
        await sleep(1000)
        await client.tell('send 1')
        assert.equal(await got, restart === 1 ? '\0' : 'EINTR')
      })
    }
  })
})
