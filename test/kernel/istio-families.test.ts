/** Istio's pods by family: which connections the sidecar gets, in pods that have the mesh's iptables rules and then under the agent. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Agent, until } from '../lab/agent.ts'
import { applyIptables, fromScratch, type IstioRuleOptions, istioTables } from '../lab/istio-iptables.ts'
import { readPod } from '../lab/istio-options.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { both, serveEnds } from './ends.ts'
import { endsProgram } from './serving.ts'

const run = ['/usr/bin/python3', '-I', '-B', endsProgram]

interface Who {
  readonly uid: number
  readonly gid?: number
}
const app: Who = { uid: 1000 }
const proxy: Who = { uid: 1337 }
const groupOfProxy: Who = { uid: 1000, gid: 1337 }

/** The name of each destination's listener that was reached, or the error. */
async function reached(pod: LabPod, who: Who, to: readonly (readonly [string, number])[]): Promise<string[]> {
  const cases = to.map((each) => ({ family: each[0].includes(':') ? 6 : 4, to: each }))
  const text = await must(pod.command([...run, 'connect', JSON.stringify(cases)], who))
  return (JSON.parse(text) as { error?: string; seen?: { listener: string } }[]).map(({ error, seen }) => error ?? seen?.listener ?? 'closed')
}

const serve = (pod: LabPod, ports: Readonly<Record<string, number>>) =>
  serveEnds(
    pod,
    Object.entries(ports).map(([name, port]) => both(name, port)),
  )

const containers = (env: Readonly<Record<string, string>>) => [{ name: 'app' }, { name: 'istio-proxy', env }]
const dual = { ISTIO_DUAL_STACK: 'true', ISTIO_META_DNS_CAPTURE: 'true' }

describe("families in Istio's pods", { timeout: 120_000 }, async () => {
  const lab = await Lab.create('istio-families')
  after(() => lab.close())
  const server = await lab.pod('server', { ipv6: true })
  const pods = [
    { pod: await lab.pod('single', { ipv6: true }), env: {} },
    { pod: await lab.pod('dual', { ipv6: true }), env: dual },
    { pod: await lab.pod('six', { ipv6: 'alone' }), env: {} },
  ]
  const [single, both, six] = pods.map(({ pod }) => pod) as [LabPod, LabPod, LabPod]
  for (const pod of [single, both, six]) {
    await must(pod.command(['sysctl', '-q', '-w', 'net.ipv4.ip_unprivileged_port_start=0']))
    await serve(pod, { out: 15001, in: 15006, dns: 15053, app: 8080 })
  }
  await must(server.command(['sysctl', '-q', '-w', 'net.ipv4.ip_unprivileged_port_start=0']))
  await serve(server, { server: 8080, 'name server': 53 })

  const mapped = `::ffff:${server.address}`

  /** What every connection reaches, by the pod that it is made in, or comes to. */
  async function all() {
    const outside = [server.ipv6, server.address, mapped].map((to) => [to, 8080] as const)
    return {
      single: await reached(single, app, outside),
      dual: await reached(both, app, outside),
      six: await reached(six, app, outside.slice(0, 1)),
      'proxies of all go out': (await Promise.all([single, both, six].map((pod) => reached(pod, proxy, outside.slice(0, 1))))).flat(),
      'proxies call their own pods': (await Promise.all([single, both, six].map((pod) => reached(pod, proxy, [[pod.ipv6, 8080]])))).flat(),
      'apps call their own pods': (await Promise.all([single, both, six].map((pod) => reached(pod, app, [[pod.ipv6, 8080]])))).flat(),
      'from outside': await reached(server, app, [
        ...[single, both, six].map((pod) => [pod.ipv6, 8080] as const),
        ...[single, both].map((pod) => [pod.address, 8080] as const),
      ]),
      'names, without capture': await reached(single, app, [
        [server.ipv6, 53],
        [server.address, 53],
      ]),
      'names, app': await reached(both, app, [
        [server.ipv6, 53],
        [server.address, 53],
        [mapped, 53],
        ['::1', 53],
        ['127.0.0.53', 53],
      ]),
      'names, proxy': await reached(both, proxy, [
        [server.ipv6, 53],
        [server.address, 53],
      ]),
      "names, the proxy's group": await reached(both, groupOfProxy, [
        [server.ipv6, 53],
        [both.ipv6, 53],
        ['127.0.0.53', 53],
      ]),
    }
  }

  const expected = {
    single: ['server', 'out', 'out'],
    dual: ['out', 'out', 'out'],
    six: ['out'],
    'proxies of all go out': ['server', 'server', 'server'],
    'proxies call their own pods': ['app', 'in', 'in'],
    'apps call their own pods': ['app', 'app', 'app'],
    'from outside': ['app', 'in', 'in', 'in', 'in'],
    'names, without capture': ['name server', 'out'],
    'names, app': ['dns', 'dns', 'dns', 'dns', 'dns'],
    'names, proxy': ['name server', 'name server'],
    "names, the proxy's group": ['name server', 'in', 'in'],
  }

  test('the mesh does so itself', async () => {
    for (const { pod, env } of pods) {
      const addresses = pod === six ? [pod.ipv6] : [pod.address, pod.ipv6]
      const reading = readPod({ annotations: {}, containers: containers(env), addresses }, {})
      assert('rules' in reading)
      await applyIptables(pod, istioTables(reading.rules as IstioRuleOptions))
    }
    assert.deepEqual(await all(), expected)
    for (const pod of [single, both, six]) await applyIptables(pod, fromScratch({ v4: '', loopbackAddresses: [] }))
  })

  test('so does the agent', async () => {
    const listed = pods.map(({ pod, env }) => ({ name: pod.name, netns: pod.netns, containers: containers(env) }))
    await using agent = await Agent.start({ pods: listed })
    assert.deepEqual(await all(), expected)
    const views = await agent.pods()
    assert.deepEqual(
      views.map(({ warnings }) => warnings),
      [[], [], []],
    )
  })

  test('name servers are those of the pod, or else of the options; without any the pod has a warning', async () => {
    const { name, netns } = both
    const pod = { name, netns, containers: containers(dual) }
    const options = { setup: 'init', nameservers: [server.address] }
    await using agent = await Agent.start({ pods: [pod], options })
    const ask = () =>
      reached(both, app, [
        [server.ipv6, 53],
        [server.address, 53],
      ])
    assert.deepEqual(await ask(), ['out', 'dns'])
    await agent.write({ pods: [{ ...pod, nameservers: [server.ipv6] }], options })
    await until('the servers of the pod count', 20_000, async () => ((await ask())[0] === 'dns' ? true : undefined))
    assert.deepEqual(await ask(), ['dns', 'out'])
    await agent.write({ pods: [pod], options: { setup: 'init' } })
    const warnings = await until('the pod has a warning', 20_000, async () => {
      const [view] = await agent.pods()
      return view?.warnings.length === 1 ? view.warnings : undefined
    })
    assert.match(warnings[0] ?? '', /^ISTIO_META_DNS_CAPTURE: DNS is not captured: .*list them under nameservers/)
    assert.deepEqual(await ask(), ['out', 'out'])
  })
})
