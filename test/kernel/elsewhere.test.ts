/**
 * A target with an address of its own that is not loopback: what the proxy connects to 127.0.0.1 goes to the pod's address, at the port that was asked for or
 * at one of the target's. The app there must have been reached from where iptables' DNAT would have come from, and whoever listens at that address takes it,
 * not the proxy, whatever ports other targets have.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Interception } from '../../core/plugin.ts'
import { applyIptables } from '../lab/istio-iptables.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { startProxy } from '../mesh/sidecar.ts'
import { type Case, connect, connectOnce, type Step, serve } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { DatapathUnderTest, seesProxy } from './fixture.ts'
import { configOf } from './rules.ts'

const interception = (address: string): Interception => ({
  sets: { proxy: { uid: [1337] } },
  targets: { own: { ipv4: address, ipv6: false }, in: { port: 15006 } },
  outbound: [{ name: 'localhost', when: { proto: 'tcp', from: 'proxy', to: 'loopback' }, then: 'own' }],
  inbound: [{ name: 'rest', then: 'in' }],
})

const rules = (address: string) => `*nat
-A OUTPUT -p tcp -o lo -d 127.0.0.1/32 -m owner --uid-owner 1337 -j DNAT --to-destination ${address}
-A PREROUTING -p tcp -j REDIRECT --to-ports 15006
COMMIT
`

describe('a target at the pod itself', { timeout: 60_000 }, () => {
  let lab: Lab
  let pods: { readonly withRules: LabPod; readonly withAgent: LabPod }
  const datapath = new DatapathUnderTest('elsewhere')

  before(async () => {
    lab = await Lab.create('elsewhere')
    pods = { withRules: await lab.pod('rules'), withAgent: await lab.pod('agent') }
    for (const pod of Object.values(pods)) {
      await startProxy(pod, { name: 'proxy' })
      await serve(pod, app, [
        { name: 'app', address: pod.address, port: 8080 },
        { name: 'local', address: '127.0.0.1', port: 8081 },
      ])
    }
    await applyIptables(pods.withRules, rules(pods.withRules.address))
    await datapath.start(configOf(datapath, [pods.withAgent], interception(pods.withAgent.address)))
  })

  after(async () => {
    await datapath[Symbol.asyncDispose]()
    await lab.close()
  })

  const story = ({ address }: LabPod, { seen, error, peer, local }: Step) => {
    const told =
      typeof seen === 'object' ? { by: seen.listener, from: seen.peer, at: seen.local, origin: seen.origin['16'] } : { error: error ?? seen }
    return JSON.parse(
      JSON.stringify({ ...told, peer, local })
        .replaceAll(address, 'POD')
        .replaceAll(/:[3-6]\d{4}\b/g, ':eph'),
    ) as Record<string, string>
  }

  const ways: readonly Omit<Case, 'id'>[] = [
    { as: proxy, to: [['127.0.0.1', 8080]] },
    { as: proxy, to: [['127.0.0.1', 8080]], nonblock: true },
    { as: proxy, to: [['127.0.0.1', 8080]], bind: ['127.0.0.1', 0] },
    { as: proxy, to: [['::ffff:127.0.0.1', 8080]] },
    { as: proxy, to: [['127.0.0.1', 8081]] },
    { as: proxy, to: [['127.0.0.1', 8082]] },
    { as: proxy, to: [['127.0.0.5', 8080]] },
    { as: app, to: [['127.0.0.1', 8080]] },
    { as: app, to: [['127.0.0.1', 8081]] },
  ]

  test('is reached as through DNAT, by whoever listens there', async () => {
    const cases = ways.map((way, index) => ({ id: String(index), ...way }))
    const [expected, found] = await Promise.all(
      [pods.withRules, pods.withAgent].map(async (pod) => (await connect(pod, cases)).map(({ steps: [step] }) => story(pod, step as Step))),
    )
    assert.deepEqual(found?.[0], {
      by: 'app',
      from: '127.0.0.1:eph',
      at: 'POD:8080',
      origin: '127.0.0.1:8080 (16 bytes)',
      peer: seesProxy ? 'POD:8080' : '127.0.0.1:8080',
      local: '127.0.0.1:eph',
    })
    const alike = (all: readonly Record<string, string>[]) => (seesProxy ? all.map(({ peer: _, ...rest }) => rest) : all)
    assert.deepEqual(alike(found ?? []), alike(expected ?? []))
  })

  test('is reached by a socket that has a port of 0.0.0.0, then from the address of the pod', async () => {
    const step = await connectOnce(pods.withAgent, proxy, ['127.0.0.1', 8080], { bind: ['0.0.0.0', 0] })
    assert.deepEqual([story(pods.withAgent, step).by, story(pods.withAgent, step).from], ['app', 'POD:eph'])
  })

  test('does not open the way around the inbound rules', async () => {
    const step = await connectOnce(pods.withRules, app, [pods.withAgent.address, 8080])
    assert.equal(story(pods.withAgent, step).by, 'proxy:15006')
  })
})

const SECOND = '10.99.0.9'

/**
 * Apps go to port 7777 of the pod's addresses, but for SECOND, which is a proxy at a loopback address that is not 127.0.0.1. What the proxy connects to loopback
 * keeps its port at the pod's addresses. The port 5300 is a target of UDP alone, at loopback.
 */
