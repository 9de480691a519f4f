/** The plugin of docs/plugins.md, loaded as an operator has it loaded, on the real kernel. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { pluginSource } from '../../core/plugins.ts'
import { type Guide, unpackGuide } from '../contract/guide.ts'
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
})
