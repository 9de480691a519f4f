/** Several meshes on one node, as an operator sees them: connections follow the entry that took the pod, and every command says which one that was. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { stringify } from 'yaml'
import { Agent, until } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { type Listening, startProxy } from '../mesh/sidecar.ts'
import { connectOnce } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { reached } from './fixture.ts'

const byApp = (name: string) => ({ podSelector: { matchLabels: { app: name } } })
const everyPod = {}

describe('several meshes', { timeout: 120_000 }, () => {
  let lab: Lab
  let web: LabPod
  let api: LabPod
  let proxies: Listening[] = []

  before(async () => {
    lab = await Lab.create('meshes')
    web = await lab.pod('web')
    api = await lab.pod('api')
    proxies = [await startProxy(web), await startProxy(api)]
  })
  after(async () => {
    for (const proxy of proxies) await proxy.stop()
    await lab?.close()
  })

  const seen = async (pod: LabPod) => reached(await connectOnce(pod, app, ['10.99.0.1', 8080]))

  test('the first entry that matches takes a pod; pods, status, validate and the log say which', async () => {
    const pods = [web, api].map(({ name, netns }) => ({ name, netns, labels: { app: name } }))
    await using agent = await Agent.start({ pods })
    const single = readFileSync(agent.configFile, 'utf8')
    const write = (...meshes: readonly object[]) => writeFileSync(agent.configFile, single.replace('mesh: istio\n', stringify({ meshes })))
    const taken = async () =>
      (await agent.pods()).map(({ name, mesh, selection }) => [name, mesh, selection?.entry, selection?.why, ...(selection?.also ?? [])])
    assert.deepEqual(await taken(), [
      ['web', 'istio', 'mesh', 'only'],
      ['api', 'istio', 'mesh', 'only'],
    ])

    // The second entry leaves port 8080 alone, so that a connection tells which of the two is in force.
    const excluding = { mesh: 'istio', options: { excludeOutboundPorts: [8080] } }
    write({ mesh: 'istio', match: byApp('web') }, { ...excluding, match: everyPod }, { mesh: 'istio', match: byApp('nobody') })
    await agent.waitFor('both entries are in force', 20_000, ({ config }) => config.meshes.map((mesh) => mesh.pods).join() === '1,1,0')
    assert.deepEqual(await taken(), [
      ['web', 'istio', 'meshes[0]', 'match', 'meshes[1] (istio)'],
      ['api', 'istio', 'meshes[1]', 'match'],
    ])
    assert.deepEqual([await seen(web), (await seen(api)) === 'api:15001'], ['web:15001', false])
    const warning = /meshes\[2\]\.match:? can never take a pod: meshes\[1\] before it takes every pod/
    assert.match((await agent.command(['status'])).stdout, warning)
    assert.match((await agent.status()).config.warnings.join(), /^line \d+: meshes\[2\]\.match/)
    assert.match((await agent.command(['validate', agent.configFile])).stdout, warning)
    await until('the log has it', 2000, async () => (warning.test(await agent.log()) ? true : undefined))
    assert.match(
      (await agent.command(['pods'])).stdout,
      /default\/web +enrolled +istio \(meshes\[0\], match\) .*meshes\[1\] \(istio\) would have taken it, too/,
    )
    assert.match((await agent.command(['pods', 'web'])).stdout, /mesh +istio, by meshes\[0\]: its match\noverlap +meshes\[1\] \(istio\)/)

    write({ ...excluding, match: byApp('api') })
    await agent.waitFor('nobody takes web', 20_000, ({ pods: count }) => count.enrolled === 1 && count.failed === 1)
    const [left] = await agent.pods()
    assert.deepEqual([left?.state, left?.mesh, left?.selection], ['cannot', '', undefined])
    assert.match(
      left?.reason ?? '',
      /^no entry of meshes takes it; meshes\[0\] \(istio\): podSelector wants "app In \[api\]", but the label is "web"$/,
    )
    assert.notEqual(await seen(web), 'web:15001', 'it is not intercepted any more')

    write({ mesh: 'istio', match: byApp('web') }, { mesh: 'istio' })
    // One pod was enrolled before, too: only the entries tell that the new file is in force.
    await agent.waitFor('web is taken again', 20_000, ({ config }) => config.meshes.map((mesh) => mesh.pods).join() === '1,0')
    assert.match((await agent.pods())[1]?.reason ?? '', /meshes\[1\] \(istio\): the plugin istio does not select it/, 'it has no sidecar')
  })
})
