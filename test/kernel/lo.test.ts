/** What the agent puts at the lo of pods and takes away again, in both ways to attach the program there. */
import assert from 'node:assert/strict'
import { unlinkSync } from 'node:fs'
import { after, describe, test } from 'node:test'
import type { AgentConfig } from '../../core/agent.ts'
import { AddedKind, addedCodec } from '../../core/contract.ts'
import { currentLayout } from '../../core/datapath/layout.ts'
import { detach, planDetach } from '../../core/detach.ts'
import { probeKernel } from '../../core/features/probe.ts'
import { podViews } from '../../core/observe/pods.ts'
import { using } from '../../core/scope.ts'
import { until } from '../lab/agent.ts'
import { Lab, must } from '../lab/net.ts'
import { btf, without as missing } from '../lab/without.ts'
import { DatapathUnderTest, native } from './fixture.ts'
import { isLinked, lo, type Options, plugin, qdisc } from './lo.ts'

const lab = await Lab.create('lo')
const pod = await lab.pod('pod')
const other = await lab.pod('other')
after(() => lab.close())

const ip = (...words: string[]) => must(pod.command(['ip', '-6', ...words]))
const nothing = { addresses: [], route: false, filter: false }
const detachAll = async (bpffs: string) => detach(native, await planDetach(native, { bpffs, mode: 'bypass', podNames: new Map() }))

