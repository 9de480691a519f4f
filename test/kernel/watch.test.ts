/** What changes in a pod's namespace is known at once. Nothing ticks here but where a test does it: the kernel's messages alone bring the agent up to date. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import type { Agent } from '../../core/agent.ts'
import { refusalsWith } from '../kernels/differences.ts'
import { until } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { type Listening, startApp, startProxy } from '../mesh/sidecar.ts'
import { connectOnce } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, kernel } from './fixture.ts'

/** Milliseconds until an address is the pod's own. */
const SOON = 300

describe('what changes in a namespace', { timeout: 120_000 }, () => {
  let lab: Lab
  let pod: LabPod
  let other: LabPod
  let servers: Listening[]
  const ip = (...words: string[]) => must(pod.command(['ip', ...words]))

  before(async () => {
    lab = await Lab.create('watch')
    pod = await lab.pod('pod')
    other = await lab.pod('other')
    servers = [await startProxy(pod), await startApp(pod), await startApp(other)]
  })

  after(async () => {
    for (const each of servers ?? []) await each.stop()
    await lab?.close()
  })

  async function reached(address: string): Promise<string | undefined> {
    const { seen, error } = await connectOnce(pod, app, [address, 8080])
    return typeof seen === 'object' ? seen.listener : (seen ?? error)
  }

  const addressesOf = (agent: Agent) => agent.outcomes.flatMap(({ addresses }) => addresses)

  async function waitForAddress(agent: Agent, address: string, there: boolean): Promise<void> {
    const since = performance.now()
    while (addressesOf(agent).includes(address) !== there) {
      assert(performance.now() - since < SOON, `${address} after ${SOON} ms: ${addressesOf(agent)}`)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }

  test('an address that is added is the pod’s own, and one that is removed is not', async () => {
    await using datapath = new DatapathUnderTest('address')
    const agent = await datapath.start(datapath.config([pod]))
    assert.equal(await reached('10.77.0.200'), 'pod:15001')
    await ip('address', 'add', '10.77.0.200/24', 'dev', 'eth0')
    await waitForAddress(agent, '10.77.0.200', true)
    assert.equal(await reached('10.77.0.200'), 'pod:app', 'a call to oneself is not redirected')
    await ip('address', 'del', '10.77.0.200/24', 'dev', 'eth0')
    await waitForAddress(agent, '10.77.0.200', false)
    assert.equal(await reached('10.77.0.200'), 'pod:15001')
  })

  test('a route that becomes unreachable, and a link that goes down, give their errno', async () => {
    await using datapath = new DatapathUnderTest('route')
    await datapath.start(datapath.config([pod]))
    const soon = (what: string, expected: string) => until(what, 2000, async () => ((await reached('10.98.0.1')) === expected ? true : undefined))
    assert.equal(await reached('10.98.0.1'), 'pod:15001')
    await ip('route', 'add', 'unreachable', '10.98.0.0/16')
    await soon('it is unreachable', refusalsWith(kernel.features).errno('EHOSTUNREACH'))
    await ip('route', 'del', 'unreachable', '10.98.0.0/16')
    await soon('it is reachable again', 'pod:15001')
    await ip('link', 'set', 'eth0', 'down')
    await soon('nothing is reachable', 'ENETUNREACH')
    await ip('link', 'set', 'eth0', 'up')
    await ip('route', 'add', 'default', 'via', lab.node.address, 'dev', 'eth0')
    await soon('all is well again', 'pod:15001')
  })

  test('policy routing counts: a default route in a table of its own, and a rule that forbids a network', async () => {
    await using datapath = new DatapathUnderTest('policy')
    const agent = await datapath.start(datapath.config([pod]))
    const soon = (what: string, expected: string) => until(what, 2000, async () => ((await reached('10.98.0.1')) === expected ? true : undefined))
    await ip('route', 'del', 'default')
    await soon('no way', 'ENETUNREACH')
    await ip('route', 'add', 'default', 'via', lab.node.address, 'dev', 'eth0', 'table', '100')
    await ip('rule', 'add', 'pref', '100', 'lookup', '100')
    await soon('a way by a rule', 'pod:15001')
    await ip('rule', 'add', 'pref', '90', 'to', '10.98.0.0/16', 'prohibit')
    await soon('forbidden', refusalsWith(kernel.features).errno('EACCES'))
    await ip('rule', 'add', 'pref', '80', 'uidrange', '7-8', 'lookup', '100')
    await ip('rule', 'del', 'pref', '90')
    await soon('allowed again', 'pod:15001')
    await until('a warning', 2000, async () => (/ip rule 80 \(uidrange\)/.test(agent.outcomes[0]?.warnings.join() ?? '') ? true : undefined))
    await ip('rule', 'del', 'pref', '80')
    await ip('rule', 'del', 'pref', '100')
    await ip('route', 'add', 'default', 'via', lab.node.address, 'dev', 'eth0')
    await soon('all is well again', 'pod:15001')
  })

  test('a burst of changes is a few rounds, and its end is not missed', async () => {
    await using datapath = new DatapathUnderTest('burst')
    const agent = await datapath.start(datapath.config([pod]))
    const before = agent.datapath.meta().generation
    const bursts = Array.from({ length: 500 }, (_, i) => `address ${i % 2 ? 'del' : 'add'} 10.77.0.${201 + ((i >> 1) % 40)}/24 dev eth0`)
    await must(pod.command(['ip', '-batch', '-']), { input: [...bursts, 'address add 10.77.0.250/24 dev eth0'].join('\n') })
    await waitForAddress(agent, '10.77.0.250', true)
    await ip('address', 'del', '10.77.0.250/24', 'dev', 'eth0')
    await waitForAddress(agent, '10.77.0.250', false)
    const rounds = Number(agent.datapath.meta().generation - before)
    assert(rounds < 50, `${rounds} rounds for 502 changes`)
  })

  test('a namespace that is replaced under its path is watched in its turn, by /proc/PID/ns/net too', async () => {
    await using datapath = new DatapathUnderTest('replaced')
    const lost = await lab.pod('short')
    const { pid } = other.spawn(['sleep', '60'])
    await until('it is in its namespace', 2000, async () =>
      (await must(['readlink', `/proc/${pid}/ns/net`])) !== (await must(['readlink', '/proc/self/ns/net'])) ? true : undefined,
    )
    const byProcess = { name: 'process', netns: `/proc/${pid}/ns/net` } as LabPod
    const agent = await datapath.start(datapath.config([lost, byProcess]))
    const cookies = agent.outcomes.map(({ netns }) => netns)
    await lost.remove()
    const found = await lab.pod('short')
    await agent.tick()
    assert.notEqual(agent.outcomes[0]?.netns, cookies[0])
    assert.deepEqual(
      agent.outcomes.map(({ state }) => state),
      ['enrolled', 'enrolled'],
    )
    await must(found.command(['ip', 'address', 'add', '10.77.0.240/24', 'dev', 'eth0']))
    await waitForAddress(agent, '10.77.0.240', true)
    await must(other.command(['ip', 'address', 'add', '10.77.0.241/24', 'dev', 'eth0']))
    await waitForAddress(agent, '10.77.0.241', true)
    await must(other.command(['ip', 'address', 'del', '10.77.0.241/24', 'dev', 'eth0']))
    await found.remove()
    await other.killAll()
    await agent.tick()
    assert.deepEqual(
      agent.outcomes.map(({ state }) => state),
      ['waiting', 'waiting'],
    )
  })

  test('without descriptors to spare the namespaces are read at every look, with one warning, and watched as soon as there are', async () => {
    await using datapath = new DatapathUnderTest('limit')
    const hard = /^Max open files\s+\d+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    const limit = (soft: string | undefined) => must(['prlimit', '--pid', String(process.pid), `--nofile=${soft}:${hard}`])
    await limit('163') // the reserve of 160, and the three that every process has
    try {
      const agent = await datapath.start(datapath.config([pod, other]))
      await ip('address', 'add', '10.77.0.230/24', 'dev', 'eth0')
      await agent.tick()
      assert(addressesOf(agent).includes('10.77.0.230'))
      const warnings = datapath.logged.filter(({ message }) => /cannot be watched/.test(message))
      assert.equal(warnings.length, 1)
      await limit(hard)
      await agent.tick()
      await ip('address', 'del', '10.77.0.230/24', 'dev', 'eth0')
      await waitForAddress(agent, '10.77.0.230', false)
    } finally {
      await limit(hard)
    }
  })

  test('the node’s own namespace is left alone, and not watched', async () => {
    await using datapath = new DatapathUnderTest('node')
    const own = { name: 'host', netns: '/proc/self/ns/net' } as LabPod
    const agent = await datapath.start(datapath.config([own, pod]))
    await agent.tick()
    assert.match(agent.outcomes[0]?.reason ?? '', /node's own/)
    assert.deepEqual(
      datapath.logged.filter(({ message }) => /cannot be watched/.test(message)),
      [],
    )
    assert.equal(agent.outcomes[1]?.state, 'enrolled')
  })
})
