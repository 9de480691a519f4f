/** The agent is not in the path: killed in the middle of traffic, no connection notices, and the next one adopts what is there. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Agent, until } from '../lab/agent.ts'
import { pinnedObjects } from '../lab/kernel.ts'
import { Lab } from '../lab/net.ts'
import { traffic } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { startProxy } from './sidecar.ts'

test('kill -9 in the middle of traffic, and a restart that adopts', { timeout: 120_000 }, async () => {
  await using lab = await Lab.create('crash')
  const [pod, peer] = [await lab.pod('pod'), await lab.pod('peer')]
  await using proxy = await startProxy(pod)
  await using agent = await Agent.start({ pods: [{ name: 'pod', netns: pod.netns }] })
  const moreConnections = async (count: number) => {
    const wanted = (await proxy.accepted()) + count
    await until(`${count} more connections`, 20_000, async () => ((await proxy.accepted()) >= wanted ? true : undefined))
  }
  const before = { objects: await pinnedObjects(agent.bpffs), generation: (await agent.status()).config.generation }
  assert(before.objects.links.length > 0 && before.objects.maps.length > 0 && before.objects.programs.length > 0)

  const running = [await traffic(pod, app, ['10.96.0.10', 80], 5), await traffic(peer, app, [pod.address, 8080], 5)]
  await moreConnections(100)
  await agent.kill('SIGKILL')
  await moreConnections(200)
  await agent.run()
  await moreConnections(100)
  const reports = await Promise.all(running.map((each) => each.stop()))

  for (const [index, listener] of ['pod:15001', 'pod:15006'].entries()) {
    const report = reports[index]
    assert.deepEqual(report?.problems, {})
    assert.deepEqual(Object.keys(report?.reached ?? {}), [listener])
  }
  assert.deepEqual({ objects: await pinnedObjects(agent.bpffs), generation: (await agent.status()).config.generation }, before)
})
