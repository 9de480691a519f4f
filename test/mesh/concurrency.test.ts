/** Many connections at once, and connections that look alike on the wire: every proxy gets the origins of its own pod and no others. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Agent, until } from '../lab/agent.ts'
import { entriesOf } from '../lab/kernel.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { type Endpoint, flood } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { startApp, startProxy } from './sidecar.ts'

const count = (length: number, of: (index: number) => Endpoint): readonly Endpoint[] => Array.from({ length }, (_, index) => of(index))
const ports = (from: number, length: number) => Array.from({ length }, (_, index) => from + index)

/** Time for the probes to start, then all of them connect at one moment and keep their connections for a while. */
const together = (milliseconds: number) => ({ start: (Date.now() + milliseconds) / 1000, end: (Date.now() + milliseconds + 1_000) / 1000 })

async function handoversAreGone(agent: Agent): Promise<void> {
  await until('handovers is empty', 5_000, async () => ((await entriesOf(agent.bpffs, 'handovers')) === 0 ? true : undefined))
  const reported = (await agent.status()).maps.find((map) => map.name === 'handovers')
  assert.equal(reported?.entries, 0)
}

describe('connections that look alike', { timeout: 120_000 }, () => {
  test('two pods use the same source ports to the same destinations at the same time', async () => {
    await using lab = await Lab.create('alike')
    const pods = [await lab.pod('a'), await lab.pod('b')]
    for (const pod of pods) await startProxy(pod)
    await using agent = await Agent.start({ pods: pods.map(({ name, netns }) => ({ name, netns })) })
    const to = count(100, (index) => ['10.96.0.10', 1000 + index])
    const time = together(1_500)
    const outcomes = await Promise.all(
      pods.map((pod) => flood(pod, { as: app, to, ports: ports(40_000, to.length), expect: [`${pod.name}:15001`], ...time })),
    )
    assert.deepEqual(outcomes, [{ ok: 100 }, { ok: 100 }])
    await handoversAreGone(agent)
  })

  test('two pods of separate networks have the same address, their clients the same address and ports', async () => {
    await using left = await Lab.create('twin-left')
    await using right = await Lab.create('twin-right')
    const sides = await Promise.all(
      [left, right].map(async (lab, side) => {
        const pod = await lab.pod('pod', { address: '10.77.0.20/24' })
        const client = await lab.pod('client', { address: '10.77.0.30/24' })
        await startProxy(pod, { name: `${side}` })
        return { pod, client, side }
      }),
    )
    await using agent = await Agent.start({ pods: sides.map(({ pod, side }) => ({ name: `pod-${side}`, netns: pod.netns })) })
    const time = together(2_000)
    const outcomes = await Promise.all(
      sides.flatMap(({ pod, client, side }) => [
        // The same tuple on the wire (pod:port -> 127.0.0.1:15001), another destination on each side.
        flood(pod, { as: app, to: count(100, (i) => [`10.96.${side}.10`, 1000 + i]), ports: ports(40_000, 100), expect: [`${side}:15001`], ...time }),
        flood(client, { as: app, to: count(100, (i) => ['10.77.0.20', 7000 + i]), ports: ports(40_000, 100), expect: [`${side}:15006`], ...time }),
      ]),
    )
    assert.deepEqual(outcomes, Array(4).fill({ ok: 100 }))
    await handoversAreGone(agent)
  })
})

describe('many connections', { timeout: 120_000 }, () => {
  test('2,000 at once over 20 pods: none wrong, none refused, nothing left', async () => {
    await using lab = await Lab.create('many')
    const pods: LabPod[] = []
    for (let number = 0; number < 20; number++) pods.push(await lab.pod(`p${number}`))
    for (const pod of pods) {
      await startProxy(pod)
      await startApp(pod)
    }
    await using agent = await Agent.start({ pods: pods.map(({ name, netns }) => ({ name, netns })) })
    const time = together(6_000)
    const outcomes = await Promise.all(
      pods.flatMap((pod, number) => {
        const next = pods[(number + 1) % pods.length] ?? pod
        return [
          flood(pod, { as: app, to: count(50, (i) => [`10.96.${number}.${i}`, 80 + i]), expect: [`${pod.name}:15001`], ...time }),
          flood(pod, { as: proxy, to: count(50, (i) => [next.address, 8080 + i]), expect: [`${next.name}:15006`], ...time }),
        ]
      }),
    )
    assert.deepEqual(outcomes, Array(40).fill({ ok: 50 }))
    await handoversAreGone(agent)
    assert.deepEqual((await agent.status()).refusals, [])
  })
})
