/** Acceleration at its limits: no room for another connection, and sockets that become what a joined one must not be. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { AccelPlace, AccelReason } from '../../core/contract.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { DatapathUnderTest, kernel } from './fixture.ts'
import { accelerate, type Connection, connection, cookieOf, redirected, untilRedirected, vouch } from './joined.ts'

describe('acceleration at its limits', { timeout: 120_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  let lab: Lab
  let pod: LabPod
  let port = 7100
  before(async () => {
    lab = await Lab.create('accellimits')
    pod = await lab.pod('pod')
  })
  after(() => lab?.close())

  /** Nothing is lost, in whatever way it goes. */
  async function carries({ tell }: Connection): Promise<void> {
    assert.equal(await tell('ping 30'), 'ok')
    const sent = await tell('send 60000')
    assert.equal(await tell('read'), `${sent} right`)
    assert.equal(await tell('ping 30'), 'ok')
  }

  for (const map of ['joined', 'pairs'] as const)
    test(`no room in ${map}: what has none stays with TCP, and loses nothing; when there is room again, the next one joins`, async () => {
      await using datapath = new DatapathUnderTest(`full${map}`)
      const entries = map === 'joined' ? 2 : 1
      const agent = await datapath.start(datapath.config([pod]), { maxEntries: { [map]: entries } })
      const netns = accelerate(agent, pod)
      await using first = await connection(pod, ++port)
      await untilRedirected(agent, netns, first, vouch)
      await using second = await connection(pod, ++port)
      const third = await connection(pod, ++port)
      for (let round = 0; round < 4; round++) {
        const before = await redirected(agent, netns)
        await carries(second)
        await carries(third)
        await agent.datapath.acceleration.joinLate()
        assert.equal(await redirected(agent, netns), before, 'there is no room for these')
      }
      await carries(first)
      if (map === 'pairs') {
        const { acceleration: control } = agent.datapath
        const connections = (await control.counts()).find((count) => count.netns === netns && count.reason === AccelReason.FULL)?.connections
        assert.ok((connections ?? 0n) >= 2n, 'those without room are counted')
      }
      await first.tell('close')
      await third.tell('close')
      await third[Symbol.asyncDispose]()
      await using fourth = await connection(pod, ++port)
      await untilRedirected(agent, netns, map === 'pairs' ? fourth : second, vouch)
      await carries(second)
    })

  test('a socket that turns to blocking after it was joined leaves soon, with what waits in its queue', async () => {
    await using datapath = new DatapathUnderTest('turning')
    const config = datapath.config([pod])
    const agent = await datapath.start(config)
    const netns = accelerate(agent, pod)
    assert.equal(netns, cookieOf(agent, pod))
    await using ends = await connection(pod, ++port)
    await untilRedirected(agent, netns, ends, vouch)
    const joined = async () =>
      (await agent.datapath.acceleration.pairs()).flatMap((pair) => pair.ends).filter(({ place }) => place < AccelPlace.LEFT).length
    assert.equal(await joined(), 2)
    const sent = await ends.tell('send 20000')
    assert.equal(await ends.tell('block'), 'ok')
    for (let turn = 0; turn < 3; turn++) await agent.datapath.acceleration.joinLate()
    assert.equal(await joined(), 2, 'what waits in its queue would be lost')
    assert.equal(await ends.tell('read'), `${sent} right`)
    const until = performance.now() + 3000
    for (; (await joined()) === 2 && performance.now() < until; await sleep(200)) await agent.tick(false)
    assert.ok((await joined()) < 2, 'it is plain TCP again')
    const before = await redirected(agent, netns)
    await ends.tell('ping 20')
    assert.equal(await redirected(agent, netns), before)
  })
})
