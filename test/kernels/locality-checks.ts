/** What a rule means in one pod: names of interfaces, ids of a user namespace; and the socket that an MPTCP client has. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { basename } from 'node:path'
import type { Agent, AgentConfig } from '../../core/agent.ts'
import { Ability } from '../../core/contract.ts'
import type { Interception } from '../../core/plugin.ts'
import { type DatapathUnderTest, reached } from '../kernel/fixture.ts'
import { configOf } from '../kernel/rules.ts'
import { type Lab, type LabPod, must } from '../lab/net.ts'
import { startProxy } from '../mesh/sidecar.ts'
import { type Case, connect, serve } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import type { Check } from './checks.ts'

export const localityNames = ['rules that name interfaces', 'ids of a user namespace', 'peer of an MPTCP client'] as const

export interface LocalityScene {
  readonly lab: Lab
  readonly datapath: DatapathUnderTest
  readonly agent: Agent
  /** With a proxy and an app. */
  readonly client: LabPod
  readonly server: LabPod
}

const rules = (inboundInterfaces: boolean): Interception => ({
  sets: { side: { interfaces: ['net2'] } },
  targets: { out: { port: 15001 }, in: { port: 15006 } },
  outbound: [
    { name: 'side', when: { to: 'side' }, then: 'pass' },
    { name: 'rest', then: 'out' },
  ],
  inbound: [...(inboundInterfaces ? [{ name: 'side', when: { from: 'side' }, then: 'pass' }] : []), { name: 'rest', then: 'in' }],
})

async function addInterface(lab: Lab, pod: LabPod): Promise<void> {
  await must(lab.node.command(['ip', 'link', 'add', 'net2', 'type', 'veth', 'peer', 'name', 'net2', 'netns', basename(pod.netns)]))
  for (const [each, address] of [
    [lab.node, '10.78.0.1/24'],
    [pod, '10.78.0.2/24'],
  ] as const)
    await must(each.command(['ip', '-batch', '-']), { input: `address add ${address} dev net2\nlink set net2 up\n` })
}

/** In one process, which is what costs under emulation: who accepts at port 8080 of each address. */
async function listenersOf(pod: LabPod, addresses: readonly string[]): Promise<(string | undefined)[]> {
  const results = await connect(
    pod,
    addresses.map((address) => ({ id: address, as: app, to: [[address, 8080]] })),
  )
  return results.map(({ steps: [step] }) => step && reached(step))
}

async function interfaces({ lab, datapath, agent, client }: LocalityScene): Promise<string> {
  await agent.reload(configOf(datapath, [client], rules(true)))
  const told = agent.datapath.can(Ability.ARRIVAL)
  const [outcome] = agent.outcomes
  assert.equal(outcome?.state, 'enrolled', outcome?.reason)
  if (!told) assert.match(outcome?.warnings.join() ?? '', /does not tell by which one a connection came in \(Linux 5\.17/)
  if (!told) await agent.reload(configOf(datapath, [client], rules(false)))
  await addInterface(lab, client)
  await agent.tick()
  await using _node = await serve(lab.node, app, [{ name: 'node', address: '0.0.0.0', port: 8080 }]).then(({ stop }) => ({
    [Symbol.asyncDispose]: stop,
  }))
  const out = await listenersOf(client, ['10.78.0.1', lab.node.address])
  assert.deepEqual(out, ['node', 'client:15001'], 'out over net2, out over eth0')
  const into = await listenersOf(lab.node, ['10.78.0.2', client.address])
  assert.deepEqual(into, [told ? 'client:app' : 'client:15006', 'client:15006'], 'in over net2, in over eth0')
  return told ? 'outbound and inbound' : 'outbound; inbound: the rules of before stay'
}

async function users({ lab, datapath, agent, server }: LocalityScene, config: AgentConfig): Promise<string> {
  const maps = ['0 700000 65536']
  const pod = await lab.pod('users', { users: { uid: maps, gid: maps } })
  await using _proxy = await startProxy(pod)
  await agent.reload({ ...config, config: datapath.config([pod]).config })
  assert.equal(agent.outcomes[0]?.state, 'enrolled', agent.outcomes[0]?.reason)
  const cases = [app, proxy].map((as): Case => ({ id: String(as.uid), as, to: [[server.address, 8080]] }))
  const listeners = (await connect(pod, cases)).map(({ steps: [step] }) => step && reached(step))
  assert.deepEqual(listeners, ['users:15001', 'server:app'], 'the app, the proxy')
  return 'uid 1337 is 701337 outside'
}

async function mptcp({ agent, client, server }: LocalityScene, config: AgentConfig, seesProxy: boolean): Promise<string> {
  if (!existsSync('/proc/sys/net/mptcp/enabled')) return 'this kernel has no MPTCP'
  await agent.reload(config)
  const script = `
import os, socket
os.setgid(1000); os.setuid(1000)
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.settimeout(5)
s.connect(('${server.address}', 8080))
print(*s.getpeername())`
  await must(client.command(['sysctl', '-q', '-w', 'net.mptcp.enabled=1']))
  const peer = (await must(client.command(['/usr/bin/python3', '-c', script]))).trim()
  assert.equal(peer, agent.datapath.can(Ability.MPTCP) && !seesProxy ? `${server.address} 8080` : '127.0.0.1 15001')
  return peer
}

/** Leaves the agent with `config`, and the pods without what was added. */
export async function localityChecks(scene: LocalityScene, check: Check, config: AgentConfig, seesProxy: boolean): Promise<void> {
  const [byInterface, byUser, ofMptcp] = localityNames
  await check(byInterface, () => interfaces(scene))
  await check(byUser, () => users(scene, config))
  await check(ofMptcp, () => mptcp(scene, config, seesProxy))
  await scene.agent.reload(config)
}
