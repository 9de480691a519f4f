/**
 * A pod that still has its mesh's iptables rules: enrolled, rules away, rules back, detached, with traffic in both directions all the time. At each
 * moment every connection reaches the sidecar, which learns where it was to go, and the app sees whom it asked for.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { currentLayout } from '../../core/datapath/layout.ts'
import { Agent, until } from '../lab/agent.ts'
import { applyIptables, istioRules } from '../lab/istio-iptables.ts'
import { inFull } from '../lab/long.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { startApp, startProxy } from '../mesh/sidecar.ts'
import { connect, connectOnce, type Endpoint, type Identity, type Step, traffic } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { native, seesProxy } from './fixture.ts'

type Backend = 'nft' | 'legacy'

async function createSite(prefix: string, address: string) {
  const lab = await Lab.create(prefix)
  const [pod, peer] = [await lab.pod('pod'), await lab.pod('peer')]
  await startProxy(pod, { address })
  await startApp(pod)
  await startApp(peer)
  return { lab, pod, peer, [Symbol.asyncDispose]: () => lab.close() }
}

function right(step: Step, listener: string, to: Endpoint, client: LabPod): void {
  const asked = `${to[0]}:${to[1]}`
  assert.equal(typeof step.seen === 'object' ? step.seen.listener : (step.seen ?? step.error), listener)
  if (typeof step.seen !== 'object') return
  if (listener.startsWith('pod:1')) assert.equal(step.seen.origin['16'], `${asked} (16 bytes)`)
  assert.equal(step.peer, seesProxy && /^pod:15.01$/.test(listener) ? listener.replace('pod', '127.0.0.1') : asked)
  assert.ok(step.seen.peer.startsWith(`${client.address}:`), `source ${step.seen.peer}`)
}

/** Every way in and out of the pod, at this moment. */
async function allRight(pod: LabPod, peer: LabPod): Promise<void> {
  const out: Endpoint = [peer.address, 8080]
  const into: Endpoint = [pod.address, 8080]
  const ways: readonly (readonly [id: string, as: Identity, to: Endpoint, listener: string])[] = [
    ['app goes out', app, out, 'pod:15001'],
    ['sidecar goes out', proxy, out, 'peer:app'],
    ['sidecar calls its pod', proxy, into, 'pod:15006'],
    ['app calls its pod', app, into, 'pod:app'],
  ]
  const [own, [from]] = await Promise.all([
    connect(pod, [...ways.map(([id, as, to]) => ({ id, as, to: [to] })), { id: 'passes on', as: proxy, to: [into], bind: ['127.0.0.6', 0] }]),
    connect(peer, [{ id: 'comes in', as: app, to: [into] }]),
  ])
  const step = (id: string) => own.find((each) => each.id === id)?.steps[0] ?? { when: 'never', error: id }
  for (const [id, , to, listener] of ways) right(step(id), listener, to, pod)
  right(from?.steps[0] ?? { when: 'never', error: 'comes in' }, 'pod:15006', into, peer)
  const { seen, error } = step('passes on')
  assert.equal(typeof seen === 'object' ? seen.listener : error, 'pod:app')
}

/** Nothing of the mesh's, but a rule that never matches: it keeps conntrack at work for the connections that rules have translated. */
const keeper = '*nat\n-A OUTPUT -d 255.255.255.255/32 -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n'
const invalidDrop = '*mangle\n-A PREROUTING -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n'
const flush = (pod: LabPod, backend: Backend) => must(pod.command([`iptables-${backend}`, '-t', 'nat', '-F']))

async function busy(pod: LabPod, peer: LabPod, inbound = true) {
  const ways: readonly (readonly [LabPod, Identity, Endpoint, string])[] = [
    [pod, app, [peer.address, 8080], 'pod:15001'],
    ...(inbound ? [[peer, app, [pod.address, 8080], 'pod:15006'] as const] : []),
  ]
  const running = await Promise.all(ways.map(([from, who, to]) => traffic(from, who, to, 5)))
  return async (tolerate = (_problem: string, _count: number) => false, rounds = 20) => {
    for (const [index, report] of (await Promise.all(running.map((each) => each.stop()))).entries()) {
      const problems = Object.entries(report.problems).filter(([problem, count]) => !tolerate(problem, count))
      assert.deepEqual(problems, [], `${ways[index]?.[3]}`)
      assert.deepEqual(Object.keys(report.reached), [ways[index]?.[3]])
      assert.ok(report.rounds >= rounds, `${report.rounds} rounds`)
    }
  }
}

const config = (pod: LabPod) => ({ pods: [{ name: 'web', namespace: 'shop', netns: pod.netns }] })
const named = (agent: Agent, yes: boolean) =>
  until(`the rules are ${yes ? 'noticed' : 'gone'}`, 15_000, async () =>
    (await agent.status()).pods.iptables.includes('shop/web') === yes ? true : undefined,
  )

