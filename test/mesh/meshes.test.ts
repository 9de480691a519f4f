/** Five meshes on one node: each pod is under its own rules, chosen by what the meshes write into pods, and a change of one mesh is none of the others. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { Agent, until } from '../lab/agent.ts'
import { pinnedObjects, relatedObjects, remaining } from '../lab/kernel.ts'
import type { LabPod } from '../lab/net.ts'
import { ask, type Case, connect, type Endpoint, type Step, traffic } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { APP_PORT, createNode, type Mesh, meshes, type Node, proxyPorts, skipped, skippedInbound } from './five.ts'

let node: Node
let agent: Agent

const podOf = ({ name }: Pick<Mesh, 'name'>): LabPod => {
  const pod = node.pods.get(name)
  assert.ok(pod)
  return pod
}

/** `options` of single meshes; the others have none. */
function config(options: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {}) {
  const pods = meshes.map((mesh) => ({ name: mesh.name, netns: podOf(mesh).netns, ...mesh.pod }))
  return { meshes: meshes.map(({ name }) => ({ mesh: name, ...(options[name] && { options: options[name] }) })), pods }
}

/** "who accepted" of a call that passed, "who accepted, asked for address:port" of one that was redirected. */
function outcome({ seen, error }: Step): string {
  if (typeof seen !== 'object') return seen ?? error ?? 'nothing'
  const origin = seen.origin[seen.local.startsWith('[') ? 'v6 28' : '16'] ?? ''
  return /:(outbound|inbound)$/.test(seen.listener) ? `${seen.listener}, asked for ${origin.replace(/ .*/, '')}` : seen.listener
}

/** What the calls of one pod come to, by their names. */
async function outcomes(pod: LabPod, cases: readonly Case[]): Promise<Record<string, string>> {
  const results = await connect(pod, cases)
  return Object.fromEntries(results.map(({ id, steps: [step] }) => [id, step === undefined ? 'no result' : outcome(step)]))
}

const asProxy = ({ proxy, mark }: Mesh) => ({ as: proxy, ...(mark === undefined ? {} : { mark }) })

/** What a mesh's app and proxy call, and what is to come of it. */
function outboundCases(mesh: Mesh): readonly { readonly each: Case; readonly expected: string }[] {
  const own = podOf(mesh).address
  const outside = node.outside.address
  const toProxy = (port: number) => `${mesh.name}:outbound, asked for ${outside}:${port}`
  const byApp = (id: string, to: Endpoint, expected: string) => ({ each: { id, as: app, to: [to] }, expected })
  const byProxy = (id: string, to: Endpoint, expected: string) => ({ each: { id, ...asProxy(mesh), to: [to] }, expected })
  return [
    byApp('app outside', [outside, APP_PORT], toProxy(APP_PORT)),
    ...proxyPorts.map((port) => byApp(`app outside to ${port}`, [outside, port], toProxy(port))),
    ...skipped.map((port) => byApp(`app outside to ${port}`, [outside, port], port === mesh.skipped ? 'outside' : toProxy(port))),
    byApp(
      'app outside over IPv6',
      [node.outside.ipv6, APP_PORT],
      mesh.ipv6 ? `${mesh.name}:outbound, asked for [${node.outside.ipv6}]:${APP_PORT}` : 'outside',
    ),
    byApp("app to the pod's address", [own, APP_PORT], `${mesh.name}:app`),
    byApp('app to loopback', ['127.0.0.1', APP_PORT], `${mesh.name}:app`),
    byProxy('proxy outside', [outside, APP_PORT], 'outside'),
    byProxy(
      "proxy to the pod's address",
      [own, APP_PORT],
      mesh.callsItself === 'app' ? `${mesh.name}:app` : `${mesh.name}:inbound, asked for ${own}:${APP_PORT}`,
    ),
    byProxy('proxy to loopback', ['127.0.0.1', APP_PORT], `${mesh.name}:app`),
  ]
}

/** What the proxy of `from` reaches in the pods of all other meshes. */
function crossCases(from: Mesh): readonly { readonly each: Case; readonly expected: string }[] {
  return meshes
    .filter((mesh) => mesh !== from)
    .flatMap((mesh) =>
      [APP_PORT, ...proxyPorts, ...skippedInbound].map((port) => ({
        each: { id: `to ${mesh.name}:${port}`, ...asProxy(from), to: [[podOf(mesh).address, port]] as const },
        expected: port === mesh.skippedInbound ? `${mesh.name}:app` : `${mesh.name}:inbound, asked for ${podOf(mesh).address}:${port}`,
      })),
    )
}

async function check(mesh: Mesh, cases: readonly { readonly each: Case; readonly expected: string }[]): Promise<void> {
  const expected = Object.fromEntries(cases.map(({ each, expected }) => [each.id, expected]))
  const found = await outcomes(
    podOf(mesh),
    cases.map(({ each }) => each),
  )
  assert.deepEqual(found, expected, mesh.name)
}

