/** A mesh that does not exist (test/contract/sixth.ts), on the real kernel: marks, groups, ranges of users, sources, interfaces, DNS, a target elsewhere. */
import assert from 'node:assert/strict'
import { basename } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { kit } from '../../core/kit.ts'
import { testContainer } from '../../core/testing.ts'
import borealis from '../contract/sixth.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { ask, type Case, connect, serve } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, reached } from './fixture.ts'

const proxyGroup = { uid: 90, gid: 701 }
const proxyIn = testContainer('sidecar', {
  image: 'registry.example/borealis:1',
  gid: 701,
  args: ['--outbound=7101'],
  env: { BOREALIS_INBOUND: '7106' },
})

describe('a mesh of somebody else with a bit of everything', { timeout: 120_000 }, () => {
  let lab: Lab
  let web: LabPod
  let outside: LabPod
  let datapath: DatapathUnderTest

  before(async () => {
    lab = await Lab.create('sixth')
    web = await lab.pod('web', { ipv6: true })
    outside = await lab.pod('outside', { ipv6: true, address: '10.0.0.100/24', secondary: ['198.51.100.7/32', '10.100.3.4/32'] })
    await must(web.command(['ip', 'link', 'add', 'san0', 'type', 'veth', 'peer', 'name', 'san0', 'netns', basename(outside.netns)]))
    for (const [pod, address] of [
      [web, '10.20.0.1/24'],
      [outside, '10.20.0.9/24'],
    ] as const) {
      await must(pod.command(['ip', '-batch', '-']), { input: `address add ${address} dev san0\nlink set san0 up\n` })
    }
    for (const pod of [web, outside]) await must(pod.command(['sysctl', '-q', '-w', 'net.ipv4.ip_unprivileged_port_start=0']))
    const everywhere = { address: '::', name: 'outside' }
    await serve(
      outside,
      app,
      [80, 8080, 15443].map((port) => ({ ...everywhere, port })),
    )
    await serve(
      web,
      app,
      [22, 80].map((port) => ({ address: '::', port, name: 'app' })),
    )
    const ports = [7101, 7106].map((port) => ({ address: '::', port, name: `proxy:${port}` }))
    await serve(web, proxyGroup, [...ports, { address: '127.0.0.1', port: 7053, protocol: 'udp', name: 'proxy:DNS' }])
    datapath = new DatapathUnderTest('sixth')
    const plugin = borealis(kit)
    const config = datapath.withPlugin([web], plugin, plugin.options.parse({}))
    const pods = config.config.pods.map((pod) => ({ ...pod, containers: [proxyIn] }))
    await datapath.start({ ...config, config: { ...config.config, pods } })
  })
  after(async () => {
    await datapath?.[Symbol.asyncDispose]()
    await lab?.close()
  })

  const outcomes = async (pod: LabPod, cases: readonly Case[]) =>
    Object.fromEntries((await connect(pod, cases)).map(({ id, steps: [step] }) => [id, step === undefined ? 'no result' : reached(step)]))

  test('what the pod sends', async () => {
    const [v4, v6] = [outside.address, outside.ipv6]
    const cases: readonly (Case & { readonly expected: string })[] = [
      { id: 'an app', as: app, to: [[v4, 80]], expected: 'proxy:7101' },
      { id: 'an app, IPv6', as: app, to: [[v6, 80]], expected: 'proxy:7101' },
      { id: 'the group of the proxy', as: proxyGroup, to: [[v4, 80]], expected: 'outside' },
      { id: 'the usual group, which the container changes', as: { uid: 90, gid: 700 }, to: [[v4, 80]], expected: 'proxy:7101' },
      { id: 'the mark of the proxy', as: app, mark: 0x1700, to: [[v4, 80]], expected: 'outside' },
      { id: 'another mark', as: app, mark: 0x600, to: [[v4, 80]], expected: 'proxy:7101' },
      { id: 'the last exempt user', as: { uid: 5999, gid: 1 }, to: [[v4, 80]], expected: 'outside' },
      { id: 'the one behind', as: { uid: 6000, gid: 1 }, to: [[v4, 80]], expected: 'proxy:7101' },
      { id: 'an external port of the web', as: app, to: [['198.51.100.7', 8080]], expected: 'outside' },
      { id: 'another external port', as: app, to: [['198.51.100.7', 22]], expected: 'proxy:7101' },
      { id: 'external, IPv6, which the gateway has not', as: app, to: [['2001:db8:100::7', 80]], expected: 'ECONNREFUSED' },
      { id: 'the storage network', as: app, to: [['10.20.0.9', 80]], expected: 'outside' },
    ]
    const expected = Object.fromEntries(cases.map(({ id, expected }) => [id, expected]))
    assert.deepEqual(await outcomes(web, cases), expected)
    const [gateway] = await connect(web, [{ id: 'gateway', as: app, to: [['198.51.100.7', 8080]] }])
    const seen = gateway?.steps[0]?.seen
    assert.equal(typeof seen === 'object' && seen.local, '[::ffff:10.0.0.100]:15443', 'the gateway has it, at its own address')
  })

  test('what others send to the pod', async () => {
    const cases: readonly Case[] = [
      { id: 'anybody', as: app, to: [[web.address, 80]] },
      { id: 'a scraper', as: app, bind: ['10.100.3.4', 0], to: [[web.address, 80]] },
      { id: 'by the storage network', as: app, to: [['10.20.0.1', 22]] },
      { id: 'by the storage network to the web', as: app, to: [['10.20.0.1', 80]] },
    ]
    assert.deepEqual(await outcomes(outside, cases), {
      anybody: 'proxy:7106',
      'a scraper': 'app',
      'by the storage network': 'app',
      'by the storage network to the web': 'proxy:7106',
    })
  })

  test('queries for names', async () => {
    const steps = ['198.51.100.7', '10.0.0.100'].flatMap((server) => [{ do: 'sendto', data: server, to: [server, 53] }, { do: 'recv' }])
    const [result] = await ask<readonly { readonly steps: readonly unknown[] }[]>(web, 'exchange', [{ id: 'dns', as: app, family: 4, steps }])
    const answers = (result?.steps ?? []).filter((step) => Array.isArray(step)).flat() as { listener: string; from: string }[]
    assert.deepEqual(
      answers.map(({ listener, from }) => [listener, from]),
      [
        ['proxy:DNS', '198.51.100.7:53'],
        ['proxy:DNS', '10.0.0.100:53'],
      ],
    )
  })
})
