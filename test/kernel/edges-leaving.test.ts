/** Readers that are told of changes only lose sight of nothing while acceleration is taken away: no agent runs then that would have them told again. */
import assert from 'node:assert/strict'
import { existsSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Agent } from '../../core/agent.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { detach, planDetach } from '../../core/detach.ts'
import { long } from '../lab/long.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { DatapathUnderTest, kernel, native } from './fixture.ts'
import { accelerate, type Connection, joinedEdges, type Read, redirected } from './joined.ts'

interface Talk {
  readonly client: Connection
  readonly server: Connection
  readonly agent: Agent
  readonly netns: bigint
  readonly datapath: DatapathUnderTest
  /** Without an agent. Names of pods with sockets that stay, and how long it took in milliseconds. */
  readonly leave: (waitMs: number) => Promise<{ readonly waiting: readonly string[]; readonly took: number }>
}

const KiB = 1024
/** Milliseconds in which detach has said that nobody shall join or begin. */
const begun = 300
/** In which all that was sent by TCP is there, also what Nagle holds back: then nothing happens any more that would tell the reader. */
const arrived = 300

describe('detach, and readers that are told of changes only', { timeout: 240_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  let lab: Lab
  let pods: readonly [LabPod, LabPod]
  let port = 7300

  before(async () => {
    lab = await Lab.create('edgeleave')
    pods = [await lab.pod('one'), await lab.pod('two')]
  })
  after(() => lab?.close())

  /** A server that is busy until it is told to read, and its client, which is joined. */
  async function talk(between: boolean, work: (parts: Talk) => Promise<void>): Promise<void> {
    await using datapath = new DatapathUnderTest('edgeleave')
    const agent = await datapath.start(datapath.config(pods))
    const [netns] = pods.map((pod) => accelerate(agent, pod))
    assert(netns !== undefined)
    const podNames = new Map(pods.map((pod) => [pod.netns, pod.name]))
    const leave = async (waitMs: number) => {
      await agent[Symbol.asyncDispose]()
      const began = performance.now()
      const view = await detach(native, await planDetach(native, { bpffs: datapath.bpffs, mode: 'bypass', podNames, waitMs }))
      return { waiting: view.waiting.map(({ pod }) => pod).sort(), took: performance.now() - began }
    }
    await joinedEdges(agent, pods, { netns, between, port: ++port }, (client, server) => work({ client, server, agent, netns, datapath, leave }))
  }

  async function reads(server: Connection, bytes: number, title: string): Promise<number> {
    await sleep(arrived)
    const { read, right, longest } = JSON.parse(await server.tell(`read ${bytes}`)) as Read
    assert.equal(read, bytes, `${title}: all of it, without another write`)
    return right ? longest : Number.NaN
  }

  for (const between of long ? [false, true] : [true]) {
    const where = between ? 'between pods' : 'in a pod'

    test(`${where}: what is sent while detach waits is read with what waited before`, () =>
      talk(between, async ({ client, server, agent, netns, datapath, leave }) => {
        const before = await redirected(agent, netns)
        await client.tell('send 100')
        assert.equal((await redirected(agent, netns)) - before, 1)
        const leaving = leave(10_000)
        await sleep(begun)
        assert.equal(await client.tell('send 100 5000'), '5100')
        await reads(server, 5200, 'while it waits')
        const { waiting, took } = await leaving
        assert.deepEqual(waiting, [])
        assert(took < 9000, `${took} ms`)
        assert.equal(existsSync(datapath.bpffs), false)
        await client.tell('send 100')
        await reads(server, 100, 'afterwards')
      }))

    test(`${where}: what is sent after detach has given up is read with what waited before, and detaching again ends it`, () =>
      talk(between, async ({ client, server, datapath, leave }) => {
        await client.tell('send 100')
        assert.deepEqual((await leave(200)).waiting, [between ? 'two' : 'one'], 'whose program does not read')
        await client.tell('send 100 100')
        await reads(server, 300, 'after it gave up')
        await client.tell('send 100')
        await reads(server, 100, 'with a reader that is not behind')
        await client.tell('send 100')
        const leaving = leave(5000)
        await sleep(begun)
        await client.tell('send 100')
        await reads(server, 200, 'while it waits again')
        assert.deepEqual((await leaving).waiting, [])
        assert.equal(existsSync(datapath.bpffs), false)
      }))

    test(`${where}: what is beyond the budget is told of again by detach`, () =>
      talk(between, async ({ client, server, agent, leave }) => {
        agent.datapath.acceleration.setBudget(BigInt(64 * KiB))
        const bytes = Number(await client.tell(`send ${60 * KiB} ${60 * KiB}`))
        const leaving = leave(10_000)
        await sleep(begun)
        const longest = await reads(server, bytes, 'beyond the budget')
        assert(longest < 1, `${longest} s`)
        assert.deepEqual((await leaving).waiting, [])
      }))

    test(`${where}: what is beyond the budget is told of again by an agent of another version`, () =>
      talk(between, async ({ client, server, agent, datapath }) => {
        agent.datapath.acceleration.setBudget(BigInt(64 * KiB))
        const bytes = Number(await client.tell(`send ${60 * KiB} ${60 * KiB}`))
        await agent[Symbol.asyncDispose]()
        const old = join(datapath.bpffs, 'v-0000000000000000')
        renameSync(datapath.pins, old)
        const next = await datapath.start(datapath.config(pods))
        await next.removeOthers(datapath.bpffs)
        assert(existsSync(old), 'something is unread')
        await sleep(arrived)
        const read = reads(server, bytes, 'beyond the budget')
        for (let turn = 0; turn < 10; turn++) {
          await next.tick(true)
          await sleep(100)
        }
        await read
        for (let turn = 0; turn < 20 && existsSync(old); turn++) await next.tick(true)
        assert.equal(existsSync(old), false)
      }))

    test(`${where}: a reader that is always a little behind does not keep detach, and gets all of it`, () =>
      talk(between, async ({ client, server, agent, netns, leave }) => {
        const before = await redirected(agent, netns)
        const read = server.tell('follow')
        const sent = client.tell('pour 4')
        await sleep(500)
        assert((await redirected(agent, netns)) - before > 30, 'it goes past TCP')
        const { waiting, took } = await leave(10_000)
        assert.deepEqual(waiting, [])
        assert(took < 3000, `${took} ms`)
        const got = JSON.parse(await read) as Read
        assert.deepEqual([got.read, got.right], [Number(await sent), true])
      }))
  }
})
