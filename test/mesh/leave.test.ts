/** Leaving is clean, and never silently unsafe. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, test } from 'node:test'
import { Agent, until } from '../lab/agent.ts'
import { applyIptables, istioRules } from '../lab/istio-iptables.ts'
import { relatedObjects, remaining } from '../lab/kernel.ts'
import { Lab } from '../lab/net.ts'
import { connectOnce, type Step, traffic } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { startApp, startProxy } from './sidecar.ts'

const acceptedBy = ({ seen, error }: Step) => (typeof seen === 'object' ? seen.listener : (seen ?? error))

async function setting(lab: Lab) {
  const [pod, peer] = [await lab.pod('pod'), await lab.pod('peer')]
  const sidecar = await startProxy(pod)
  await startApp(pod)
  await startApp(peer)
  return {
    pod,
    peer,
    sidecar,
    out: async () => acceptedBy(await connectOnce(pod, app, [peer.address, 8080])),
    into: async () => acceptedBy(await connectOnce(peer, app, [pod.address, 8080])),
  }
}

describe('detach', { timeout: 120_000 }, () => {
  test('refuses while a pod would bypass its proxy, and names it', async () => {
    await using lab = await Lab.create('leave')
    const { pod, out, into } = await setting(lab)
    await using agent = await Agent.start({ pods: [{ name: 'web', namespace: 'shop', netns: pod.netns }] })
    await agent.kill('SIGTERM')
    const outcome = await agent.detach()
    assert.equal(outcome.code, 1)
    assert.match(outcome.stderr + outcome.stdout, /shop\/web/)
    assert.match(outcome.stderr + outcome.stdout, /--bypass/)
    assert.match(outcome.stderr + outcome.stdout, /--block/)
    assert.equal(await out(), 'pod:15001')
    assert.equal(await into(), 'pod:15006')
  })

  test('--bypass leaves nothing, and connections go on', async () => {
    await using lab = await Lab.create('leave')
    const { pod, peer, sidecar, out, into } = await setting(lab)
    await using agent = await Agent.start({ pods: [{ name: 'web', netns: pod.netns }] })
    const owned = await relatedObjects(agent.bpffs)
    assert(owned.programs.length > 0 && owned.links.length > 0 && owned.maps.length > 0)
    const running = await Promise.all([traffic(pod, app, [peer.address, 8080], 5), traffic(peer, app, [pod.address, 8080], 5)])
    await agent.kill('SIGTERM')
    const { code, view, stderr } = await agent.detach('--bypass')
    assert.equal(code, 0, stderr)
    assert.match(view?.bypassed.join(' ') ?? '', /web/)
    await until('every program, link and map is gone', 10_000, async () => {
      const left = await remaining(owned)
      return left.programs.length + left.links.length + left.maps.length === 0 ? true : undefined
    })
    assert(!existsSync(agent.bpffs), 'no pin and no directory is left')
    const accepted = await sidecar.accepted()
    assert.equal(await out(), 'peer:app')
    assert.equal(await into(), 'pod:app')
    assert.equal(await sidecar.accepted(), accepted)
    for (const report of await Promise.all(running.map((each) => each.stop()))) {
      const old = Object.keys(report.problems).filter((problem) => problem.startsWith('old connection'))
      assert.deepEqual(old, [])
      assert(report.rounds > 0)
    }
  })

  test('--block refuses what the mesh would have taken, until it is taken back', async () => {
    await using lab = await Lab.create('leave')
    const { pod, peer, out, into } = await setting(lab)
    await using agent = await Agent.start({ pods: [{ name: 'web', netns: pod.netns }] })
    const running = await traffic(pod, proxy, ['127.0.0.1', 8080], 2)
    await agent.kill('SIGTERM')
    const { code, view, stderr } = await agent.detach('--block')
    assert.equal(code, 0, stderr)
    assert.match(view?.blocked.join(' ') ?? '', /web/)
    assert.equal(await out(), 'ECONNREFUSED')
    assert.equal(await into(), 'ECONNREFUSED')
    assert.equal(acceptedBy(await connectOnce(pod, app, ['127.0.0.1', 8080])), 'pod:app', 'what the mesh does not take is left alone')
    assert.equal(acceptedBy(await connectOnce(pod, proxy, [peer.address, 8080])), 'peer:app')
    assert.deepEqual((await running.stop()).problems, {})
  })

  test('leaves at once where every pod has its iptables rules', async () => {
    await using lab = await Lab.create('leave')
    const { pod, out, into } = await setting(lab)
    await applyIptables(pod, istioRules())
    await using agent = await Agent.start({ pods: [{ name: 'web', netns: pod.netns }] })
    assert.equal(await out(), 'pod:15001')
    assert.equal(await into(), 'pod:15006')
    assert.equal((await agent.pods())[0]?.iptables, true)
    await agent.kill('SIGTERM')
    const { code, stderr } = await agent.detach()
    assert.equal(code, 0, stderr)
    assert.equal(await out(), 'pod:15001')
    assert.equal(await into(), 'pod:15006')
    assert(!existsSync(agent.bpffs))
  })
})
