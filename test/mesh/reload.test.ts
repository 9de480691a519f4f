/** A change of the policy of 250 pods under traffic: each connection sees the old policy or the new one, never something between. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Agent, until } from '../lab/agent.ts'
import { own, release } from '../lab/cleanup.ts'
import { LabPod, must, run } from '../lab/net.ts'
import { connectOnce, traffic } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { type Listening, startProxy } from './sidecar.ts'

const pods = 250

function lightPod(name: string, index: number, directory: string): LabPod {
  const place = { name, netns: `/run/netns/${name}`, address: `10.78.0.${index + 1}`, directory, cgroup: undefined }
  return new LabPod(place, async () => {})
}

/** Namespaces with nothing but loopback, an address, and a route that leads everywhere. */
async function lightPods(): Promise<AsyncDisposable & { readonly pods: readonly LabPod[] }> {
  const directory = await mkdtemp(join(tmpdir(), 'merbridge-reload-'))
  const names = Array.from({ length: pods }, (_, index) => `reload-${process.pid}-${index}`)
  const made = names.map((name, index) => lightPod(name, index, directory))
  const whole = {
    pods: made,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(made.map((pod) => pod.killAll()))
      await run(['ip', '-force', '-batch', '-'], { input: names.map((name) => `netns delete ${name}\n`).join('') })
      await rm(directory, { recursive: true, force: true })
      release(whole)
    },
  }
  own(whole)
  await must(['ip', '-batch', '-'], { input: names.map((name) => `netns add ${name}\n`).join('') })
  for (const pod of made) {
    const commands = ['link set lo up', `address add ${pod.address}/32 dev lo`, 'route add default dev lo']
    await must(pod.command(['ip', '-batch', '-']), { input: commands.join('\n') })
  }
  return whole
}

test(`a reload that changes the policy of ${pods} pods while connections are made`, { timeout: 180_000 }, async () => {
  await using light = await lightPods()
  const busy = [0, 80, 160, 249].flatMap((index) => light.pods[index] ?? [])
  const proxies: Listening[] = []
  for (const pod of busy) proxies.push(await startProxy(pod, { ports: [15001, 15101] }))
  const config = (proxyPort: number) => ({ pods: light.pods.map(({ name, netns }) => ({ name, netns })), options: { proxyPort } })
  await using agent = await Agent.start(config(15001))
  const { generation } = (await agent.status()).config
  const accepted = async () => (await Promise.all(proxies.map((each) => each.accepted()))).reduce((sum, each) => sum + each, 0)
  const moreConnections = async (count: number) => {
    const wanted = (await accepted()) + count
    await until(`${count} more connections`, 20_000, async () => ((await accepted()) >= wanted ? true : undefined))
  }

  const running = await Promise.all(busy.map((pod) => traffic(pod, app, ['10.96.0.10', 80], 3)))
  await moreConnections(200)
  await agent.write(config(15101))
  const status = await agent.waitFor('the reload is in force', 20_000, (each) => each.config.generation > generation)
  assert.equal(status.config.generation, generation + 1)
  assert.equal(status.config.lastReload.outcome, 'applied')
  assert.equal(status.pods.enrolled, pods)
  for (const pod of busy) {
    const { seen } = await connectOnce(pod, app, ['10.96.0.10', 80])
    assert.equal(typeof seen === 'object' && seen.listener, `${pod.name}:15101`)
  }
  await moreConnections(100)

  for (const [index, each] of running.entries()) {
    const report = await each.stop()
    const name = busy[index]?.name
    assert.deepEqual(report.problems, {})
    assert.deepEqual(Object.keys(report.reached).toSorted(), [`${name}:15001`, `${name}:15101`])
  }
})
