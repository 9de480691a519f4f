/** A pod that is enrolled stays so when its plugin fails, or when its mesh refuses what it asks for: otherwise its connections would bypass the mesh. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Agent } from '../../core/agent.ts'
import { kit } from '../../core/kit.ts'
import { explainView } from '../../core/observe/explain.ts'
import { podViews } from '../../core/observe/pods.ts'
import type { AnyPlugin, Interception, Pod } from '../../core/plugin.ts'
import { AskAgain } from '../../core/plugins/again.ts'
import { refusalsWith } from '../kernels/differences.ts'
import { until } from '../lab/agent.ts'
import { must } from '../lab/net.ts'
import { connectOnce } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { cgroup, DatapathUnderTest, kernel, reached, threePods } from './fixture.ts'

describe('a pod without new rules', { timeout: 180_000 }, () => {
  let pods: Awaited<ReturnType<typeof threePods>>
  before(async () => {
    pods = await threePods('keep')
  })
  after(() => pods?.close())

  const rules: Interception = {
    sets: { proxy: { uid: [1337] }, web: { ports: [8080, '9000-9010'] } },
    targets: { out: { port: 15001 } },
    outbound: [
      { name: 'the proxy itself', when: { from: 'proxy' }, then: 'pass' },
      { name: 'to the web', when: { proto: 'tcp', port: 'web' }, then: 'out' },
    ],
    inbound: [],
  }
  const fails = () => {
    throw new Error('no container called acme-proxy')
  }

  /** Answers for the pod `client`; for every other pod the rules. */
  function pluginOf(): { plugin: AnyPlugin; answer: () => unknown } {
    const changeable = {
      answer: (): unknown => rules,
      plugin: {
        api: 1,
        name: 'acme',
        options: kit.z.strictObject({}),
        selects: () => true,
        describe: ({ name }: Pod) => (name === 'client' ? changeable.answer() : rules),
      } as AnyPlugin,
    }
    return changeable
  }

  let octet = 100
  /** Something changes in the pod, and the agent asks the plugin again. */
  async function change(agent: Agent): Promise<void> {
    const address = `10.77.0.${octet++}`
    await must(pods.client.command(['ip', 'address', 'add', `${address}/32`, 'dev', 'eth0']))
    await until(`the agent knows ${address}`, 5000, async () => {
      await agent.tick(false)
      return agent.outcomes.some(({ addresses }) => addresses.includes(address)) ? true : undefined
    })
  }

  const outcomeOf = (agent: Agent) => agent.outcomes.find(({ pod }) => pod.name === 'client')
  const viewOf = async (agent: Agent) => (await podViews(agent)).find(({ name }) => name === 'client')

  test('its plugin fails: it is failed with the reason, its connections stay redirected, and others are enrolled', async () => {
    await using datapath = new DatapathUnderTest('keepfail')
    const mesh = pluginOf()
    const agent = await datapath.start(datapath.withPlugin([pods.client, pods.server], mesh.plugin))
    const before = await viewOf(agent)
    mesh.answer = fails
    await change(agent)
    assert.equal(outcomeOf(agent)?.state, 'failed')
    assert.equal(
      outcomeOf(agent)?.reason,
      'acme: no container called acme-proxy. Correct the plugin acme, or its options, for the pod default/client. The pod keeps the rules of before.',
    )
    assert.equal(reached(await pods.out()), 'client:15001')
    assert.equal(agent.outcomes.find(({ pod }) => pod.name === 'server')?.state, 'enrolled')
    const after = await viewOf(agent)
    assert.equal(after?.policy, before?.policy)
    assert.deepEqual(
      after?.rules.map(({ name }) => name),
      ['the proxy itself', 'to the web'],
    )

    mesh.answer = () => rules
    await change(agent)
    assert.equal(outcomeOf(agent)?.state, 'enrolled')
    assert.equal(outcomeOf(agent)?.reason, undefined)
  })

  test('its plugin does not answer now: it is asked again, although nothing changes', async () => {
    await using datapath = new DatapathUnderTest('keepagain')
    const mesh = pluginOf()
    let asked = 0
    mesh.answer = () => {
      asked++
      throw new AskAgain('describe did not end within 1 s', 200)
    }
    const agent = await datapath.start(datapath.withPlugin([pods.client], mesh.plugin), {}, false)
    assert.equal(outcomeOf(agent)?.state, 'failed')
    await agent.tick(false)
    assert.equal(asked, 1)
    mesh.answer = () => rules
    await until('it is enrolled', 5000, async () => {
      await agent.tick(false)
      return outcomeOf(agent)?.state === 'enrolled' ? true : undefined
    })
    assert.equal(reached(await pods.out()), 'client:15001')
  })

  test('its routes are the present ones all the same', async () => {
    await using datapath = new DatapathUnderTest('keeproutes')
    const mesh = pluginOf()
    const agent = await datapath.start(datapath.withPlugin([pods.client], mesh.plugin))
    mesh.answer = fails
    await change(agent)
    await must(pods.client.command(['ip', 'route', 'add', 'unreachable', '10.99.0.0/16']))
    await until('a destination behind it has its errno', 5000, async () => {
      await agent.tick(false)
      const error = reached(await connectOnce(pods.client, app, ['10.99.0.1', 8080]))
      return error === refusalsWith(kernel.features).errno('EHOSTUNREACH') ? true : undefined
    })
    assert.equal(outcomeOf(agent)?.state, 'failed')
    assert.equal(reached(await pods.out()), 'client:15001')
    await must(pods.client.command(['ip', 'route', 'del', 'unreachable', '10.99.0.0/16']))
  })

  test('its namespace has more routes than its share: it is failed and keeps what it has, and others join and change', async () => {
    await using datapath = new DatapathUnderTest('keepflood')
    const mesh = pluginOf()
    const agent = await datapath.start(datapath.withPlugin([pods.client], mesh.plugin), { maxEntries: { routes: 1600 } })
    const routes = (word: string) =>
      Array.from({ length: 2000 }, (_, index) => `route ${word} 11.0.${index >> 8}.${index & 255}/32 dev lo`).join('\n')
    await must(pods.client.command(['ip', '-batch', '-']), { input: `${routes('add')}\n` })
    await agent.reload(datapath.withPlugin([pods.client, pods.server], mesh.plugin))
    await until('the pod is failed', 5000, async () => {
      await agent.tick(false)
      return outcomeOf(agent)?.state === 'failed' ? true : undefined
    })
    assert.match(outcomeOf(agent)?.reason ?? '', /has 20\d\d routes, and at most 200 are mirrored for a pod; .* The pod keeps the rules of before\.$/)
    assert.equal(reached(await pods.out()), 'client:15001')
    assert.equal(agent.outcomes.find(({ pod }) => pod.name === 'server')?.state, 'enrolled')
    await must(pods.client.command(['ip', '-batch', '-']), { input: `${routes('del')}\n` })
    await until('the pod is enrolled again', 5000, async () => {
      await agent.tick(false)
      return outcomeOf(agent)?.state === 'enrolled' ? true : undefined
    })
  })

  test('its mesh refuses it: it stays enrolled with a warning; a pod that is not enrolled stays out', async () => {
    await using datapath = new DatapathUnderTest('keeprefused')
    const mesh = pluginOf()
    const config = datapath.withPlugin([pods.client], mesh.plugin)
    const agent = await datapath.start(config)
    mesh.answer = () => kit.refused('annotation acme/ports: eighty is no port')
    await agent.reload(datapath.withPlugin([pods.client], mesh.plugin))
    assert.equal(outcomeOf(agent)?.state, 'enrolled')
    assert.deepEqual(outcomeOf(agent)?.warnings, ['annotation acme/ports: eighty is no port; the rules of before stay'])
    assert.equal(reached(await pods.out()), 'client:15001')

    await using other = new DatapathUnderTest('neverin')
    const never = await other.start(other.withPlugin([pods.client], mesh.plugin))
    assert.deepEqual([outcomeOf(never)?.state, outcomeOf(never)?.reason], ['cannot', 'annotation acme/ports: eighty is no port'])
  })

  test('it has gone to another mesh, which refuses it: whose rules it keeps is said, and explain names them as pods does', async () => {
    await using datapath = new DatapathUnderTest('keepother')
    const mesh = pluginOf()
    const agent = await datapath.start(datapath.withPlugin([pods.client], mesh.plugin))
    mesh.answer = () => kit.refused('no')
    const other: AnyPlugin = { ...mesh.plugin, name: 'ember' }
    await agent.reload(datapath.withPlugin([pods.client], other))
    await change(agent) // the second look must not take the new mesh for the one of the rules
    assert.deepEqual(outcomeOf(agent)?.warnings, ['no; the rules of before, those of acme, stay'])
    const view = await viewOf(agent)
    assert.deepEqual([view?.mesh, view?.rules.map(({ name }) => name)], ['ember', ['the proxy itself', 'to the web']])
    const started = { at: '', configPath: '', stateDir: '', cgroup, features: kernel.features }
    const explained = await explainView(agent, started, new URLSearchParams({ pod: 'client', to: '10.99.7.7:8080' }))
    assert.deepEqual([explained.rule?.name, explained.rule?.condition], ['to the web', 'proto tcp, port web (8080, 9000-9010)'])
    assert.deepEqual(
      explained.earlier.map(({ name }) => name),
      ['the proxy itself'],
    )
    assert.doesNotMatch(explained.notes.join(), /not known/)

    await agent.reload(datapath.withPlugin([pods.client], mesh.plugin))
    assert.deepEqual(outcomeOf(agent)?.warnings, ['no; the rules of before stay'])
  })

  test('its plugin cannot any more: it stays enrolled with a warning until it leaves the config; a pod that is not enrolled stays out', async () => {
    await using datapath = new DatapathUnderTest('keepcannot')
    const mesh = pluginOf()
    const config = datapath.withPlugin([pods.client], mesh.plugin)
    const agent = await datapath.start(config)
    const before = await viewOf(agent)
    mesh.answer = () => kit.cannot('gVisor')
    await agent.reload(datapath.withPlugin([pods.client], mesh.plugin))
    assert.equal(outcomeOf(agent)?.state, 'enrolled')
    assert.deepEqual(outcomeOf(agent)?.warnings, [
      'gVisor; the rules of before stay: a mesh reads this when a pod starts; to end its interception, start the pod again, or take it out of the configuration',
    ])
    assert.equal((await viewOf(agent))?.policy, before?.policy)
    const query = new URLSearchParams({ pod: 'client', to: `${pods.server.address}:8080` })
    const explained = await explainView(agent, { at: '', configPath: '', stateDir: '', cgroup, features: kernel.features }, query)
    assert.match(explained.notes.join(), /gVisor; the rules of before stay/)
    assert.equal(reached(await pods.out()), 'client:15001')

    await agent.reload(datapath.withPlugin([], mesh.plugin))
    assert.equal(reached(await pods.out()), 'server:app', 'it left the config')
    await agent.reload(datapath.withPlugin([pods.client], mesh.plugin))
    assert.deepEqual([outcomeOf(agent)?.state, outcomeOf(agent)?.reason], ['cannot', 'gVisor'])
    assert.equal(reached(await pods.out()), 'server:app')
  })

  test('a restart of the agent changes nothing of it', async () => {
    await using datapath = new DatapathUnderTest('keeprestart')
    const mesh = pluginOf()
    const config = datapath.withPlugin([pods.client], mesh.plugin)
    const first = await datapath.start(config)
    const before = await viewOf(first)
    await first[Symbol.asyncDispose]()

    mesh.answer = () => kit.refused('it asks for too much')
    const second = await datapath.start(config)
    assert.equal(outcomeOf(second)?.state, 'enrolled')
    assert.equal(reached(await pods.out()), 'client:15001')
    const view = await viewOf(second)
    assert.equal(view?.policy, before?.policy)
    assert.deepEqual(
      view?.rules.map(({ name, condition, then }) => `${name}: ${condition} -> ${then}`),
      ['rule 0 of before: set 0 -> pass', 'rule 1 of before: tcp, set 1 -> 127.0.0.1:15001 or [::1]:15001'],
    )
    await second[Symbol.asyncDispose]()

    mesh.answer = fails
    await assert.rejects(datapath.start(config), { code: 'PLUGIN_FAILED' }, 'a new config with a pod that fails is refused')
    assert.equal(reached(await pods.out()), 'client:15001')
    const third = await datapath.start(config, {}, false)
    assert.equal(outcomeOf(third)?.state, 'failed', 'a config that was accepted before is not')
    assert.equal(reached(await pods.out()), 'client:15001')
  })
})
