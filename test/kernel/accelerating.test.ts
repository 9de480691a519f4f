/** The agent's side of acceleration: programs that stay, go and are exchanged while connections are joined, and never a byte lost. */
import assert from 'node:assert/strict'
import { appendFileSync, copyFileSync, existsSync, readdirSync, renameSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { accelerate as switchAcceleration } from '../../core/acceleration/accelerate.ts'
import { AccelReason, AccelStop, accelCountCodec, accelKeyCodec, pairCodec, pairKeyCodec, programCodec, Splices } from '../../core/contract.ts'
import { acceleration } from '../../core/datapath/hooks.ts'
import { detach, planDetach } from '../../core/detach.ts'
import { objectPath } from '../../core/root.ts'
import { pinnedObjects, remaining } from '../lab/kernel.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, kernel, native } from './fixture.ts'
import { connection, cookieOf, redirected, untilRedirected } from './joined.ts'

const why = kernel.skip.get(acceleration.stub)

describe('acceleration under the agent', { timeout: 180_000, skip: why }, () => {
  let lab: Lab
  let pod: LabPod
  let port = 7000

  before(async () => {
    lab = await Lab.create('accel')
    pod = await lab.pod('pod')
  })
  after(() => lab.close())

  const leave = (datapath: DatapathUnderTest, options: object = {}) =>
    planDetach(native, { bpffs: datapath.bpffs, mode: 'bypass', podNames: new Map([[pod.netns, 'default/pod']]), waitMs: 200, ...options }).then(
      (plan) => detach(native, plan),
    )

  test('a connection inside a pod is joined; switches, budget and another build of the programs reach it; a restart changes nothing', async () => {
    await using datapath = new DatapathUnderTest('accel')
    const config = datapath.config([pod])
    const first = await datapath.start(datapath.config([pod], {}, { mode: 'none' }))
    assert.equal(first.datapath.acceleration.unavailable, undefined)
    assert.ok(!existsSync(join(datapath.pins, 'acceleration/reading')), 'while no pod has a mode, nothing runs at reads')
    await first.reload(config)
    assert.ok(existsSync(join(datapath.pins, 'acceleration/reading')))
    const netns = cookieOf(first, pod)
    await using ends = await connection(pod, ++port)
    await untilRedirected(first, netns, ends)
    const [pair] = await first.datapath.acceleration.pairs()
    assert.deepEqual(
      pair?.ends.map((end) => end.netns),
      [netns, netns],
    )

    const { acceleration: control } = first.datapath
    control.stop(AccelStop.OPERATOR)
    const stopped = await redirected(first, netns)
    await ends.tell('ping 20')
    assert.equal(await redirected(first, netns), stopped, 'switched off at the next message')
    assert.equal(control.stopped(), AccelStop.OPERATOR)
    control.resume(AccelStop.OPERATOR)
    await untilRedirected(first, netns, ends)
    await control.setCharged(true)
    await untilRedirected(first, netns, ends)
    control.setBudget(1000n)
    assert.equal(await ends.tell('send 50000'), '50000')
    assert.equal(await ends.tell('read'), '50000 right')
    control.setBudget(4_000_000n)
    control.stop(AccelStop.OPERATOR)
    await first[Symbol.asyncDispose]()

    const other = join(lab.directory, 'other.bpf.o')
    copyFileSync(objectPath('merbridge.bpf.o'), other)
    appendFileSync(other, 'another build')
    const second = await datapath.start(config, { object: other })
    assert.equal(second.datapath.acceleration.stopped(), AccelStop.OPERATOR, 'switches are in the kernel')
    assert.equal(second.datapath.acceleration.budget(), 8n * 1024n * 1024n, "the config's")
    assert.equal(cookieOf(second, pod), netns)
    second.datapath.acceleration.resume(AccelStop.OPERATOR)
    await untilRedirected(second, netns, ends)
  })

  test('what waits unread outlives a restart of the agent, and a detach waits for it', async () => {
    await using datapath = new DatapathUnderTest('accelwait')
    const config = datapath.config([pod])
    const first = await datapath.start(config)
    const netns = cookieOf(first, pod)
    await using ends = await connection(pod, ++port)
    await untilRedirected(first, netns, ends)
    const before = await redirected(first, netns)
    assert.equal(await ends.tell('send 100000'), '100000')
    assert.ok((await redirected(first, netns)) > before, 'it went over the fast path')
    await first[Symbol.asyncDispose]()
    const second = await datapath.start(config)
    await second[Symbol.asyncDispose]()
    const objects = await pinnedObjects(datapath.pins)

    const view = await leave(datapath)
    assert.deepEqual(view.waiting, [{ pod: 'default/pod', sockets: view.waiting[0]?.sockets ?? 0 }])
    assert.deepEqual(readdirSync(join(datapath.pins, 'maps')).sort(), ['accel_settings', 'accelerators', 'joined', 'pairs'])
    assert.equal((await leave(datapath)).waiting.length, 1, 'detaching again says the same')
    assert.equal(await ends.tell('send 5000'), '5000')
    assert.equal(await ends.tell('read'), '105000 right')
    const gone = await leave(datapath, { waitMs: 5000 })
    assert.deepEqual(gone.waiting, [])
    assert.equal(existsSync(datapath.bpffs), false)
    assert.equal(await ends.tell('send 70000'), '70000')
    assert.equal(await ends.tell('read'), '70000 right')
    assert.deepEqual(await remaining(objects), { programs: [], links: [], maps: [] })
  })

  test('a program that reads is looked at: Python may splice, so mode auto spares it and mode all does not', async () => {
    await using datapath = new DatapathUnderTest('acceljudge')
    const agent = await datapath.start(datapath.config([pod], {}, { mode: 'auto' }))
    const netns = cookieOf(agent, pod)
    await using ends = await connection(pod, ++port, app)
    const verdicts = async () => (await agent.datapath.maps.programs.entries()).map(({ value }) => programCodec.decode(value).splices)
    for (let round = 0; round < 60 && !(await verdicts()).includes(Splices.MAYBE); round++) {
      await ends.tell('ping 5')
      await agent.tick(false)
      await sleep(50)
    }
    assert.deepEqual(await verdicts(), [Splices.MAYBE])
    const spared = await redirected(agent, netns, AccelReason.PROGRAM)
    for (let round = 0; round < 40 && (await redirected(agent, netns, AccelReason.PROGRAM)) === spared; round++) {
      await agent.datapath.acceleration.joinLate()
      await ends.tell('ping 5')
    }
    assert.ok((await redirected(agent, netns, AccelReason.PROGRAM)) > spared)
    assert.equal(await redirected(agent, netns), 0)
    await agent.reload(datapath.config([pod], {}, { mode: 'all' }))
    await untilRedirected(agent, netns, ends)
  })

  test('counts and switches of pods that left go; entries of connections that ended do not pile up', async () => {
    await using datapath = new DatapathUnderTest('acceltidy')
    const agent = await datapath.start(datapath.config([pod]))
    const { acceleration: control, maps } = agent.datapath
    const netns = cookieOf(agent, pod)
    const left = accelKeyCodec.encode({ netns: 1n, reason: AccelReason.REDIRECTED })
    maps.accel_counters.update(left, Buffer.alloc(native.possibleCpus * accelCountCodec.size))
    await using ends = await connection(pod, ++port)
    await untilRedirected(agent, netns, ends)
    control.setHalted(netns, true)
    control.setHalted(1n, true)
    const nobody = pairKeyCodec.encode({ client: 1, server: 2 })
    maps.pairs.update(nobody, Buffer.concat([nobody, Buffer.alloc(pairCodec.size - nobody.length)]))
    await agent.tick(true)
    assert.deepEqual([...control.halted()], [netns])
    assert.equal(maps.accel_counters.lookup(left), undefined)
    assert.equal(maps.pairs.lookup(nobody), undefined)
    assert.ok((await redirected(agent, netns)) > 0, 'those of pods that are there stay')
    assert.equal((await control.pairs()).length, 1)
    await ends.tell('close')
    assert.deepEqual(await control.pairs(), [])
    await agent[Symbol.asyncDispose]()
    const again = await datapath.start(datapath.config([pod]))
    assert.deepEqual([...again.datapath.acceleration.halted()], [netns], 'a switch outlives the agent')
  })

  test('an operator may give up what waits', async () => {
    await using datapath = new DatapathUnderTest('accellose')
    const agent = await datapath.start(datapath.config([pod]))
    const netns = cookieOf(agent, pod)
    await using ends = await connection(pod, ++port)
    await untilRedirected(agent, netns, ends)
    await ends.tell('send 100000')
    await agent[Symbol.asyncDispose]()
    const objects = await pinnedObjects(datapath.pins)
    assert.deepEqual((await leave(datapath, { loseData: true })).waiting, [])
    assert.equal(existsSync(datapath.bpffs), false)
    assert.deepEqual(await remaining(objects), { programs: [], links: [], maps: [] })
  })

  test('joined sockets of another version are seen off in the background', async () => {
    await using datapath = new DatapathUnderTest('accelold')
    const config = datapath.config([pod])
    const first = await datapath.start(config)
    const netns = cookieOf(first, pod)
    await using ends = await connection(pod, ++port)
    await untilRedirected(first, netns, ends)
    assert.equal(await ends.tell('send 100000'), '100000')
    await first[Symbol.asyncDispose]()
    const old = join(datapath.bpffs, 'v-0000000000000000')
    renameSync(datapath.pins, old)
    const objects = await pinnedObjects(old)

    const next = await datapath.start(config)
    await next.removeOthers(datapath.bpffs)
    assert.ok(existsSync(join(old, 'maps/joined')))
    assert.ok(!existsSync(join(old, 'links')))
    await next.tick(true)
    assert.ok(existsSync(old), 'still unread')
    assert.equal(await ends.tell('read'), '100000 right')
    for (let turn = 0; turn < 20 && existsSync(old); turn++) await next.tick(true)
    assert.equal(existsSync(old), false)
    assert.equal(await ends.tell('ping 5'), 'ok')
    assert.deepEqual(await remaining(objects), { programs: [], links: [], maps: [] })
  })

  test('what an operator has switched off stays off when another version, or a datapath that lost parts, is replaced', async () => {
    await using datapath = new DatapathUnderTest('accelkeeps')
    const config = datapath.config([pod])
    let agent = await datapath.start(config)
    const { netns } = agent.outcomes[0] ?? {}
    assert(netns !== undefined)
    agent.datapath.acceleration.stop(AccelStop.OPERATOR)
    agent.datapath.acceleration.setHalted(netns, true)
    const replacing: readonly (readonly [string, () => void])[] = [
      ['another version', () => renameSync(datapath.pins, join(datapath.bpffs, 'v-0000000000000000'))],
      ['without a part', () => unlinkSync(join(datapath.pins, 'maps/readers'))],
    ]
    for (const [what, replace] of replacing) {
      await agent[Symbol.asyncDispose]()
      replace()
      agent = await datapath.start(config)
      const { adopted, acceleration: control, maps } = agent.datapath
      assert.deepEqual([adopted, control.stopped() & AccelStop.OPERATOR, [...control.halted()]], [false, AccelStop.OPERATOR, [netns]], what)
      assert.equal((await maps.halted.entries()).length, 1, what)
      await agent.removeOthers(datapath.bpffs)
    }
    agent.datapath.acceleration.resume(AccelStop.OPERATOR)
    assert.deepEqual(readdirSync(datapath.bpffs).length, 1, 'the earlier ones are gone, and have nothing to say any more')
  })

  test('a kernel that cannot, or shall not: interception as ever, and what was joined goes by TCP', async () => {
    await using datapath = new DatapathUnderTest('accelnot')
    const config = datapath.config([pod])
    const first = await datapath.start(config)
    const netns = cookieOf(first, pod)
    await using ends = await connection(pod, ++port)
    await untilRedirected(first, netns, ends)
    await first[Symbol.asyncDispose]()

    const reason = 'attach.without in the config'
    const skip = new Map([...kernel.skip, ...Object.values(acceleration).map((program) => [program, reason] as const)])
    const without = await datapath.start(config, { kernel: { ...kernel, skip, abilities: kernel.abilities & ~32n } })
    assert.equal(without.datapath.acceleration.unavailable, reason)
    assert.equal(without.datapath.features.find(({ id }) => id === 'acceleration')?.state, 'fallback')
    assert.ok(!existsSync(join(datapath.pins, 'links/join')) && !existsSync(join(datapath.pins, 'acceleration/reading')))
    const before = await redirected(without, netns)
    await ends.tell('ping 20')
    assert.equal(await redirected(without, netns), before)
    without.datapath.acceleration.resume(AccelStop.KERNEL)
    assert.equal(without.datapath.acceleration.stopped(), AccelStop.KERNEL, 'nobody switches on what is not there')
    for (const query of ['switch=off', 'switch=off&pod=pod']) {
      const view = await switchAcceleration(without, new URLSearchParams(query))
      assert.deepEqual([view.changed, view.accelerating, view.overrides[0]], [true, false, `this kernel cannot: ${reason}`])
    }
    await without[Symbol.asyncDispose]()
    const again = await datapath.start(config)
    const { acceleration: control } = again.datapath
    assert.deepEqual([control.stopped() & AccelStop.OPERATOR, [...control.halted()]], [AccelStop.OPERATOR, [netns]], 'what was said there is kept')
  })
})
