/** The verdict of the self-test in an agent that runs: kept, of this kernel alone, and without it nothing but acceleration is missing. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFileSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { AccelStop } from '../../core/contract.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { objectPath } from '../../core/root.ts'
import { SelfTestGate } from '../../core/selftest/gate.ts'
import { exchangesPath } from '../../core/selftest/program.ts'
import { knownVerdict, runSelfTest, type SelfTest, saveVerdict } from '../../core/selftest/selftest.ts'
import { subjectOf } from '../../core/selftest/verdict.ts'
import { Agent, program } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { startApp, startProxy } from '../mesh/sidecar.ts'
import { MutantBuilder, mutants } from '../mutants/acceleration/build.ts'
import { connectOnce, traffic } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { cgroup, DatapathUnderTest, kernel, native, reached } from './fixture.ts'

const object = objectPath('merbridge.bpf.o')
const whole: SelfTest = { native, kernel, object, cgroup }
const run = promisify(execFile)

describe('the verdict of the self-test', { timeout: 200_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'merbridge-verdict-'))
  const never = new AbortController().signal
  let lab: Lab
  let pod: LabPod
  let peer: LabPod
  const stop: (() => Promise<unknown>)[] = []

  before(async () => {
    lab = await Lab.create('verdict')
    pod = await lab.pod('pod')
    peer = await lab.pod('peer')
    for (const server of await Promise.all([startProxy(pod), startApp(pod), startApp(peer)])) stop.push(() => server.stop())
  })
  after(async () => {
    for (const each of stop) await each()
    await lab.close()
    rmSync(directory, { recursive: true, force: true })
  })

  const once = { known: knownVerdict, run: runSelfTest, pauses: [] }

  const kept = (of: string, problems: readonly string[]) => ({
    of,
    at: '2026-01-02T03:04:05.000Z',
    ms: 7,
    checks: [{ name: 'kept', problems, ms: 7 }],
  })

  test('a second start uses it; another object, BTF or kernel does not', async () => {
    await using datapath = new DatapathUnderTest('verdict')
    const agent = await datapath.start(datapath.config([pod]))
    const { acceleration: switches } = agent.datapath
    const settle = async () => {
      const gate = new SelfTestGate(whole, directory, switches, () => {}, once)
      assert(switches.stopped() & AccelStop.KERNEL, 'nothing is accelerated before the verdict')
      await gate.settle(never)
      return gate.view
    }
    const first = await settle()
    assert.deepEqual([first.state, first.failed], ['passed', []])
    assert.equal(switches.stopped() & AccelStop.KERNEL, 0)
    const began = performance.now()
    const second = await settle()
    assert.deepEqual(second, first)
    assert(performance.now() - began < (first.ms ?? 0) / 2, 'it did not run again')

    const other = join(directory, 'other.bpf.o')
    copyFileSync(object, other)
    appendFileSync(other, 'another build')
    assert.notEqual(await knownVerdict(whole, directory), undefined)
    assert.equal(await knownVerdict({ ...whole, object: other }, directory), undefined)
    assert.equal(await knownVerdict({ ...whole, kernel: { ...kernel, btf: other } }, directory), undefined)
    assert.equal(await knownVerdict({ ...whole, kernel: { ...kernel, abilities: kernel.abilities ^ 1n } }, directory), undefined)
    const others = new Map([[kernel.skip.has(acceleration.late) ? acceleration.walk : acceleration.late, 'not wanted']])
    assert.equal(
      await knownVerdict({ ...whole, kernel: { ...kernel, skip: others } }, directory),
      undefined,
      'sockets are looked at by another program',
    )
    const script = `import { subjectOf } from '${join(import.meta.dirname, '../../core/selftest/verdict.ts')}'
      process.stdout.write(await subjectOf({ abilities: ${kernel.abilities}n, skip: new Map(${JSON.stringify([...kernel.skip])})${kernel.btf === undefined ? '' : `, btf: '${kernel.btf}'`} }, ['${object}', '${exchangesPath()}']))`
    const told = (...around: readonly string[]) => run('/usr/bin/env', [...around, process.execPath, '--input-type=module', '-e', script])
    const here = await subjectOf(kernel, [object, exchangesPath()])
    assert.equal((await told()).stdout, here)
    assert.notEqual((await told('setarch', '--uname-2.6')).stdout, here)
  })

  test('programs that fail it: nothing is accelerated, the agent says what failed, and interception works', async () => {
    using builder = new MutantBuilder()
    const [mutant] = mutants.filter(({ name }) => name === 'without order check')
    assert(mutant !== undefined)
    await using datapath = new DatapathUnderTest('unfit')
    const unfit = { ...whole, object: await builder.build(mutant) }
    const agent = await datapath.start(datapath.config([pod]), { object: unfit.object })
    const state = mkdtempSync(join(directory, 'state-'))
    const gate = new SelfTestGate(unfit, state, agent.datapath.acceleration, () => {}, once)
    await gate.settle(never)
    assert.equal(gate.view.state, 'failed')
    assert(gate.view.failed.some(({ name, problems }) => /order of bytes|what a socket does/.test(name) && problems.length > 0))
    assert(agent.datapath.acceleration.stopped() & AccelStop.KERNEL)
    agent.datapath.acceleration.resume(AccelStop.OPERATOR)
    assert(agent.datapath.acceleration.stopped() & AccelStop.KERNEL, 'switching on does not overrule it')
    assert.equal(reached(await connectOnce(pod, app, [peer.address, 8080])), 'pod:15001')
  })

  test('a failure that is kept is not believed: the test runs again; one by hand says the same', async () => {
    await using agent = await Agent.create({ pods: [{ name: 'web', netns: pod.netns }] })
    const state = join(agent.directory, 'state')
    await saveVerdict(state, kept(await subjectOf(kernel, [object, exchangesPath()]), ['bulk (client): a made-up problem']))
    await agent.run()
    const status = await agent.waitFor('the verdict is there', 60_000, (each) => each.selfTest?.state !== 'running')
    assert.deepEqual([status.selfTest?.state, status.selfTest?.failed], ['passed', []])
    assert.match((await agent.command(['status'])).stdout, /self-test of acceleration: passed/)
    assert.equal(reached(await connectOnce(pod, app, [peer.address, 8080])), 'pod:15001')

    const { code, stdout } = await agent.command(['selftest', '--output', 'json'])
    const told = JSON.parse(stdout) as { passed: boolean; checks: { problems: string[] }[] }
    assert.deepEqual([code, told.passed, told.checks.flatMap(({ problems }) => problems)], [0, true, []])
    await agent.kill('SIGTERM')
    await agent.run()
    await agent.waitFor('the verdict is there', 20_000, (each) => each.selfTest?.state === 'passed')
  })

  test('an agent that starts while traffic flows finds its verdict, and no connection notices', async () => {
    await using agent = await Agent.create({ pods: [{ name: 'web', netns: pod.netns }] })
    await agent.run()
    await agent.kill('SIGKILL')
    rmSync(join(agent.directory, 'state', 'selftest.json'), { force: true })
    const load = await traffic(pod, app, [peer.address, 8080], 3, 0.1)
    try {
      await agent.run()
      const status = await agent.waitFor('the self-test is over', 60_000, (each) => each.selfTest?.state !== 'running')
      assert.deepEqual([status.selfTest?.state, status.selfTest?.failed], ['passed', []])
    } finally {
      assert.deepEqual((await load.stop()).problems, {})
    }
  })

  test('merbridge selftest: exit code 1 where the kernel lacks what it needs, and without root, in words', async () => {
    await using agent = await Agent.create({ pods: [], without: ['kernel_reads'] })
    const { code, stdout } = await agent.command(['selftest', '--output', 'json'])
    const told = JSON.parse(stdout) as { passed: boolean; notTried?: string }
    assert.deepEqual([code, told.passed], [1, false])
    assert.match(told.notTried ?? '', /kernel_reads/)
    const rootless = ['--reuid', '65534', '--regid', '65534', '--clear-groups', process.execPath, '-e', '']
    const outcome = await run('/usr/bin/setpriv', rootless)
      .then(
        () => run('/usr/bin/setpriv', [...rootless.slice(0, 5), program, 'selftest']),
        () => undefined,
      )
      .catch((error: { code: number; stderr: string }) => error)
    if (outcome === undefined || !('code' in outcome)) return // another user cannot reach this checkout
    assert.equal(outcome.code, 1)
    assert.match(outcome.stderr, /root|capabilit/i)
  })
})