for (const [hook, without] of [
  ['link', []],
  ['filter', ['tcx']],
] as const) {
  const kernel = await probeKernel(native, { btf, without: [...new Set([...missing, ...without])] })
  const skip = kernel.loopback !== hook
  const all = { addresses: ['::6/128'], route: true, filter: hook === 'filter' }

  describe(`lo, with the program as a ${hook}`, { timeout: 240_000, skip }, () => {
    const config = (datapath: DatapathUnderTest, options: Options = {}, pods = [pod]): AgentConfig => datapath.withPlugin(pods, plugin, options)
    const program = async ({ bpffs }: DatapathUnderTest) => (hook === 'link' ? isLinked(bpffs) : (await lo(pod)).filter)

    test('a pod gets what its rules need, the part for UDP stays with other rules, and a pod that leaves has nothing', async () => {
      await using datapath = new DatapathUnderTest('lo')
      await using agent = await datapath.start(config(datapath), { kernel })
      assert.deepEqual(await lo(pod), all)
      assert.equal(await program(datapath), true)
      const [view] = await podViews(agent)
      const routes = ['fd6d:6572:6272:6964::/96', '127.0.0.1/32 for interface 2', '::1/128 for interface 2'].map(
        (route) => `local route ${route}, added`,
      )
      assert.deepEqual(view?.loopback, [`program mb_lo (${hook})`, '::6, added', ...routes])
      assert.deepEqual(view?.addresses, [pod.address])

      await agent.reload(config(datapath, { udp: false }))
      assert.deepEqual(await lo(pod), all)
      assert.equal(await program(datapath), true)
      assert.deepEqual((await podViews(agent))[0]?.loopback, view?.loopback)
      await agent.reload(config(datapath, { udp: false, addresses: [] }))
      assert.deepEqual(await lo(pod), { ...all, addresses: [] })
      assert.equal(await program(datapath), true)
      await ip('route', 'del', 'local', 'fd6d:6572:6272:6964::/96', 'dev', 'lo', 'table', 'local')
      await until('the route is back', 5000, async () => {
        await agent.tick()
        return (await lo(pod)).route || undefined
      })
      await agent.reload(config(datapath, { addresses: ['::7', '::8'] }))
      assert.deepEqual(await lo(pod), { ...all, addresses: ['::8/128', '::7/128'] })
      await agent.reload(config(datapath, {}, [other]))
      assert.deepEqual(await lo(pod), nothing)
      assert.equal(await qdisc(pod), false)
      assert.deepEqual(await lo(other), all)
      await agent.reload(config(datapath, {}, []))
      assert.deepEqual(await agent.datapath.maps.added.entries(), [])
      assert.deepEqual(await lo(other), nothing)
    })

    test('the mirror of its routes knows both at once, and idle ticks do nothing', async () => {
      await using datapath = new DatapathUnderTest('lo')
      const tentative = async () => (await must(pod.command(['ip', '-6', 'address', 'show', 'tentative']))).trim() === '' || undefined
      await until("the link's own address is settled", 10_000, tentative)
      await using agent = await datapath.start(config(datapath), { kernel })
      const mirror = agent.datapath.have.routes
      await agent.tick()
      await agent.tick()
      assert.equal(agent.datapath.have.routes.size, mirror.size)
      for (const [id, { value }] of mirror) assert.deepEqual(agent.datapath.have.routes.get(id)?.value, value)
      const generation = agent.datapath.meta().generation
      for (let tick = 0; tick < 12; tick++) await agent.tick()
      assert.equal(agent.datapath.meta().generation, generation)
      assert.deepEqual(
        datapath.logged.filter(({ level }) => level !== 'info'),
        [],
      )
    })

    test('a next agent knows it; detach takes it away without any', async () => {
      await using datapath = new DatapathUnderTest('lo')
      const first = await datapath.start(config(datapath), { kernel })
      await first[Symbol.asyncDispose]()
      assert.deepEqual(await lo(pod), all)
      const second = await datapath.start(config(datapath, { udp: false, addresses: [] }), { kernel })
      assert.deepEqual(await lo(pod), { ...all, addresses: [] })
      assert.equal(await program(datapath), true)
      await second[Symbol.asyncDispose]()
      const view = await detachAll(datapath.bpffs)
      assert.deepEqual(view.left, [])
      assert.match(view.removed.join('\n'), /local route 127\.0\.0\.1\/32 for interface 2 of lo of/)
      assert.equal(await must(pod.command(['ip', 'route', 'show', 'table', 'local', 'proto', '109'])), '')
      assert.match(view.removed.join('\n'), /local route fd6d:6572:6272:6964::\/96 of lo of/)
      assert.deepEqual(await lo(pod), nothing)
      assert.equal(await qdisc(pod), false)
    })

    test('an agent that was killed between the record and the deed, or after both, leaves nothing unknown', async () => {
      await using datapath = new DatapathUnderTest('lo')
      const first = await datapath.start(config(datapath, { udp: false, addresses: [] }), { kernel })
      const [netns = 0n] = first.outcomes.map((outcome) => outcome.netns)
      const record = (last: number) => addedCodec.encode({ netns, kind: AddedKind.ADDRESS, length: 128, addr: [0, 0, 0, last], family: 6, device: 0 })
      first.datapath.maps.added.update(record(6), Buffer.from([1, 0, 0, 0]))
      first.datapath.maps.added.update(record(7), Buffer.from([1, 0, 0, 0]))
      await ip('address', 'add', '::7/128', 'dev', 'lo', 'nodad')
      await first[Symbol.asyncDispose]()
      const second = await datapath.start(config(datapath), { kernel })
      assert.deepEqual(await lo(pod), all, 'what nobody wants is gone, what is wanted is made')
      await second[Symbol.asyncDispose]()
      await detachAll(datapath.bpffs)
      assert.deepEqual(await lo(pod), nothing)
    })

    test('detach finds a pod whose inbound link somebody has detached', async () => {
      await using datapath = new DatapathUnderTest('lo')
      const first = await datapath.start(config(datapath), { kernel })
      await first[Symbol.asyncDispose]()
      const layout = currentLayout(datapath.bpffs)
      for (const netns of layout.pods()) using(native.pinnedLink(layout.pod(netns)), (link) => link.detach())
      await detachAll(datapath.bpffs)
      assert.deepEqual(await lo(pod), kernel.tellsCookies ? nothing : all)
    })

    test('an agent whose config does not list the pod any more finds it', async () => {
      await using datapath = new DatapathUnderTest('lo')
      const first = await datapath.start(config(datapath), { kernel })
      await first[Symbol.asyncDispose]()
      const second = await datapath.start(config(datapath, {}, [other]), { kernel })
      assert.deepEqual(await lo(pod), nothing)
      await second[Symbol.asyncDispose]()
    })

    test('what was there before stays: address, route, qdisc', async () => {
      await ip('address', 'add', '::6/128', 'dev', 'lo', 'nodad')
      await ip('route', 'add', 'local', 'fd6d:6572:6272:6964::/96', 'dev', 'lo', 'table', 'local')
      await must(pod.command(['tc', 'qdisc', 'add', 'dev', 'lo', 'clsact']))
      {
        await using datapath = new DatapathUnderTest('lo')
        await using agent = await datapath.start(config(datapath), { kernel })
        const [view] = await podViews(agent)
        assert.deepEqual(view?.loopback.slice(1, 3), ['::6, was there', 'local route fd6d:6572:6272:6964::/96, was there'])
        await agent.reload(config(datapath, {}, []))
        assert.deepEqual(await lo(pod), { ...all, filter: false })
        await agent.reload(config(datapath))
        await agent[Symbol.asyncDispose]()
        await detachAll(datapath.bpffs)
      }
      assert.deepEqual(await lo(pod), { ...all, filter: false })
      assert.equal(await qdisc(pod), true)
      await ip('address', 'del', '::6/128', 'dev', 'lo')
      await ip('route', 'del', 'local', 'fd6d:6572:6272:6964::/96', 'dev', 'lo', 'table', 'local')
      await must(pod.command(['tc', 'qdisc', 'del', 'dev', 'lo', 'clsact']))
    })

    test('what somebody removes is put back', async () => {
      await using datapath = new DatapathUnderTest('lo')
      await using agent = await datapath.start(config(datapath), { kernel })
      await ip('address', 'del', '::6/128', 'dev', 'lo')
      await ip('route', 'del', 'local', 'fd6d:6572:6272:6964::/96', 'dev', 'lo', 'table', 'local')
      await agent.tick()
      assert.deepEqual(await lo(pod), all)
      await must(pod.command(['ip', 'link', 'set', 'lo', 'down']))
      await agent.tick()
      await must(pod.command(['ip', 'link', 'set', 'lo', 'up']))
      await agent.tick()
      await agent.tick()
      assert.deepEqual(await lo(pod), all)

      const layout = currentLayout(datapath.bpffs)
      const harm = {
        link: [
          () => {
            for (const netns of layout.loopbacks()) using(native.pinnedLink(layout.loopback(netns)), (link) => link.detach())
          },
          () => {
            for (const netns of layout.loopbacks()) unlinkSync(layout.loopback(netns))
          },
        ],
        filter: [
          () => must(pod.command(['tc', 'filter', 'del', 'dev', 'lo', 'egress'])),
          () => must(pod.command(['tc', 'qdisc', 'del', 'dev', 'lo', 'clsact'])),
        ],
      }
      for (const work of harm[hook]) {
        await work()
        assert.equal(await program(datapath), false)
        await until('it is back', 5000, async () => {
          await agent.tick(true)
          return (await program(datapath)) || undefined
        })
      }
      await agent.reload(config(datapath, {}, []))
      assert.deepEqual(await lo(pod), nothing)
      assert.equal(await qdisc(pod), false)
    })

    test('a namespace that ends leaves nothing, and disturbs nobody', async () => {
      await using datapath = new DatapathUnderTest('lo')
      const vanishing = await lab.pod('vanishing')
      await using agent = await datapath.start(config(datapath, {}, [pod, vanishing]), { kernel })
      assert.deepEqual(await lo(vanishing), all)
      await vanishing.remove()
      await agent.tick()
      assert.equal((await agent.datapath.maps.added.entries()).length, hook === 'link' ? 4 : 6, 'those of the other pod')
      assert.deepEqual(await lo(pod), all)
    })

    test('a pod whose plugin fails keeps what it has', async () => {
      await using datapath = new DatapathUnderTest('lo')
      const first = await datapath.start(config(datapath), { kernel })
      await first[Symbol.asyncDispose]()
      const second = await datapath.start(config(datapath, { broken: true }), { kernel }, false)
      assert.equal(second.outcomes[0]?.kept, true)
      assert.deepEqual(await lo(pod), all)
      assert.equal(await program(datapath), true)
      await second[Symbol.asyncDispose]()
    })
  })
}

