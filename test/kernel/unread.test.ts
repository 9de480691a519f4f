/** What the kernel holds for connections whose readers do not read: at most the budget beside TCP's own buffers, by its own figures. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Agent } from '../../core/agent.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { DatapathUnderTest, kernel } from './fixture.ts'
import { accelerate, type Connection, redirected, unread } from './joined.ts'

interface Memory {
  readonly rmem: number
  readonly rcvbuf: number
  readonly sndbuf: number
  readonly forward: number
  readonly queued: number
}

interface Filled {
  readonly sent: number
  readonly client: Memory
  readonly server: Memory
}

interface Drained {
  readonly read: number
  readonly wrong: string
  readonly longest: number
}

/** Seconds. What the kernel has dropped comes again after the double of the last wait, so it soon is more. */
const stall = 1.5
/** In which the sender's timer runs up. */
const pauseMs = 3000
const KiB = 1024
const MiB = 1024 * KiB
/** Beyond a limit goes what was begun below it: one segment of the sender, and one of the receiver. */
const segment = 128 * KiB
/** What others on this machine may take of the kernel's memory meanwhile. */
const others = 24 * MiB
/** Single bytes are many messages. And small messages fill the buffers that TCP has by itself slowly; so those are small, too. */
const small = 32 * KiB
const cases = [
  { size: 1, budget: 64 * KiB, count: 10, buffers: [small, small] },
  { size: 1, budget: 4 * MiB, count: 10, buffers: [small, 0] },
  { size: 100, budget: 64 * KiB, count: 100, buffers: [small, small] },
  { size: 100, budget: 4 * MiB, count: 20, buffers: [small, 0] },
  { size: 100, budget: 4 * MiB, count: 20, buffers: [small, small] },
  { size: 4 * KiB, budget: 64 * KiB, count: 100, buffers: [small, small] },
  { size: 4 * KiB, budget: 4 * MiB, count: 20, buffers: [0, 0] },
  { size: 64 * KiB, budget: 64 * KiB, count: 100, buffers: [small, 0] },
  { size: 64 * KiB, budget: 4 * MiB, count: 20, buffers: [0, 0] },
] as const

/** What the kernel has in slabs of the kind that messages are made of, in bytes. What messages carry is in pages, which sockets are charged for. */
function slabs(): number {
  const lines = readFileSync('/proc/slabinfo', 'latin1').matchAll(/^kmalloc-\w+ +(\d+) +\d+ +(\d+) /gm)
  return sum([...lines].map(([, objects, size]) => Number(objects) * Number(size)))
}

const sum = (numbers: readonly number[]) => numbers.reduce((all, each) => all + each, 0)
const held = ({ client, server }: Filled) => server.rmem + client.queued + client.forward + server.forward
const mega = (bytes: number) => `${(bytes / MiB).toFixed(2)} MiB`

/** Each connection sends two messages in a round. */
async function untilAllAre(agent: Agent, netns: bigint, ends: Connection, count: number): Promise<void> {
  for (let round = 0, before = 0; round < 60; round++) {
    await agent.tick(false) // looks at the program that reads
    await agent.datapath.acceleration.joinLate()
    await ends.tell('ping')
    const now = await redirected(agent, netns)
    if (now - before >= 2 * count && round > 0) return
    before = now
    await sleep(50)
  }
  const counts = await agent.datapath.acceleration.counts()
  throw new Error(`not every connection was redirected: ${counts.map(({ reason, messages }) => `${reason} ${messages}`).join(', ')}`)
}

describe('kernel memory for readers that do not read', { timeout: 280_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  let lab: Lab
  let pod: LabPod
  let port = 7600

  before(async () => {
    lab = await Lab.create('unread')
    pod = await lab.pod('pod')
  })
  after(() => lab.close())

  test('at most the budget, beside the buffers of TCP, whatever the size of the messages', async (t) => {
    await using datapath = new DatapathUnderTest('unread')
    const agent = await datapath.start(datapath.config([pod]))
    const netns = accelerate(agent, pod, 'all')
    for (const { size, budget, count, buffers } of cases) {
      const title = `${size} bytes, budget ${mega(budget)}`
      agent.datapath.acceleration.setBudget(BigInt(budget))
      await using ends = await unread(pod, ++port, count, buffers)
      await untilAllAre(agent, netns, ends, count)
      const [begun, messages] = [slabs(), await redirected(agent, netns)]
      const filled = JSON.parse(await ends.tell(`fill ${size}`)) as readonly Filled[]
      const grown = slabs() - begun
      assert((await redirected(agent, netns)) - messages >= count, `${title}: messages of each connection were redirected`)
      for (const each of filled) {
        const limits = each.client.sndbuf + each.server.rcvbuf + 2 * segment
        assert(each.sent <= budget + limits, `${title}: ${mega(each.sent)} were taken; the buffers are ${mega(limits)}`)
        assert(held(each) <= budget + limits, `${title}: the sockets have ${mega(held(each))}; the buffers are ${mega(limits)}`)
      }
      assert(grown <= count * budget + others, `${title}: the kernel made ${mega(grown)} of messages for ${count} connections`)
      const [taken, most] = [Math.max(...filled.map(({ sent }) => sent)), Math.max(...filled.map(held))]
      t.diagnostic(`${title}: taken ${mega(taken)}; a connection holds ${mega(most)}, and messages ${mega(grown / count)}`)
      if (size === 100) await sleep(pauseMs)
      const drained = JSON.parse(await ends.tell('drain')) as readonly Drained[]
      assert.deepEqual(
        drained.map(({ read, wrong }) => [read, wrong]),
        filled.map(({ sent }) => [sent, '']),
        `${title}: all of it, and right`,
      )
      const longest = Math.max(...drained.map((each) => each.longest))
      assert(longest < stall, `${title}: a reader that goes on waited ${longest.toFixed(2)} s`)
    }
  })
})
