/** Pods whose lo cannot have what it should: without IPv6, or down. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import type { AgentConfig } from '../../core/agent.ts'
import { currentLayout } from '../../core/datapath/layout.ts'
import { probeKernel } from '../../core/features/probe.ts'
import { podViews } from '../../core/observe/pods.ts'
import { until } from '../lab/agent.ts'
import { Lab, must } from '../lab/net.ts'
import { btf, without as missing } from '../lab/without.ts'
import { DatapathUnderTest, native } from './fixture.ts'
import { isLinked, lo, type Options, plugin, qdisc } from './lo.ts'

const lab = await Lab.create('lo-lacking')
const pod = await lab.pod('pod')
after(() => lab.close())

const nothing = { addresses: [], route: false, filter: false }

for (const [hook, without] of [
  ['link', []],
  ['filter', ['tcx']],
] as const) {
  const kernel = await probeKernel(native, { btf, without: [...new Set([...missing, ...without])] })
  const skip = kernel.loopback !== hook
  const all = { addresses: ['::6/128'], route: true, filter: hook === 'filter' }

  describe(`lo that lacks something, with the program as a ${hook}`, { timeout: 120_000, skip }, () => {
    const config = (datapath: DatapathUnderTest, options: Options = {}, pods = [pod]): AgentConfig => datapath.withPlugin(pods, plugin, options)
    const program = async ({ bpffs }: DatapathUnderTest) => (hook === 'link' ? isLinked(bpffs) : (await lo(pod)).filter)

    test('a pod that cannot have all of it has nothing, and is not attached', async () => {
      await using datapath = new DatapathUnderTest('lo')
      const half = await lab.pod('half')
      await must(half.command(['ip', 'link', 'set', 'lo', 'down']))
      await must(half.command(['ip', 'address', 'add', 'fd00::9/128', 'dev', 'lo', 'nodad']))
      const own = { ...nothing, addresses: ['fd00::9/128'] }
      await using agent = await datapath.start(config(datapath, {}, [half, pod]), { kernel })
      const states = () => agent.outcomes.map(({ state }) => state)
      assert.deepEqual(states(), ['failed', 'enrolled'])
      assert.match(agent.outcomes[0]?.reason ?? '', /its lo cannot have/)
      assert.deepEqual(await lo(half), own)
      assert.equal(await qdisc(half), false)
      const layout = currentLayout(datapath.bpffs)
      assert.equal(layout.pods().length, 1)
      assert.ok(layout.loopbacks().length <= 1)
      await agent.reload(config(datapath, { udp: false, addresses: [] }, [half, pod]))
      assert.deepEqual(states(), ['enrolled', 'enrolled'])
      await agent.reload(config(datapath, { addresses: [] }, [half, pod]))
      assert.equal(layout.pods().length, 2, 'an enrolled one keeps its rules')
      await must(half.command(['ip', 'link', 'set', 'lo', 'up']))
      await until('it is enrolled', 5000, async () => {
        await agent.tick()
        return states().every((state) => state === 'enrolled') ? true : undefined
      })
      assert.equal((await lo(half)).route, true)
      await half.remove()
    })

    test('without IPv6 at lo the program and what IPv4 needs are there, with a warning; the rest comes with IPv6, and goes with it', async () => {
      await using datapath = new DatapathUnderTest('lo')
      await must(pod.command(['sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=1']))
      try {
        await using agent = await datapath.start(config(datapath), { kernel })
        const [view] = await podViews(agent)
        assert.equal(view?.state, 'enrolled')
        assert.match(view?.warnings.join() ?? '', /should have ::6 at lo .* net\.ipv6\.conf\.lo\.disable_ipv6/)
        const bound = 'local route 127.0.0.1/32 for interface 2, added'
        assert.deepEqual(view?.loopback, [`program mb_lo (${hook})`, bound])
        assert.equal(await program(datapath), true)
        const switched = async (off: 0 | 1) => {
          await must(pod.command(['sysctl', '-qw', `net.ipv6.conf.lo.disable_ipv6=${off}`]))
          await until('the agent has seen it', 5000, async () => {
            await agent.tick()
            return agent.outcomes[0]?.state === 'enrolled' && agent.outcomes[0].warnings.length === off ? true : undefined
          })
        }
        await switched(0)
        assert.deepEqual(await lo(pod), all)
        await switched(1)
        await switched(0)
        assert.deepEqual(await lo(pod), all)
        assert.deepEqual(
          datapath.logged.filter(({ message }) => message.includes('could not')),
          [],
        )
      } finally {
        await must(pod.command(['sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=0']))
      }
    })
  })
}