const withPorts = ({ address, ipv6 = '' }: LabPod): Interception => ({
  sets: { proxy: { uid: [1337] }, second: { cidrs: [SECOND] }, dns: { ports: [53] } },
  targets: {
    own: { ipv4: address, ipv6, port: 7777 },
    kept: { ipv4: address, ipv6 },
    second: { ipv4: '127.0.0.9', ipv6: false, port: 7000 },
    dns: { ipv4: '127.0.0.153', ipv6: false, port: 5300 },
  },
  outbound: [
    { name: 'dns', when: { proto: 'udp', port: 'dns' }, then: 'dns' },
    { name: 'localhost', when: { proto: 'tcp', from: 'proxy', to: 'loopback' }, then: 'kept' },
    { name: 'the proxy itself', when: { from: 'proxy' }, then: 'pass' },
    { name: 'second', when: { proto: 'tcp', to: 'second' }, then: 'second' },
    { name: 'rest', when: { proto: 'tcp' }, then: 'own' },
  ],
  inbound: [],
})

describe('a target at the pod itself beside targets with the same port', { timeout: 60_000 }, () => {
  let lab: Lab
  let pod: LabPod
  let away: LabPod
  const datapath = new DatapathUnderTest('elsewhereport')

  before(async () => {
    lab = await Lab.create('elsewhereport')
    pod = await lab.pod('pod', { ipv6: true })
    away = await lab.pod('away', { ipv6: true })
    await serve(pod, proxy, [
      { name: 'own', address: pod.address, port: 7777 },
      { name: 'own6', address: pod.ipv6 ?? '', port: 7777 },
      { name: 'second', address: '127.0.0.9', port: 7000 },
    ])
    await serve(pod, app, [
      { name: 'app', address: pod.address, port: 5300 },
      { name: 'app6', address: pod.ipv6 ?? '', port: 5300 },
    ])
    await datapath.start(configOf(datapath, [pod], withPorts(pod)))
  })

  after(async () => {
    await datapath[Symbol.asyncDispose]()
    await lab.close()
  })

  /** Unbound, with a port of any address, with an address that is the pod's own. */
  const binds = (ipv6: boolean): Partial<Case>[] => [{}, { bind: [ipv6 ? '::' : '0.0.0.0', 0] }, { bind: [(ipv6 ? pod.ipv6 : pod.address) ?? '', 0] }]
  const listener = ({ seen, error }: Step) => (typeof seen === 'object' ? seen.listener : (error ?? seen))
  const reachedFrom = (as: typeof app, to: string, port: number) =>
    Promise.all(binds(to.includes(':')).map(async (bind) => listener(await connectOnce(pod, as, [to, port], bind))))

  test('with a port of its own: whoever listens there, in both families', async () => {
    assert.deepEqual(await reachedFrom(app, away.address, 8080), ['own', 'own', 'own'])
    assert.deepEqual(await reachedFrom(app, away.ipv6 ?? '', 8080), ['own6', 'own6', 'own6'])
    const { seen } = await connectOnce(pod, app, [away.address, 8080])
    assert.equal(typeof seen === 'object' && seen.origin['16'], `${away.address}:8080 (16 bytes)`)
  })

  test('with the port that was asked for: the port of a target for UDP is no other', async () => {
    assert.deepEqual(await reachedFrom(proxy, '127.0.0.1', 5300), ['app', 'app', 'app'])
    assert.deepEqual(await reachedFrom(proxy, '::1', 5300), ['app6', 'app6', 'app6'])
  })

  test('and a proxy at another address of loopback is reached from every port', async () => {
    assert.deepEqual(await reachedFrom(app, SECOND, 80), ['second', 'second', 'second'])
  })
})
