/** What goes wrong with one pod stays with that pod: it is named, and the others go on. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { StatusView } from '../../core/views.ts'
import { Agent } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { type Listening, startProxy } from '../mesh/sidecar.ts'
import { connectOnce } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, reached } from './fixture.ts'

describe('the trouble of one pod', { timeout: 180_000 }, () => {
  let lab: Lab
  let pod: LabPod
  let proxies: Listening[] = []

  before(async () => {
    lab = await Lab.create('unharmed')
    pod = await lab.pod('pod')
    proxies = [await startProxy(pod)]
  })
  after(async () => {
    for (const proxy of proxies) await proxy.stop()
    await lab?.close()
  })

  const isRedirected = async (why: string) => assert.equal(reached(await connectOnce(pod, app, ['10.99.0.1', 8080])), 'pod:15001', why)

  test('two paths to one network namespace: the later pod waits and says for whom, the first is enrolled', async () => {
    const second = join(lab.directory, 'second')
    await writeFile(second, '')
    await must(['mount', '--bind', pod.netns, second])
    try {
      const pods = [
        { name: 'pod', netns: pod.netns },
        { name: 'twin', netns: second },
      ]
      await using agent = await Agent.start({ pods }, { wait: 'answering' })
      await agent.waitFor('one is enrolled', 20_000, (status) => status.pods.enrolled === 1)
      const twin = (await agent.pods()).find(({ name }) => name === 'twin')
      assert.equal(twin?.state, 'waiting')
      assert.match(twin?.reason ?? '', /that of pod default\/pod, which is listed first/)
      assert.match((await agent.command(['status'])).stdout, /default\/twin +waiting +its network namespace is that of pod default\/pod/)
      await isRedirected('the first is unharmed')
    } finally {
      await must(['umount', second])
    }
  })

  test('namespaces that vanish and come again while configs are applied', async () => {
    await using datapath = new DatapathUnderTest('vanish')
    const doomed = await Promise.all(['one', 'two', 'three'].map((name) => lab.pod(name)))
    const agent = await datapath.start(datapath.config([pod, ...doomed]))
    let churning = true
    const churn = (async () => {
      for (let round = 0; churning; round++) {
        const each = doomed[round % doomed.length] as LabPod
        const name = each.netns.slice('/run/netns/'.length)
        await must(['ip', 'netns', 'delete', name])
        await sleep(round % 7)
        await must(['ip', 'netns', 'add', name])
      }
    })()
    const failed = new Set<string>()
    try {
      for (let round = 0; round < 80; round++) {
        await agent.reload(datapath.config([pod, ...doomed], { proxyUid: [1337, 2000 + round] }))
        for (const outcome of agent.outcomes) if (outcome.state !== 'enrolled') failed.add(`${outcome.pod.name} ${outcome.state}: ${outcome.reason}`)
        if (round % 10 === 0) await isRedirected(`in round ${round}`)
      }
    } finally {
      churning = false
      await churn
    }
    assert.equal(agent.reloads.refused, 0)
    assert(failed.size > 0, 'some vanished while they were looked at or applied')
    for (const line of failed) assert.match(line, /^(one|two|three) (waiting|failed): .+/, 'only those that vanished')
    await agent.tick()
    await agent.tick()
    assert.deepEqual(
      agent.outcomes.map(({ state, reason }) => `${state} ${reason ?? ''}`.trim()),
      Array(4).fill('enrolled'),
      'in the end all are there',
    )
    await isRedirected('and it still works')
  })

  test('annotations of 256 KiB: a warning or a refusal that names them, within a second, and nobody else notices', async () => {
    await using agent = await Agent.start({ pods: [{ name: 'pod', netns: pod.netns }] })
    const text = readFileSync(agent.configFile, 'utf8')
    const limit = 262_144
    const annotation = 'traffic.sidecar.istio.io/excludeOutboundPorts'
    const big = await lab.pod('big')
    const loads = ({ config }: StatusView) => config.reloads.applied + config.reloads.unchanged + config.reloads.refused
    /** Milliseconds until the agent has noticed and loaded it. */
    const write = async (annotations: Record<string, string>) => {
      const listed = JSON.stringify({ name: 'big', netns: big.netns, annotations })
      const before = loads(await agent.answering())
      const start = performance.now()
      writeFileSync(agent.configFile, text.replace('workloads:\n  static:\n', `workloads:\n  static:\n    - ${listed}\n`))
      const status = await agent.waitFor('it is loaded', 20_000, (now) => loads(now) > before)
      return { status, took: performance.now() - start }
    }

    const junk = await write({ [annotation]: 'x'.repeat(limit - annotation.length) })
    assert.equal(junk.status.config.lastReload.outcome, 'unchanged', 'Istio does not start such a pod, so it is not enrolled')
    const view = (await agent.pods()).find(({ name }) => name === 'big')
    assert.equal(view?.state, 'cannot')
    assert.match(view?.warnings.join() ?? '', /excludeOutboundPorts: expected ports/)
    assert((view?.warnings.join() ?? '').length < 400)
    await isRedirected('beside nonsense')

    const tooMany = Object.fromEntries(Array.from({ length: 2600 }, (_, index) => [`acme.io/${index}`, 'y'.repeat(100)]))
    for (const annotations of [{ [annotation]: '9'.repeat(limit) }, tooMany]) {
      const refused = await write(annotations)
      assert.equal(refused.status.config.lastReload.outcome, 'refused')
      assert.match(refused.status.config.lastReload.reason ?? '', /workloads\.static\[0\]\.annotations: has \d+ bytes in all/)
      assert.equal(refused.status.pods.enrolled, 1, 'what was in force stays')
      await isRedirected('beside a refusal')
    }

    const ports = Array.from({ length: 40_000 }, (_, index) => index + 20_000).join(',')
    const many = await write({ [annotation]: ports.slice(0, limit - annotation.length).replace(/,\d*$/, '') })
    const { outcome, reason = '' } = many.status.config.lastReload
    assert(outcome === 'applied' || /default\/big/.test(reason), `${outcome} ${reason}`)
    await isRedirected('beside forty thousand ports')
    const slowest = Math.max(junk.took, many.took)
    assert(slowest < 5000, `${Math.round(slowest)} ms`) // of a machine that runs other tests as well; alone it takes less than one second, 250 ms of which are the wait for the end of a burst
  })
})
