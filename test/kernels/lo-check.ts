/** What the rules of a pod need at its lo: it is there with them, and goes when the pod leaves. */
import assert from 'node:assert/strict'
import type { AgentConfig } from '../../core/agent.ts'
import { podViews } from '../../core/observe/pods.ts'
import { kernel } from '../kernel/fixture.ts'
import { lo, plugin, qdisc } from '../kernel/lo.ts'
import type { Check } from './checks.ts'
import type { LocalityScene } from './locality-checks.ts'

export const LOOPBACK = 'the lo of a pod'

/** `usual`: the config to go back to. */
export const loopbackCheck = ({ datapath, agent, client }: LocalityScene, check: Check, usual: AgentConfig): Promise<void> =>
  check(LOOPBACK, async () => {
    try {
      await agent.reload(datapath.withPlugin([client], plugin, {}))
      assert.equal(agent.outcomes[0]?.state, 'enrolled', agent.outcomes[0]?.reason)
      assert.deepEqual(await lo(client), { addresses: ['::6/128'], route: true, filter: kernel.loopback === 'filter' })
      const [view] = await podViews(agent)
      assert.equal(view?.loopback[0], `program mb_lo (${kernel.loopback})`)
      await agent.reload(datapath.config([]))
      assert.deepEqual(await lo(client), { addresses: [], route: false, filter: false })
      assert.equal(await qdisc(client), false)
    } finally {
      await agent.reload(usual)
    }
    return `as a ${kernel.loopback}`
  })