test('an agent that attaches in another way than the one before leaves none of both', {
  skip: (await probeKernel(native, { btf, without: missing })).loopback !== 'link',
}, async () => {
  await using datapath = new DatapathUnderTest('lo')
  for (const without of [[], ['tcx'], []] as const) {
    const kernel = await probeKernel(native, { btf, without })
    const agent = await datapath.start(datapath.withPlugin([pod], plugin, {}), { kernel })
    assert.deepEqual(await lo(pod), { addresses: ['::6/128'], route: true, filter: kernel.loopback === 'filter' })
    assert.equal(currentLayout(datapath.bpffs).loopbacks().length, kernel.loopback === 'link' ? 1 : 0)
    assert.equal(await qdisc(pod), kernel.loopback === 'filter')
    await agent[Symbol.asyncDispose]()
  }
})

test('a kernel that has neither refuses the pod with the reason', async () => {
  await using datapath = new DatapathUnderTest('lo')
  const kernel = await probeKernel(native, { btf, without: ['tcx', 'clsact'] })
  await using agent = await datapath.start(datapath.withPlugin([pod], plugin, {}), { kernel })
  assert.equal(agent.outcomes[0]?.state, 'cannot')
  assert.match(agent.outcomes[0]?.reason ?? '', /neither TCX \(Linux 6\.6\) nor filters with BPF/)
  await agent.reload(datapath.withPlugin([pod], plugin, { udp: false }))
  assert.equal(agent.outcomes[0]?.state, 'enrolled')
})