const inForce = async () => {
  const kernel = await pinnedObjects(agent.bpffs)
  const pods = (await agent.pods()).map(({ name, policy, rules, listeners, loopback }) => ({
    name,
    policy,
    listeners,
    loopback,
    rules: rules.map(({ name, condition, then }) => [name, condition, then]),
  }))
  return { kernel, pods }
}

describe('five meshes on one node', { timeout: 180_000 }, () => {
  before(async () => {
    node = await createNode()
    agent = await Agent.start(config())
  })
  after(async () => {
    await agent?.close()
    await node?.[Symbol.asyncDispose]()
  })

  test('each mesh selects its pod by what it has written into it, and no other', async () => {
    const pods = await agent.pods()
    assert.deepEqual(
      pods.map(({ name, mesh, selection, state, warnings }) => ({ name, mesh, selection, state, warnings })),
      meshes.map(({ name }, index) => ({
        name,
        mesh: name,
        selection: { entry: `meshes[${index}]`, why: 'selects', also: [] },
        state: 'enrolled',
        warnings: [],
      })),
    )
  })

  for (const mesh of meshes) {
    test(`what the app and the proxy of ${mesh.name} call`, () => check(mesh, outboundCases(mesh)))
    test(`what the proxy of ${mesh.name} calls in the pods of the other meshes`, () => check(mesh, crossCases(mesh)))

    test(`who answers the queries of the app of ${mesh.name}`, async () => {
      const server: Endpoint = [node.outside.address, 53]
      const unconnected = [{ do: 'sendto', data: 'a', to: server }, { do: 'recv' }]
      const connected = [{ do: 'connect', to: server }, { do: 'send', data: 'b' }, { do: 'recv' }]
      const cases = [unconnected, connected].map((steps, index) => ({ id: `${index}`, as: app, family: 4, steps }))
      const results = await ask<readonly { readonly steps: readonly unknown[] }[]>(podOf(mesh), 'exchange', cases)
      const answers = results.map(({ steps }) => (steps.at(-1) as readonly { readonly listener: string; readonly from: string }[])[0])
      const expected = { listener: mesh.dns === undefined ? 'outside' : `${mesh.name}:dns`, from: server.join(':') }
      assert.deepEqual(
        answers.map((answer) => ({ listener: answer?.listener, from: answer?.from })),
        [expected, expected],
      )
    })
  }

  test("a reload that changes one mesh's options leaves the others alone: programs, rules, connections", async () => {
    const before = await inForce()
    const to: Endpoint = [node.outside.address, APP_PORT]
    const others = meshes.filter(({ name }) => name !== 'istio')
    const running = await Promise.all(others.map((mesh) => traffic(podOf(mesh), app, to, 4, 0.02)))
    const { reloads } = (await agent.status()).config
    await agent.write(config({ istio: { excludeOutboundCidrs: [node.outside.address] } }))
    await agent.waitFor('the change is applied', 20_000, ({ config }) => config.reloads.applied > reloads.applied)
    assert.deepEqual(await outcomes(podOf({ name: 'istio' }), [{ id: 'out', as: app, to: [to] }]), { out: 'outside' })
    const ended = await Promise.all(running.map((each) => each.stop()))
    for (const [index, { problems, reached, rounds }] of ended.entries()) {
      const listener = `${others[index]?.name}:outbound`
      assert.deepEqual([Object.keys(reached), problems], [[listener], {}], `${listener}, ${rounds} rounds`)
    }
    const now = await inForce()
    assert.deepEqual(now.kernel, before.kernel, 'programs, links and maps')
    const without = ({ pods }: typeof now) => pods.filter(({ name }) => name !== 'istio')
    assert.deepEqual(without(now), without(before))
  })

  test('detach takes everything away, from the pods of all', async () => {
    const owned = await relatedObjects(agent.bpffs)
    assert.ok(owned.programs.length > 0 && owned.links.length > 0 && owned.maps.length > 0)
    await agent.kill('SIGTERM')
    const { code, stderr, view } = await agent.detach('--bypass')
    assert.equal(code, 0, stderr)
    assert.equal(view?.bypassed.length, meshes.length)
    assert.ok(!existsSync(agent.bpffs))
    await until('every program, link and map is gone', 10_000, async () => {
      const left = await remaining(owned)
      return left.programs.length + left.links.length + left.maps.length === 0 ? true : undefined
    })
    for (const mesh of meshes) {
      const pod = podOf(mesh)
      const found = await outcomes(pod, [{ id: 'out', as: app, to: [[node.outside.address, APP_PORT]] }])
      const into = await outcomes(node.outside, [{ id: 'in', as: app, to: [[pod.address, APP_PORT]] }])
      assert.deepEqual([found, into], [{ out: 'outside' }, { in: `${mesh.name}:app` }])
    }
  })
})
