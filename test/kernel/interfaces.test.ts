/**
 * Rules that name interfaces decide as iptables' -o and -i do: a pod with iptables rules and a pod of the same shape with Merbridge are asked the same
 * questions, while routes move and interfaces come, go and change their names.
 */
import assert from 'node:assert/strict'
import { basename } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Agent } from '../../core/agent.ts'
import { Ability } from '../../core/contract.ts'
import type { Interception } from '../../core/plugin.ts'
import { until } from '../lab/agent.ts'
import { applyIptables } from '../lab/istio-iptables.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { type Case, connect, connectOnce, serve } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { DatapathUnderTest, kernel, reached } from './fixture.ts'
import { configOf } from './rules.ts'

const arrival = (kernel.abilities & BigInt(Ability.ARRIVAL)) !== 0n

const interception: Interception = {
  sets: { side: { interfaces: ['net2'] }, tunnels: { interfaces: ['tun+'] }, proxy: { uid: [1337] } },
  targets: { out: { port: 15001 }, in: { port: 15006 } },
  outbound: [
    { name: 'side', when: { to: 'side' }, then: 'pass' },
    { name: 'tunnels', when: { to: 'tunnels' }, then: 'pass' },
    { name: 'proxy', when: { from: 'proxy' }, then: 'pass' },
    { name: 'own', when: { to: 'pod' }, then: 'pass' },
    { name: 'rest', when: { proto: 'tcp' }, then: 'out' },
  ],
  inbound: arrival
    ? [
        { name: 'side', when: { from: 'side' }, then: 'pass' },
        { name: 'rest', when: { proto: 'tcp' }, then: 'in' },
      ]
    : [{ name: 'rest', when: { proto: 'tcp' }, then: 'in' }],
}

const rules = `*nat
-A PREROUTING -i net2 -j RETURN
-A PREROUTING -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -o net2 -j RETURN
-A OUTPUT -o tun+ -j RETURN
-A OUTPUT -m owner --uid-owner 1337 -j RETURN
-A OUTPUT -o lo -j RETURN
-A OUTPUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
`

/** Routed by the node's second address at first, see `place`. */
const MOVING = '10.99.0.1'

interface Side {
  readonly pod: LabPod
  /** Third byte of the network behind net2. */
  readonly net: number
}

const ip = (pod: LabPod, ...words: string[]) => must(pod.command(['ip', ...words]))

