/** On each kernel: acceleration is there and passed its self-test, or it says why not; and a talk inside a pod is right either way. */
import assert from 'node:assert/strict'
import { connection } from '../kernel/joined.ts'
import type { Agent } from '../lab/agent.ts'
import type { LabPod } from '../lab/net.ts'
import type { Check } from './checks.ts'

export const ACCELERATES = 'acceleration, or why not'

let port = 7900

/** Emulation is slow, and the self-test runs beside other checks. */
const patienceMs = 120_000

export const accelerationCheck = (agent: Agent, pod: LabPod, check: Check): Promise<void> =>
  check(ACCELERATES, async () => {
    const { selfTest, acceleration } = await agent.waitFor('the self-test is over', patienceMs, (each) => each.selfTest?.state !== 'running')
    assert(selfTest !== undefined)
    const { can, reason } = acceleration.kernel
    if (selfTest.state === 'unneeded') assert(!can && reason, 'it says why this kernel cannot')
    if (selfTest.state === 'failed') assert(selfTest.failed.length > 0, 'it says what failed')
    await using ends = await connection(pod, ++port)
    assert.equal(await ends.tell('ping 20'), 'ok')
    await new Promise((resolve) => setTimeout(resolve, 1000)) // in which it joins
    assert.equal(await ends.tell('ping 20'), 'ok')
    assert.equal(await ends.tell('send 100000'), '100000')
    assert.equal(await ends.tell('read'), '100000 right')
    assert.equal(await ends.tell('close'), 'ok')
    const failed = selfTest.failed.map(({ name, problems }) => `${name}: ${problems[0]}`).join('; ')
    const sent = (await agent.status()).acceleration.accelerated.messages
    return selfTest.state === 'passed' ? `${selfTest.ms} ms, ${sent} messages redirected` : (reason ?? failed)
  })
