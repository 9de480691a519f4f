/** Pods that appear, vanish, or come back as another namespace under the same path while the agent runs. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Agent, until } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { connectOnce } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { startProxy } from './sidecar.ts'

/** Milliseconds from a pod's appearance until it is enrolled. */
const ENROLMENT_DEADLINE = 3_000
/** Milliseconds from the removal of a namespace's path until the kernel has freed what was in it. */
const FREED_DEADLINE = 2_000

describe('pods come and go', { timeout: 120_000 }, () => {
  let lab: Lab
  let web: LabPod
  let client: LabPod
  let agent: Agent
  let latePath: string

  before(async () => {
    lab = await Lab.create('pods')
    web = await lab.pod('web')
    client = await lab.pod('client')
    const late = await lab.pod('late', { address: '10.77.0.99/24' })
    latePath = late.netns
    await late.remove()
    await startProxy(web)
    const pods = [
      { name: 'late', netns: latePath },
      { name: 'web', netns: web.netns },
    ]
    agent = await Agent.start({ pods }, { wait: 'answering' })
  })

  after(async () => {
    await agent?.close()
    await lab?.close()
  })

  async function acceptedBy(pod: LabPod): Promise<string | undefined> {
    const { seen, error } = await connectOnce(client, app, [pod.address, 8080])
    return typeof seen === 'object' ? seen.listener : (seen ?? error)
  }

  const states = async () => Object.fromEntries((await agent.pods()).map((pod) => [pod.name, pod.state]))

  /** A namespace under the path that the config names for "late"; captured in time, its own listener found. */
  async function appears(): Promise<LabPod> {
    const pod = await lab.pod('late', { address: '10.77.0.99/24' })
    assert.equal(pod.netns, latePath)
    const since = performance.now()
    await startProxy(pod)
    await until('connections to it are captured', ENROLMENT_DEADLINE, async () => ((await acceptedBy(pod)) === 'late:15006' ? true : undefined))
    assert(performance.now() - since < ENROLMENT_DEADLINE)
    await agent.waitFor('both are enrolled', ENROLMENT_DEADLINE, (status) => status.pods.enrolled === 2)
    return pod
  }

  /** Both ends of a veth pair go with the namespace of either. */
  const ports = async () => (await must(lab.node.command(['ip', '-oneline', 'link', 'show', 'type', 'veth']))).trim().split('\n').length

  async function vanishes(pod: LabPod): Promise<void> {
    const before = await ports()
    await pod.remove()
    await until('its namespace is freed', FREED_DEADLINE, async () => ((await ports()) < before ? true : undefined))
    await agent.waitFor('it is missed', ENROLMENT_DEADLINE, (status) => status.pods.enrolled === 1 && status.pods.waiting === 1)
    assert.equal(await acceptedBy(web), 'web:15006')
  }

  test('a listed pod without a namespace is reported as waiting, the others work', async () => {
    await agent.waitFor('one is enrolled, one waits', 10_000, (status) => status.pods.enrolled === 1 && status.pods.waiting === 1)
    assert.deepEqual(await states(), { late: 'waiting', web: 'enrolled' })
    const waiting = (await agent.pods()).find((pod) => pod.name === 'late')
    assert.match(waiting?.reason ?? '', /netns|namespace|exist/)
    assert.equal(await acceptedBy(web), 'web:15006')
  })

  test('it appears, vanishes, and comes back as another namespace under the same path', async () => {
    await vanishes(await appears())
    await vanishes(await appears())
  })

  test('it is replaced between two looks of the agent', async () => {
    const pod = await appears()
    await pod.remove()
    await vanishes(await appears())
  })

  test('a pod is added to the config and taken out again', async () => {
    const extra = await lab.pod('extra')
    await startProxy(extra)
    assert.match((await acceptedBy(extra)) ?? '', /ECONNREFUSED/)
    await agent.write({ pods: [web, extra].map(({ name, netns }) => ({ name, netns })) })
    await agent.enrolled()
    assert.equal(await acceptedBy(extra), 'extra:15006')
    await agent.write({ pods: [{ name: 'web', netns: web.netns }] })
    await agent.enrolled()
    assert.equal(await acceptedBy(extra), 'ECONNREFUSED')
    assert.equal(await acceptedBy(web), 'web:15006')
  })
})
