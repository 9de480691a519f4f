/** The program itself: `merbridge run`, its status, what stays when it is killed, and what is left when it leaves. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { MerbridgeError } from '../../core/errors.ts'
import { probeKernel } from '../../core/features/probe.ts'
import { native } from '../../core/native/index.ts'
import type { PlanView } from '../../core/plan/view.ts'
import type { StatusView } from '../../core/views.ts'
import { Agent, until } from '../lab/agent.ts'
import { pinnedObjects, relatedObjects, remaining } from '../lab/kernel.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { startApp, startProxy } from '../mesh/sidecar.ts'
import { connectOnce, traffic } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { ACCELERATES, accelerationCheck } from './acceleration-check.ts'
import type { Check, Group } from './checks.ts'

const MISSING = 'what is missing is named'
const ENROLS = 'merbridge run enrols'
const KILLED = 'killed in the middle of traffic'
const ADOPTS = 'a restart adopts'
const LEAVES = 'detach leaves nothing'

/** A start without BTF is refused with the way out. */
async function missingBtf(): Promise<string> {
  const hidden = !existsSync('/sys/kernel/btf/vmlinux')
  const error: unknown = await probeKernel(native, { btf: hidden ? 'auto' : '/run/no.btf', without: [] }).catch((reason: unknown) => reason)
  assert.ok(error instanceof MerbridgeError && error.code === 'KERNEL_UNSUPPORTED', String(error))
  assert.match(error.message, hidden ? /has no BTF/ : /\/run\/no\.btf is not a file/)
  assert.match(error.hint, hidden ? /attach\.btf/ : /BTF of this very kernel/)
  return error.message
}

interface Running {
  readonly agent: Agent
  readonly pod: LabPod
  readonly peer: LabPod
  readonly generation: number
}

async function killedAndRestarted({ agent, pod, peer, generation }: Running, check: Check): Promise<void> {
  const pinned = await pinnedObjects(agent.bpffs)
  const load = await traffic(pod, app, [peer.address, 8080], 3, 0.3) // slow: it shares the machine with an agent that starts
  await check(KILLED, async () => {
    await agent.kill('SIGKILL')
    const step = await connectOnce(peer, app, [pod.address, 8080])
    assert.equal(typeof step.seen === 'object' ? step.seen.listener : step.error, 'pod:15006')
    return 'new connections are intercepted'
  })
  await check(ADOPTS, async () => {
    await agent.run()
    const now = await agent.enrolled()
    assert.equal(now.config.generation, generation)
    assert.deepEqual(await pinnedObjects(agent.bpffs), pinned, 'the same programs, links and maps')
    const report = await load.stop()
    assert.deepEqual(report.problems, {})
    assert.deepEqual(Object.keys(report.reached), ['pod:15001'])
    return `${report.rounds} rounds of traffic through kill and restart`
  })
}

/** `onStatus` gets what `merbridge status` says. */
export const agentChecks = ({ short }: { readonly short: boolean }, onStatus: (status: StatusView) => void): Group => ({
  names: short ? [MISSING, ENROLS, ACCELERATES, LEAVES] : [MISSING, ENROLS, ACCELERATES, KILLED, ADOPTS, LEAVES],
  run: async (check) => {
    await using lab = await Lab.create('agent')
    const [pod, peer] = [await lab.pod('pod'), await lab.pod('peer')]
    await Promise.all([startProxy(pod), startApp(pod), startApp(peer)])
    await check(MISSING, missingBtf)
    await using agent = await Agent.create({ pods: [{ name: 'web', netns: pod.netns }] })
    let status: StatusView | undefined
    await check(ENROLS, async () => {
      await agent.run()
      status = await agent.status()
      onStatus(status)
      const plan = await agent.command(['plan', '--output', 'json'])
      assert.equal(plan.code, 0, plan.stderr)
      assert.equal((JSON.parse(plan.stdout) as PlanView).changes, false, plan.stdout)
      return `pid ${status.agent.pid}`
    })
    if (status === undefined) throw new Error('merbridge run did not enrol the pod')
    await accelerationCheck(agent, pod, check)
    if (!short) await killedAndRestarted({ agent, pod, peer, generation: status.config.generation }, check)
    await check(LEAVES, async () => {
      await agent.kill('SIGTERM')
      const owned = await relatedObjects(agent.bpffs)
      const { code, stderr } = await agent.detach('--bypass')
      assert.equal(code, 0, stderr)
      await until('every program, link and map is gone', 15_000, async () => {
        const left = await remaining(owned)
        return left.programs.length + left.links.length + left.maps.length === 0 ? true : undefined
      })
      assert.equal(existsSync(agent.bpffs), false, 'the directory of the pins')
      const step = await connectOnce(pod, app, [peer.address, 8080])
      assert.equal(typeof step.seen === 'object' ? step.seen.listener : step.error, 'peer:app')
      return `${owned.programs.length} programs, ${owned.links.length} links, ${owned.maps.length} maps gone`
    })
  },
})
