/** The plugin of docs/plugins.md, loaded as an operator has it loaded, on the real kernel. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { pluginSource } from '../../core/plugins.ts'
import { type Guide, unpackGuide } from '../contract/guide.ts'
import { Agent } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { type Listening, startApp, startProxy } from '../mesh/sidecar.ts'
import { connectOnce } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { DatapathUnderTest, reached } from './fixture.ts'

describe('a plugin of somebody else', { timeout: 120_000 }, () => {
  let guide: Guide
  let lab: Lab
  let client: LabPod
  let server: LabPod
  const servers: Listening[] = []

  before(async () => {
    guide = unpackGuide()
    lab = await Lab.create('guide')
    client = await lab.pod('client')
    server = await lab.pod('server')
    for (const pod of [client, server]) servers.push(await startProxy(pod, { ports: [9901, 9902] }), await startApp(pod, [8080, 9090]))
  })
  after(async () => {
    for (const each of servers) await each.stop()
    await lab?.close()
    guide?.[Symbol.dispose]()
  })

  test('decides about the connections of its pods, in both directions', async () => {
    const plugin = await pluginSource([guide.directory]).load({ path: join(guide.directory, 'acme.ts') })
    await using datapath = new DatapathUnderTest('guide')
    const options = plugin.options.parse({ proxyUid: proxy.uid })
    const agent = await datapath.start(datapath.withPlugin([client, server], plugin, options))
    assert.deepEqual(
      agent.outcomes.map(({ pod, state }) => [pod.name, state]),
      [
        ['client', 'enrolled'],
        ['server', 'enrolled'],
      ],
    )
    const from = async (pod: LabPod, as: typeof app, to: string) => reached(await connectOnce(pod, as, [to, 8080]))
    assert.equal(await from(client, app, server.address), 'client:9901')
    assert.equal(await from(client, proxy, server.address), 'server:9902')
    assert.equal(await from(client, app, client.address), 'client:app')
    assert.equal(await from(lab.node, app, server.address), 'server:9902')
  })

  test('is loaded anew with each reload; one that is broken or never ends changes nothing', async () => {
    const path = join(guide.directory, 'acme.ts')
    const text = readFileSync(path, 'utf8')
    const containers = [{ name: 'acme-proxy', uid: proxy.uid }]
    const pods = [{ name: 'client', netns: client.netns, containers }]
    await using agent = await Agent.start({ mesh: { path }, pluginDirectory: guide.directory, pods })
    const reached = async () => {
      const step = await connectOnce(client, app, [server.address, 8080])
      return typeof step.seen === 'object' ? step.seen.listener : step.error
    }
    assert.equal(await reached(), 'client:9901')
    let loads = 1
    const reload = async (next: string) => {
      writeFileSync(path, next)
      agent.signal('SIGHUP')
      loads++
      const status = await agent.waitFor(
        'it is loaded',
        20_000,
        ({ config: { reloads } }) => reloads.applied + reloads.unchanged + reloads.refused >= loads,
      )
      return status.config.lastReload
    }
    const passing = text.replace("when: { proto: 'tcp' }, then: 'outbound'", "when: { proto: 'tcp' }, then: 'pass'")
    assert.notEqual(passing, text)
    assert.equal((await reload(passing)).outcome, 'applied')
    assert.equal(await reached(), 'server:app')
    const broken = await reload(`${text}\n)`)
    assert.equal(broken.outcome, 'refused')
    assert.match(broken.reason ?? '', /acme\.ts.*line \d+/)
    assert.equal(await reached(), 'server:app')
    const endless = await reload(text.replace('describe: (pod, options) => {', 'describe: (pod, options) => { for (;;);'))
    assert.equal(endless.outcome, 'refused')
    assert.match(endless.reason ?? '', /describe did not end within 1 s/)
    assert.equal(await reached(), 'server:app')
    assert.equal((await reload(text)).outcome, 'applied')
    assert.equal(await reached(), 'client:9901')
  })
})
