/** Decisions about datagrams as events: what they tell, and that a flood of them harms nobody. */
import assert from 'node:assert/strict'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { after, test } from 'node:test'
import { filterOf } from '../../core/observe/filter.ts'
import { Monitor } from '../../core/observe/monitor.ts'
import { podViews } from '../../core/observe/pods.ts'
import type { AnyPlugin, Interception } from '../../core/plugin.ts'
import type { EventView, LostView } from '../../core/views.ts'
import { until } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { DatapathUnderTest } from './fixture.ts'
import { sixty } from './sixty.ts'
import type { Line } from './watching.ts'

const lab = await Lab.create('datagrams')
after(() => lab.close())

const rules: Interception = {
  sets: { dns: { ports: [53] } },
  targets: { dns: { port: 15053 } },
  outbound: [{ name: 'dns', when: { proto: 'udp', port: 'dns' }, then: 'dns' }],
  inbound: [],
}
const plugin = { ...sixty, describe: () => rules } as AnyPlugin

/** For so many seconds connects UDP sockets to each of the addresses again and again, or sends datagrams there; prints how often. */
const program = `
import socket, sys, time
socks = [(socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM), (to, 53)) for to in sys.argv[3:]]
count, end = 0, time.monotonic() + float(sys.argv[2])
while True:
    for sock, to in socks:
        sock.connect(to) if sys.argv[1] == "connect" else sock.sendto(b"?", to)
        count += 1
    if time.monotonic() >= end: break
print(count)
`
async function ask(pod: LabPod, how: 'connect' | 'sendto', seconds: number, ...to: string[]): Promise<number> {
  return Number(await must(pod.command(['/usr/bin/python3', '-I', '-S', '-B', '-c', program, how, `${seconds}`, ...to], { uid: 1000 })))
}

function viewerOf(monitor: Monitor, query: string) {
  const lines: Line[] = []
  const leave = monitor.watch({ filter: filterOf(new URLSearchParams(query)), send: (line) => lines.push(line) > 0, end: () => {} })
  const events = () => lines.filter((line): line is EventView => !('lost' in line))
  const lost = () => lines.filter((line): line is LostView => 'lost' in line).reduce((sum, line) => sum + line.lost, 0)
  return { events, lost, [Symbol.dispose]: leave }
}

for (const how of ['connect', 'sendto'] as const) {
  test(`datagrams are told with protocol and family, filtered, and counted apart: ${how}`, { timeout: 60_000 }, () => tellsDatagrams(how))
}

async function tellsDatagrams(how: 'connect' | 'sendto'): Promise<void> {
  const client = await lab.pod(how, { ipv6: true })
  await using datapath = new DatapathUnderTest('datagrams')
  const agent = await datapath.start(datapath.withPlugin([client], plugin))
  using monitor = new Monitor(agent)
  using all = viewerOf(monitor, '')
  using six = viewerOf(monitor, 'proto=udp&to=fd53::/16')
  using tcp = viewerOf(monitor, 'proto=tcp')
  assert.equal(await ask(client, how, 0, '10.53.0.1', 'fd53::1', '::ffff:10.53.0.2'), 3)
  const events = await until('three events', 5000, () => (all.events().length >= 3 ? all.events() : undefined))
  const told = events.map(({ protocol, family, destination, target, rule }) => ({
    protocol,
    family,
    to: destination.address,
    target: target?.address,
    rule: rule?.name,
  }))
  assert.deepEqual(told, [
    { protocol: 'udp', family: 'ipv4', to: '10.53.0.1', target: '127.0.0.1', rule: 'dns' },
    { protocol: 'udp', family: 'ipv6', to: 'fd53::1', target: '::1', rule: 'dns' },
    { protocol: 'udp', family: 'ipv4', to: '10.53.0.2', target: '127.0.0.1', rule: 'dns' },
  ])
  assert.deepEqual(
    six.events().map(({ destination }) => destination),
    [{ address: 'fd53::1', port: 53 }],
  )
  assert.deepEqual(tcp.events(), [])
  const [pod] = await podViews(agent)
  assert.deepEqual(
    pod?.rules.map(({ name, hits, by }) => ({ name, hits, by })),
    [{ name: 'dns', hits: 3, by: { udp4: 2, udp6: 1 } }],
  )
}

test('a flood of datagrams loses events, which is told, and keeps the agent from nothing', { timeout: 60_000 }, async () => {
  const client = await lab.pod('flooder', { ipv6: true })
  await using datapath = new DatapathUnderTest('datagram-flood')
  const agent = await datapath.start(datapath.withPlugin([client], plugin))
  using monitor = new Monitor(agent)
  using all = viewerOf(monitor, '')
  using some = viewerOf(monitor, 'sample=1000')
  const memory = process.memoryUsage().rss
  const delay = monitorEventLoopDelay({ resolution: 10 })
  delay.enable()
  const sent = (await Promise.all([ask(client, 'sendto', 3, '10.53.0.1'), ask(client, 'connect', 3, 'fd53::1')])).reduce(
    (sum, count) => sum + count,
    0,
  )
  delay.disable()
  assert.ok(sent > 100_000, `${sent} datagrams are no flood`)
  assert.ok(delay.max < 1e9, `the event loop was held up for ${Math.round(delay.max / 1e6)} ms`)
  assert.ok(process.memoryUsage().rss - memory < 100 * 2 ** 20)
  await until('the loss is told', 5000, () => (all.lost() + all.events().length >= sent ? true : undefined))
  assert.equal(all.lost() + all.events().length, sent, 'every decision is either told or counted as lost')
  assert.ok(all.events().length > 1000 && all.events().length <= 60_000, `${all.events().length} of ${sent}`)
  assert.ok(some.events().length < all.events().length / 100, `${some.events().length} sampled of ${all.events().length}`)
})
