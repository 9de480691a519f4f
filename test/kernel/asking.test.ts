/** When sockets ask the agent to look at them, and what is known of a program at once on all of its sockets. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { AccelReason } from '../../core/contract.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, kernel } from './fixture.ts'
import { cookieOf, exchanging, redirected, untilRedirected } from './joined.ts'

describe('asking for a look', { timeout: 60_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  let lab: Lab
  let pod: LabPod
  let port = 7700
  before(async () => {
    lab = await Lab.create('asking')
    pod = await lab.pod('pod')
  })
  after(() => lab?.close())

  test('a connection of one exchange asks nobody; the second exchange does, once', async () => {
    await using datapath = new DatapathUnderTest('asking')
    const { acceleration: control } = (await datapath.start(datapath.config([pod]))).datapath
    let asked = 0
    const before = control.onReader
    control.onReader = () => {
      asked++
      before()
    }
    for (let connection = 0; connection < 2; connection++) {
      await using ends = await exchanging(pod, ++port)
      assert.equal(await ends.tell('exchange 1 100 1000'), 'ok')
      if (connection > 0) await ends.tell('close')
      await sleep(50)
      assert.equal(asked, 0, `connection ${connection}`)
    }
    await using ends = await exchanging(pod, ++port)
    await ends.tell('ping 1')
    await sleep(50)
    assert.equal(asked, 0)
    await ends.tell('ping 1')
    await sleep(50)
    assert(asked >= 1 && asked <= 2, `each end asks once at most: ${asked}`)
    const then = asked
    await ends.tell('ping 500')
    await sleep(50)
    assert.equal(asked, then)
  })

  test('it joins soon after it has asked, with no turn of the agent', async () => {
    await using datapath = new DatapathUnderTest('soon')
    const agent = await datapath.start(datapath.config([pod]))
    const netns = cookieOf(agent, pod)
    await using first = await exchanging(pod, ++port)
    await untilRedirected(agent, netns, first) // the program is known
    await using ends = await exchanging(pod, ++port)
    await ends.tell('ping 2')
    await sleep(200)
    const before = await redirected(agent, netns)
    await ends.tell('ping 10')
    assert.equal((await redirected(agent, netns)) - before, 10, 'to the proxy')
  })

  test('a program that was seen splicing once gets nothing more, on no socket, from the next message on', async () => {
    await using datapath = new DatapathUnderTest('seen')
    const agent = await datapath.start(datapath.config([pod], {}, { mode: 'all' }))
    const netns = cookieOf(agent, pod)
    await using first = await exchanging(pod, ++port, app)
    await using second = await exchanging(pod, ++port)
    for (const ends of [first, second]) {
      await untilRedirected(agent, netns, ends)
      await sleep(20) // and the other direction
      await ends.tell('ping 10')
    }
    const before = await redirected(agent, netns)
    for (const ends of [first, second]) await ends.tell('ping 10')
    assert.equal((await redirected(agent, netns)) - before, 40)
    await using third = await exchanging(pod, ++port, app)
    const [fast, refused] = [await redirected(agent, netns), await redirected(agent, netns, AccelReason.SPLICES)]
    for (const ends of [first, second]) assert.equal(await ends.tell('ping 10'), 'ok') // the kernel has a fresh verdict at hand
    await third.tell('splice')
    for (const ends of [first, second]) assert.equal(await ends.tell('ping 10'), 'ok')
    assert.equal((await redirected(agent, netns)) - fast, 40)
    assert.equal((await redirected(agent, netns, AccelReason.SPLICES)) - refused, 40)
  })
})
