/**
 * Pods in a user namespace (hostUsers: false): ids in their rules mean what they mean there, as with iptables, whose rules are written from inside.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Agent } from '../../core/agent.ts'
import { native } from '../../core/native/index.ts'
import { explainView } from '../../core/observe/explain.ts'
import { podViews } from '../../core/observe/pods.ts'
import type { Interception } from '../../core/plugin.ts'
import { until } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { UserNamespace } from '../lab/users.ts'
import { type Case, connect, connectOnce, type Identity, serve } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { cgroup, DatapathUnderTest, reached } from './fixture.ts'
import { configOf } from './rules.ts'

/** Lines that are not in order, with gaps: 1200 to 1336 and 1338 to 1399 are nobody. */
const scattered = {
  uid: ['1400 900000 100', '0 500000 1200', '1337 700000 1'],
  gid: ['0 600000 1338', '1338 800000 1000'],
}
/** The first pod's 1337 is 701337 here, and the app's 1000 is 701000. */
const plain = { uid: ['0 700000 65536'], gid: ['0 700000 65536'] }

const interception: Interception = {
  sets: { proxy: { uid: [1337] }, group: { gid: [1450] }, range: { uid: ['1400-1410'] } },
  targets: { out: { port: 15001 }, in: { port: 15006 } },
  outbound: [
    { name: 'proxy to itself', when: { from: 'proxy', to: 'pod' }, unless: { to: 'loopback' }, then: 'in' },
    { name: 'proxy', when: { from: 'proxy' }, then: 'pass' },
    { name: 'group', when: { from: 'group' }, then: 'pass' },
    { name: 'range', when: { from: 'range' }, then: 'pass' },
    { name: 'own', when: { to: 'pod' }, then: 'pass' },
    { name: 'rest', then: 'out' },
  ],
  inbound: [{ name: 'all', then: 'in' }],
}

const rules = `*nat
-A PREROUTING -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -p tcp ! -d 127.0.0.1/32 -o lo -m owner --uid-owner 1337 -j REDIRECT --to-ports 15006
-A OUTPUT -m owner --uid-owner 1337 -j RETURN
-A OUTPUT -m owner --gid-owner 1450 -j RETURN
-A OUTPUT -m owner --uid-owner 1400-1410 -j RETURN
-A OUTPUT -o lo -j RETURN
-A OUTPUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
`

const root: Identity = { uid: 0, gid: 0 }
const member: Identity = { uid: 1000, gid: 1450 }
const inRange: Identity = { uid: 1405, gid: 1000 }

async function startServers(pod: LabPod): Promise<void> {
  await serve(
    pod,
    proxy,
    [15001, 15006].map((port) => ({ name: `proxy:${port}`, address: '0.0.0.0', port })),
  )
  await serve(pod, app, [{ name: 'app', address: '0.0.0.0', port: 8080 }])
}

