/** Rules that look at the mark of a socket: they see it on this kernel, of TCP and of UDP, and do not take it for 0. */
import assert from 'node:assert/strict'
import type { AgentConfig } from '../../core/agent.ts'
import type { Interception } from '../../core/plugin.ts'
import { reached } from '../kernel/fixture.ts'
import { configOf } from '../kernel/rules.ts'
import type { DatagramCase } from '../parity/exchange.ts'
import { ask, connect, serve } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import type { Check } from './checks.ts'
import type { LocalityScene } from './locality-checks.ts'

export const MARKS = 'marks of sockets'

const rules: Interception = {
  sets: { marked: { mark: [{ value: 0x539, mask: 0xfff }] }, DNS: { ports: [53] } },
  targets: { out: { port: 15001 }, dns: { port: 15053 } },
  outbound: [
    { name: 'marked', when: { from: 'marked' }, then: 'pass' },
    { name: 'queries', when: { proto: 'udp', port: 'DNS' }, then: 'dns' },
    { name: 'rest', when: { proto: 'tcp' }, then: 'out' },
  ],
  inbound: [],
}

const marks = [undefined, 0x1539, 0x53a]
const marked = (mark: number | undefined) => (mark === undefined ? {} : { mark })

/** Who answers a connected socket, and one that is not. */
async function answered({ client, server }: LocalityScene): Promise<string[]> {
  const to = [server.address, 53] as const
  const cases = marks.flatMap((mark): DatagramCase[] => [
    { id: `connected ${mark}`, as: app, ...marked(mark), family: 4, steps: [{ do: 'connect', to }, { do: 'send', data: 'q' }, { do: 'recv' }] },
    { id: `unconnected ${mark}`, as: app, ...marked(mark), family: 4, steps: [{ do: 'sendto', data: 'q', to }, { do: 'recv' }] },
  ])
  const told = await ask<readonly { readonly id: string; readonly steps: readonly unknown[] }[]>(client, 'exchange', cases)
  return cases.map(({ id }) => {
    const answers = told.find((each) => each.id === id)?.steps.at(-1) as readonly (string | { readonly listener: string })[]
    return answers.map((each) => (typeof each === 'string' ? each : each.listener)).join()
  })
}

/** `usual`: the config to go back to. */
export const marksCheck = (scene: LocalityScene, check: Check, usual: AgentConfig): Promise<void> =>
  check(MARKS, async () => {
    const { datapath, agent, client, server } = scene
    const at = (name: string, address: string, port: number) => ({ name, address, port, protocol: 'udp' as const })
    const servers = [await serve(client, app, [at('dns', '127.0.0.1', 15053)]), await serve(server, { ...app, uid: 0 }, [at('peer', '0.0.0.0', 53)])]
    try {
      await agent.reload(configOf(datapath, [client], rules))
      assert.equal(agent.outcomes[0]?.state, 'enrolled', agent.outcomes[0]?.reason)
      const results = await connect(
        client,
        marks.map((mark) => ({ id: String(mark), as: app, ...marked(mark), to: [[server.address, 8080]] })),
      )
      const listeners = marks.map((mark) =>
        results
          .find(({ id }) => id === String(mark))
          ?.steps.map(reached)
          .join(),
      )
      assert.deepEqual(listeners, ['client:15001', 'server:app', 'client:15001'], 'TCP')
      assert.deepEqual(await answered(scene), ['dns', 'dns', 'peer', 'peer', 'dns', 'dns'], 'UDP')
      return '0x1539 under 0xfff'
    } finally {
      await agent.reload(usual)
      for (const each of servers) await each.stop()
    }
  })
