/** Connections that gain nothing by acceleration leave it, those that gain stay, and a wider mode gives another chance. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Mode } from '../../core/acceleration/api.ts'
import type { Agent } from '../../core/agent.ts'
import { AccelPlace, AccelReason } from '../../core/contract.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, kernel } from './fixture.ts'
import { type Connection, cookieOf, exchanging, redirected, untilRedirected } from './joined.ts'

const ownBtf = '/sys/kernel/btf/vmlinux'
const MiB = 1 << 20
/** The kernel counts the bytes that wait; else only an empty queue shows that something was read. */
const counts = existsSync(ownBtf) && readFileSync(ownBtf).includes('\0msg_tot_len\0')

describe('connections that gain, and those that do not', { timeout: 120_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  let lab: Lab
  let pod: LabPod
  let datapath: DatapathUnderTest
  let agent: Agent
  let netns: bigint
  let port = 7600
  before(async () => {
    lab = await Lab.create('worth')
    pod = await lab.pod('pod')
    datapath = new DatapathUnderTest('worth')
    agent = await datapath.start(datapath.config([pod]))
    netns = cookieOf(agent, pod)
  })
  after(async () => {
    await datapath?.[Symbol.asyncDispose]()
    await lab?.close()
  })

  const turn = (mode: Mode) => agent.reload(datapath.config([pod], {}, { mode }))
  const places = async () => (await agent.datapath.acceleration.pairs()).flatMap(({ ends }) => ends.map(({ place }) => place))
  const haveLeft = async () => (await places()).every((place) => place === AccelPlace.LEFT)
  const areJoined = async () => (await places()).every((place) => place === AccelPlace.JOINED)

  /** The command is given again until it holds, at most for 10 s. */
  async function until(what: string, { tell }: Connection, command: string, holds: () => Promise<boolean>): Promise<void> {
    for (const end = performance.now() + 10_000; !(await holds()); await sleep(5)) {
      assert(performance.now() < end, `not ${what} after 10 s: ${await places()}`)
      assert.equal(await tell(command), 'ok')
    }
  }

  /** How often an end left while this runs and the agent looks all the time. */
  async function leaves(work: Promise<unknown>): Promise<number> {
    let [count, left, over] = [0, await haveLeft(), false]
    const end = work.finally(() => {
      over = true
    })
    while (!over) {
      await agent.datapath.acceleration.joinLate()
      const now = (await places()).includes(AccelPlace.LEFT)
      if (now && !left) count++
      left = now
      await sleep(2)
    }
    await end
    return count
  }

  /** Joined, in this mode, and some messages were redirected. */
  async function talk(mode: Mode, as: typeof app | undefined, work: (ends: Connection) => Promise<void>): Promise<void> {
    await turn(mode)
    await using ends = await exchanging(pod, ++port, as)
    await untilRedirected(agent, netns, ends)
    await until('joined', ends, 'ping 5', areJoined)
    await work(ends)
    await ends.tell('close')
  }

  test('mode proxies: small requests to a proxy with large answers to an app leave; with a wider mode they come back; and again', () =>
    talk('proxies', undefined, async (ends) => {
      for (let round = 0; round < 2; round++) {
        await until('left', ends, 'exchange 20 100 65536', haveLeft)
        const before = await redirected(agent, netns)
        assert.equal(await leaves(ends.tell('exchange 200 100 65536')), 0)
        assert.equal(await redirected(agent, netns), before, 'it is plain TCP')

        await turn('all')
        await until('joined', ends, 'exchange 20 100 65536', areJoined)
        const again = await redirected(agent, netns)
        assert.equal(await leaves(ends.tell('exchange 200 100 65536')), 0)
        assert((await redirected(agent, netns)) - again >= 400, 'both directions are redirected')
        await turn('proxies')
      }
    }))

  test('mode proxies: exchanges of equal size stay, however many', () =>
    talk('proxies', undefined, async ({ tell }) => {
      const before = await redirected(agent, netns)
      assert.equal(await tell('exchange 2500 8000 8000'), 'ok')
      assert.equal(await areJoined(), true)
      assert((await redirected(agent, netns)) - before >= 2500)
    }))

  for (const [how, command] of [
    ['with Nagle', 'ping 0'],
    ['with TCP_NODELAY', 'nodelay'],
  ] as const)
    test(`mode all: a stream of small writes ${how} leaves, and stays out of it`, () =>
      talk('all', app, async (ends) => {
        assert.equal(await ends.tell(command), 'ok')
        assert.equal(await ends.tell('stream 170 1024'), 'ok')
        await until('left', ends, 'ping 0', haveLeft)
        assert.equal(await leaves(ends.tell('stream 20000 1024')), 0)
        assert.equal(await haveLeft(), true)
      }))

  test('a connection that got another chance by a wider mode, and leaves for another reason, does not come and go', () =>
    talk('proxies', undefined, async (ends) => {
      await until('left', ends, 'exchange 20 100 65536', haveLeft)
      await turn('all')
      await until('joined', ends, 'ping 20', areJoined)
      await until('left', ends, 'stream 100 1024', haveLeft)
      assert.equal(await leaves(ends.tell('stream 20000 1024')), 0)
      assert.equal(await haveLeft(), true)
    }))

  test('mode all: a stream of writes of 64 KiB stays', () =>
    talk('all', app, async ({ tell }) => {
      const [before, slow] = [await redirected(agent, netns), await redirected(agent, netns, AccelReason.ONE_WAY)]
      assert.equal(await tell('stream 300 65536'), 'ok')
      await sleep(100)
      assert.equal(await areJoined(), true)
      assert((await redirected(agent, netns)) - before >= 250)
      assert.equal(await redirected(agent, netns, AccelReason.ONE_WAY), slow)
    }))

  const withSmallBudget = (work: (ends: Connection) => Promise<void>) =>
    talk('all', app, async (ends) => {
      agent.datapath.acceleration.setBudget(BigInt(MiB))
      try {
        await work(ends)
      } finally {
        agent.datapath.acceleration.setBudget(4n * BigInt(MiB))
      }
    })

  test('the budget is for what waits: a reader that is always behind has room', { skip: !counts && 'what waits is not counted by this kernel' }, () =>
    withSmallBudget(async ({ tell }) => {
      const [fast, none] = [await redirected(agent, netns), await redirected(agent, netns, AccelReason.BUDGET)]
      assert.equal(await tell('trail 100000 100 4000'), 'ok')
      assert.deepEqual([(await redirected(agent, netns)) - fast, (await redirected(agent, netns, AccelReason.BUDGET)) - none], [100_000, 0])
      assert.equal(await tell('read'), '4000')
    }),
  )

  test('and one that does not read has none', () =>
    withSmallBudget(async ({ tell }) => {
      const byTcp = async () => (await redirected(agent, netns, AccelReason.BUDGET)) + (await redirected(agent, netns, AccelReason.ONE_WAY))
      const [before, slow] = [await redirected(agent, netns), await byTcp()]
      assert.equal(await tell('unread 500 100'), '500')
      const fit = Math.floor(MiB / (100 + 8192)) // each counts 8 KiB besides its bytes
      assert.deepEqual([(await redirected(agent, netns)) - before, (await byTcp()) - slow], [fit, 500 - fit])
      assert.equal(await tell('read'), '50000')
    }))
})