describe('user namespaces', { timeout: 120_000 }, () => {
  let lab: Lab
  let peer: LabPod

  before(async () => {
    lab = await Lab.create('users')
    peer = await lab.pod('peer')
    await serve(peer, app, [{ name: 'peer', address: '0.0.0.0', port: 8080 }])
  })

  after(() => lab?.close())

  async function answers(pod: LabPod): Promise<Readonly<Record<string, string | undefined>>> {
    const who = { app, proxy, root, member, inRange }
    const cases = Object.entries(who).flatMap(([name, as]): Case[] => [
      { id: `${name} out`, as, to: [[peer.address, 8080]] },
      { id: `${name} to its own pod`, as, to: [[pod.address, 8080]] },
      { id: `${name} to loopback`, as, to: [['127.0.0.1', 8080]] },
    ])
    const into: Case = { id: 'in', as: app, to: [[pod.address, 8080]] }
    const results = [...(await connect(pod, cases)), ...(await connect(peer, [into]))]
    return Object.fromEntries(results.map(({ id, steps: [step] }) => [id, step && reached(step)]))
  }

  const expected = {
    'app out': 'proxy:15001',
    'proxy out': 'peer',
    'root out': 'proxy:15001',
    'member out': 'peer',
    'inRange out': 'peer',
    'proxy to its own pod': 'proxy:15006',
    'app to its own pod': 'app',
    'proxy to loopback': 'app',
    in: 'proxy:15006',
  }

  test('each pod’s ids are its own, as with iptables of either backend', async () => {
    const maps = [scattered, plain]
    const ours = await Promise.all(maps.map((users, index) => lab.pod(`ours${index}`, { users })))
    await using datapath = new DatapathUnderTest('users')
    const agent = await datapath.start(configOf(datapath, ours, interception))
    const policies = ours.map((_, index) => agent.enrolment?.desired.pods.get(agent.outcomes[index]?.netns ?? 0n)?.policy)
    assert.notEqual(policies[0], policies[1])
    for (const [index, pod] of ours.entries()) {
      await startServers(pod)
      const seen = await answers(pod)
      for (const [id, listener] of Object.entries(expected)) assert.equal(seen[id], listener, `pod ${index}: ${id}`)
      for (const backend of ['nft', 'legacy'] as const) {
        const theirs = await lab.pod(`${backend}${index}`, { users: maps[index] ?? plain })
        const lock = ['env', `XTABLES_LOCKFILE=${theirs.directory}/lock`]
        await must(theirs.command([...lock, `iptables-${backend}-restore`]), { input: rules })
        await startServers(theirs)
        assert.deepEqual(seen, await answers(theirs), `pod ${index} and iptables-${backend}`)
        await theirs.remove()
      }
    }
  })

  test('the node’s own ids are nobody there, and pods show ids as their rules have them', async () => {
    const pod = await lab.pod('shown', { users: plain })
    await using datapath = new DatapathUnderTest('users-shown')
    const agent = await datapath.start(configOf(datapath, [pod], interception))
    await startServers(pod)
    const outside = ['nsenter', `--net=${pod.netns}`, 'setpriv', '--reuid=1337', '--regid=1337', '--clear-groups', '--']
    const script = `import socket; s = socket.create_connection(('${peer.address}', 8080), 5); print(s.makefile().readline())`
    assert.match(await must([...outside, '/usr/bin/python3', '-c', script]), /"proxy:15001"/)
    const [view] = await podViews(agent)
    assert.deepEqual(view?.listeners, ['0.0.0.0:15001 (uid 1337)', '0.0.0.0:15006 (uid 1337)', '0.0.0.0:8080 (uid 1000)'])
    assert.deepEqual(view?.warnings, [])
    const ruleFor = async (uid: string, gid: string) => {
      const query = new URLSearchParams({ pod: 'shown', to: `${peer.address}:8080`, uid, gid })
      const { rule, connection, matched } = await explainView(agent, { at: '', configPath: '', stateDir: '', cgroup, features: [] }, query)
      assert.deepEqual([connection.uid, connection.gid], [Number(uid), Number(gid)])
      return [rule?.name, ...matched.map(({ actual }) => actual)]
    }
    assert.deepEqual(await ruleFor('1337', '0'), ['proxy', 'uid 1337'])
    assert.deepEqual(await ruleFor('1000', '1450'), ['group', 'gid 1450'])
    assert.deepEqual(await ruleFor('1000', '1000'), ['rest'])
    assert.deepEqual(await ruleFor('701337', '0'), ['rest'], 'what the node calls it is nobody there')
  })

  test('an id that is not mapped matches nothing, with a warning', async () => {
    const pod = await lab.pod('unmapped', { users: { uid: ['0 500000 1100'], gid: plain.gid } })
    await using datapath = new DatapathUnderTest('users-unmapped')
    const agent = await datapath.start(configOf(datapath, [pod], interception))
    assert.deepEqual(agent.outcomes[0]?.warnings, [
      "uid 1337 (set 'proxy') is not mapped in the pod's user namespace: what is not mapped matches nothing",
      "uid 1400-1410 (set 'range') is not mapped in the pod's user namespace: what is not mapped matches nothing",
    ])
    assert.equal(agent.outcomes[0]?.state, 'enrolled')
    assert.equal((await connectOnce(pod, member, [peer.address, 8080])).error, undefined)
    assert.equal((await connectOnce(pod, root, [peer.address, 8080])).error, 'ECONNREFUSED', 'redirected, and no proxy listens')
  })

  test('a pod whose ids are not mapped yet is not guessed at, and enrolled as soon as they are', async () => {
    const name = `users-late-${process.pid}`
    const users = await UserNamespace.create(name, { uid: [], gid: [] })
    try {
      await using datapath = new DatapathUnderTest('users-late')
      const late = { name: 'late', netns: `/run/netns/${name}` } as LabPod
      const agent: Agent = await datapath.start(configOf(datapath, [late], interception))
      assert.equal(agent.outcomes[0]?.state, 'failed')
      assert.match(agent.outcomes[0]?.reason ?? '', /hostUsers: false.*uids are not mapped \(yet\) \(ENODATA\); trying again/)
      users.map(plain)
      await agent.tick()
      assert.equal(agent.outcomes[0]?.state, 'enrolled')
    } finally {
      await users.close()
      await must(['ip', 'netns', 'delete', name])
    }
  })

  test('reading leaves no process and no descriptor behind', async () => {
    const open = async () => (await must(['ls', `/proc/${process.pid}/fd`])).split('\n').length
    const children = async () => (await must(['ps', '--ppid', String(process.pid), '-o', 'pid='])).trim().split('\n').length
    const before = [await open(), await children()]
    for (let i = 0; i < 20; i++) {
      const name = `users-many-${process.pid}-${i}`
      const users = await UserNamespace.create(name, plain)
      const [state] = await native.namespaces.inspect([`/run/netns/${name}`])
      await users.close()
      await must(['ip', 'netns', 'delete', name])
      assert.ok(state !== undefined && 'users' in state && state.users !== undefined && 'uid' in state.users)
      assert.deepEqual(state.users.uid, [{ inside: 0, outside: 700_000, count: 65_536 }])
    }
    await until('as before', 2000, async () => ((await open()) <= (before[0] ?? 0) && (await children()) === before[1] ? true : undefined))
  })
})