for (const backend of ['nft', 'legacy'] as const) {
  describe(`a pod with iptables rules (${backend})`, { timeout: 120_000 }, () => {
    for (const address of ['0.0.0.0', '127.0.0.1']) {
      const skip = backend === 'legacy' && address !== '0.0.0.0' && inFull
      test(`enrolled, rules away, rules back, detached: no connection notices; proxy on ${address}`, { skip }, async () => {
        await using site = await createSite(`rules-${backend}`, address)
        const { pod, peer } = site
        await applyIptables(pod, istioRules(), backend)
        await applyIptables(pod, invalidDrop, backend)
        // The rules send inbound connections to the pod's address, so there only the other proxy is reached.
        const done = await busy(pod, peer, address === '0.0.0.0')
        await using agent = await Agent.start(config(pod))
        await allRight(pod, peer)
        await named(agent, true)
        await applyIptables(pod, keeper, backend)
        await allRight(pod, peer)
        await applyIptables(pod, istioRules(), backend)
        await allRight(pod, peer)
        await agent.kill('SIGKILL')
        await agent.run()
        await allRight(pod, peer)
        await agent.kill('SIGTERM')
        const { code, stderr, view } = await agent.detach()
        assert.equal(code, 0, stderr)
        assert.deepEqual(view?.bypassed, [])
        if (address === '0.0.0.0') await allRight(pod, peer)
        await done()
      })
    }

    test('rules flushed and written again: every connection that is made then is right', async () => {
      await using site = await createSite(`flush-${backend}`, '0.0.0.0')
      const { pod, peer } = site
      await applyIptables(pod, istioRules(), backend)
      await using agent = await Agent.start(config(pod))
      await named(agent, true)
      const done = await busy(pod, peer)
      await flush(pod, backend)
      await allRight(pod, peer)
      await named(agent, false)
      await applyIptables(pod, istioRules(), backend)
      await allRight(pod, peer)
      // What the rules have translated breaks with them, in any pod: the kernel ends conntrack with the last rule that uses it. That holds for the one that
      // is being made at that moment, too: one of each traffic when the rules go, and one when they come.
      await done((problem, count) => problem.startsWith('old connection') || (problem === 'new connection: TIMEOUT' && count <= 2), 1) // old ones that are broken hold up each round
    })

    test('a source port that conntrack knows from before: the sidecar still learns the destination', {
      skip: backend === 'legacy' && inFull,
    }, async () => {
      await using site = await createSite(`port-${backend}`, '0.0.0.0')
      const { pod, peer } = site
      await applyIptables(pod, istioRules(), backend)
      const from = (port: number) => ({ bind: [pod.address, port] as const })
      right(await connectOnce(pod, app, [peer.address, 8080], from(40_001)), 'pod:15001', [peer.address, 8080], pod)
      await using agent = await Agent.start(config(pod))
      const again = await connectOnce(pod, app, [peer.address, 8081], from(40_001))
      right(again, 'pod:15001', [peer.address, 8081], pod)
      assert.ok(typeof again.seen === 'object' && again.seen.peer !== again.local, 'conntrack gave it another port, or this tests nothing')
      using handovers = native.pinnedMap(currentLayout(agent.bpffs).map('handovers'))
      assert.deepEqual(await handovers.entries(), [])
    })
  })
}

test('named in status and pods, in the log once, until the rules are gone; without rules nobody is', { timeout: 60_000 }, async () => {
  await using site = await createSite('named', '0.0.0.0')
  const { pod, peer } = site
  await using agent = await Agent.start({ pods: [...config(pod).pods, { name: 'peer', netns: peer.netns }] })
  assert.deepEqual((await agent.status()).pods.iptables, [])
  assert.doesNotMatch((await agent.command(['status'])).stdout, /iptables rules of their own/)
  await applyIptables(pod, istioRules(), 'nft')
  assert.deepEqual((await agent.status()).pods.iptables, ['shop/web'])
  assert.match((await agent.command(['status'])).stdout, /with iptables rules of their own as well: shop\/web\n/)
  assert.deepEqual(
    (await agent.pods()).map(({ name, iptables }) => [name, iptables]),
    [
      ['web', true],
      ['peer', false],
    ],
  )
  assert.match((await agent.command(['pods'])).stdout, /shop\/web .*has NAT rules of its own as well/)
  await sleep(2500)
  assert.equal((await agent.log()).match(/has iptables rules of its own/g)?.length, 1)
  await flush(pod, 'nft')
  assert.deepEqual((await agent.status()).pods.iptables, [])
  assert.match(await agent.log(), /has no iptables rules of its own any more/)
})

test('noticed within a few seconds by itself, and remembered by the next agent', { timeout: 60_000 }, async () => {
  await using site = await createSite('noticed', '0.0.0.0')
  await using agent = await Agent.start(config(site.pod))
  const entries = async () => {
    using map = native.pinnedMap(currentLayout(agent.bpffs).map('nat_pods'))
    return (await map.entries()).length
  }
  assert.equal(await entries(), 0)
  await applyIptables(site.pod, istioRules(), 'legacy')
  await until('it is told to the programs', 15_000, async () => ((await entries()) === 1 ? true : undefined))
  await flush(site.pod, 'legacy')
  await agent.kill('SIGKILL')
  await agent.run()
  assert.deepEqual((await agent.status()).pods.iptables, [])
  assert.equal(await entries(), 1)
})

test('rules for other ports than the config says: the config wins, and the pod has a warning', { timeout: 60_000 }, async () => {
  await using lab = await Lab.create('ports')
  const [pod, peer] = [await lab.pod('pod'), await lab.pod('peer')]
  await startProxy(pod, { ports: [15001, 15006, 15101, 15106] })
  await startApp(pod)
  await startApp(peer)
  await applyIptables(pod, istioRules(), 'nft')
  await using agent = await Agent.start({ ...config(pod), options: { proxyPort: 15101, inboundPort: 15106 } })
  right(await connectOnce(pod, app, [peer.address, 8080]), 'pod:15101', [peer.address, 8080], pod)
  right(await connectOnce(peer, app, [pod.address, 8080]), 'pod:15106', [pod.address, 8080], peer)
  const warnings = async () => (await agent.pods())[0]?.warnings.join()
  assert.match((await warnings()) ?? '', /iptables rules redirect to port 15001 and 15006, the config to 15101 and 15106/)
  await agent.write(config(pod))
  await until('the warning is gone', 10_000, async () => ((await warnings()) === '' ? true : undefined))
  right(await connectOnce(pod, app, [peer.address, 8080]), 'pod:15001', [peer.address, 8080], pod)
})