describe('rules that name interfaces', { timeout: 120_000 }, () => {
  let lab: Lab
  let sides: readonly Side[]
  let datapath: DatapathUnderTest
  let agent: Agent
  /** The pods have net2. */
  let there = false

  const own = (side: Side) => `10.78.${side.net}.2`
  const far = (side: Side) => `10.78.${side.net}.1`

  async function addInterface({ pod, net }: Side, name = 'net2'): Promise<void> {
    await ip(lab.node, 'link', 'add', `n${net}`, 'type', 'veth', 'peer', 'name', name, 'netns', basename(pod.netns))
    for (const [each, device, address] of [
      [lab.node, `n${net}`, `10.78.${net}.1`],
      [pod, name, `10.78.${net}.2`],
    ] as const) {
      await ip(each, 'address', 'add', `${address}/24`, 'dev', device)
      await ip(each, 'link', 'set', device, 'up')
    }
  }

  const moveTo = async (device: 'net2' | 'eth0') => {
    for (const side of sides) await ip(side.pod, 'route', 'replace', MOVING, 'via', device === 'net2' ? far(side) : lab.node.address, 'dev', device)
  }

  before(async () => {
    lab = await Lab.create('interfaces')
    sides = [
      { pod: await lab.pod('iptables'), net: 1 },
      { pod: await lab.pod('merbridge'), net: 2 },
    ]
    await ip(lab.node, 'address', 'add', `${MOVING}/32`, 'dev', 'lo')
    for (const { pod } of sides) {
      await serve(
        pod,
        proxy,
        [15001, 15006].map((port) => ({ name: `proxy:${port}`, address: '0.0.0.0', port })),
      )
      await serve(pod, app, [{ name: 'app', address: '0.0.0.0', port: 8080 }])
    }
    await serve(lab.node, app, [{ name: 'node', address: '0.0.0.0', port: 8080 }])
    const [first, second] = sides as [Side, Side]
    await applyIptables(first.pod, rules)
    datapath = new DatapathUnderTest('interfaces')
    agent = await datapath.start(configOf(datapath, [second.pod], interception))
  })

  after(async () => {
    await datapath?.[Symbol.asyncDispose]()
    await lab?.close()
  })

  /** Who is reached, by what is asked. */
  async function answers(side: Side): Promise<Readonly<Record<string, string | undefined>>> {
    const to = (id: string, address: string, more: Partial<Case> = {}): Case => ({ id, as: app, to: [[address, 8080]], ...more })
    const out = [
      to('over eth0', lab.node.address),
      to('over net2', far(side)),
      to('moving', MOVING),
      to('loopback', '127.0.0.1'),
      to('own address of eth0', side.pod.address),
      to('own address of net2', own(side)),
      to('unspecified', '0.0.0.0'),
      to('proxy over eth0', lab.node.address, { as: proxy }),
      to('bound to eth0', lab.node.address, { device: 'eth0', alone: true }),
      to('bound to net2', far(side), { device: 'net2' }),
      to('bound to net2, moving', MOVING, { device: 'net2' }),
      to('bound to lo, own address', own(side), { device: 'lo', alone: true }),
      to('bound to net2, own address there', own(side), { device: 'net2' }),
    ]
    const into = [
      to('in over eth0', side.pod.address),
      to('in over net2', own(side)),
      to('in over net2, to the address of eth0', side.pod.address, { device: `n${side.net}`, bind: [far(side), 0] }),
      to('in over eth0, to the address of net2', own(side), { device: 'br0', bind: [lab.node.address, 0] }),
    ].slice(0, there ? undefined : 1) // iptables would redirect what comes for an address that the pod does not have
    const results = [...(await connect(side.pod, out)), ...(await connect(lab.node, into))]
    return Object.fromEntries(results.map(({ id, steps: [step] }) => [id, step && reached(step)]))
  }

  /** Both pods answer the same, and what is expected. */
  async function both(what: string, expected: Readonly<Record<string, string>>): Promise<void> {
    await agent.tick()
    const [iptables, merbridge] = await Promise.all(sides.map(answers))
    const known = (all: Readonly<Record<string, string | undefined>> = {}) =>
      Object.fromEntries(Object.entries(all).filter(([id]) => arrival || !id.startsWith('in over')))
    assert.deepEqual(known(merbridge), known(iptables), what)
    for (const [id, listener] of Object.entries(expected)) if (id in known(merbridge)) assert.equal(merbridge?.[id], listener, `${what}: ${id}`)
  }

  test('without the interface everything is taken', async () => {
    await both('no net2', { 'over eth0': 'proxy:15001', moving: 'proxy:15001', loopback: 'app', 'in over eth0': 'proxy:15006' })
  })

  test('an interface that is added is known, by its routes, by its name and by what comes in by it', async () => {
    for (const side of sides) await addInterface(side)
    there = true
    await moveTo('net2')
    await both('net2', {
      'over eth0': 'proxy:15001',
      'over net2': 'node',
      moving: 'node',
      'own address of net2': 'app',
      'proxy over eth0': 'node',
      'bound to net2': 'node',
      'in over eth0': 'proxy:15006',
      'in over net2': 'app',
      'in over net2, to the address of eth0': 'app',
      'in over eth0, to the address of net2': 'proxy:15006',
    })
  })

  test('the kernel tells of a route that moves to another interface', async () => {
    const [, side] = sides as [Side, Side]
    const soon = (listener: string) =>
      until(`${MOVING} is reached at ${listener}`, 2000, async () =>
        reached(await connectOnce(side.pod, app, [MOVING, 8080])) === listener ? true : undefined,
      )
    await moveTo('eth0')
    await soon('proxy:15001')
    await moveTo('net2')
    await soon('node')
    await moveTo('eth0')
    await both('moved', { moving: 'proxy:15001', 'bound to net2, moving': 'node', 'over net2': 'node' })
  })

  test('an interface that is renamed is another one', async () => {
    const rename = async (from: string, to: string) => {
      for (const { pod } of sides) {
        await ip(pod, 'link', 'set', from, 'down')
        await ip(pod, 'link', 'set', from, 'name', to)
        await ip(pod, 'link', 'set', to, 'up')
      }
    }
    await rename('net2', 'other')
    await both('renamed', { 'over net2': 'proxy:15001', 'in over net2': 'proxy:15006', 'in over eth0': 'proxy:15006' })
    await rename('other', 'tun7')
    await both('a name that begins as the rule says', { 'over net2': 'node', 'over eth0': 'proxy:15001' })
    await rename('tun7', 'net2')
    await both('renamed back', { 'over net2': 'node', 'over eth0': 'proxy:15001' })
  })

  test('an interface that is removed, and comes back with another index, matches again', async () => {
    for (const { pod } of sides) await ip(pod, 'link', 'del', 'net2')
    there = false
    await both('removed', { 'over eth0': 'proxy:15001', moving: 'proxy:15001' })
    for (const { pod } of sides) await ip(pod, 'link', 'add', 'between1', 'type', 'veth', 'peer', 'name', 'between2')
    for (const side of sides) await addInterface(side)
    there = true
    await both('back', { 'over net2': 'node', 'in over net2': 'app', 'in over eth0': 'proxy:15006' })
  })

  test('a pod whose inbound rules need what the kernel lacks is not enrolled, and says why', async () => {
    const [, { pod }] = sides as [Side, Side]
    await using other = new DatapathUnderTest('no-arrival')
    const without = { ...kernel, abilities: kernel.abilities & ~BigInt(Ability.ARRIVAL) }
    const inbound = [
      { name: 'side', when: { from: 'side' }, then: 'pass' },
      { name: 'rest', when: { proto: 'tcp' as const }, then: 'in' },
    ]
    const config = configOf(other, [pod, (sides as [Side, Side])[0].pod], { ...interception, inbound })
    await datapath[Symbol.asyncDispose]()
    const { outcomes } = await other.start(config, { kernel: without })
    for (const outcome of outcomes) {
      assert.equal(outcome.state, 'cannot')
      assert.match(outcome.reason ?? '', /inbound rules name network interfaces.*Linux 5\.17.*arrival_interface/)
    }
  })
})
