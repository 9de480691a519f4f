/** `merbridge monitor` as an operator sees it: what it tells of connections that really happen, and what it leaves behind: nothing. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { EventView, LostView } from '../../core/views.ts'
import { Agent, until } from '../lab/agent.ts'
import { must } from '../lab/net.ts'
import { connectOnce, flood } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { threePods } from './fixture.ts'
import { watching } from './watching.ts'

const pods = await threePods('monitor')
const { client, server, third, servers, out } = pods
let agent: Agent
let watcher: ReturnType<typeof watching>
before(async () => {
  agent = await Agent.start({ pods: [client, server].map(({ name, netns }) => ({ name, netns })) })
  watcher = watching(agent)
})
after(async () => {
  await agent?.close()
  await pods.close()
})

const running = (child: ChildProcess) => child.exitCode === null && child.signalCode === null

describe('merbridge monitor', { timeout: 120_000 }, () => {
  test('off by default', () => assert.deepEqual(watcher.monitoring(), { until: 0n, netns: 0n, sample: 0 }))

  test('tells what connections did: redirected, passed, refused for want of a route, inbound; and who', async () => {
    using monitor = await watcher.watch()
    assert.equal((await out()).error, undefined)
    const [redirected] = (await monitor.has(1)) as EventView[]
    assert.equal(redirected?.pod, 'default/client')
    assert.equal(redirected?.direction, 'outbound')
    assert.equal(redirected?.verdict, 'redirect')
    assert.deepEqual(redirected?.source, { address: client.address })
    assert.deepEqual(redirected?.destination, { address: server.address, port: 8080 })
    assert.deepEqual(redirected?.target, { address: '127.0.0.1', port: 15001 })
    assert.deepEqual(redirected?.owner, { uid: app.uid, gid: app.gid })
    assert.match(redirected?.process?.command ?? '', /^python3/)
    assert.ok((redirected?.process?.pid ?? 0) > 1)
    assert.ok(Math.abs(Date.parse(redirected?.time ?? '') - Date.now()) < 10_000)
    const shown = (await agent.pods()).find(({ name }) => name === 'client')?.rules
    const rule = shown?.find(({ direction, index }) => direction === 'outbound' && index === redirected?.rule?.index)
    assert.equal(rule?.name, redirected?.rule?.name)
    assert.match(rule?.then ?? '', /127\.0\.0\.1:15001/)

    await connectOnce(client, proxy, [server.address, 8080])
    const [, passed, inbound] = (await monitor.has(3)) as EventView[]
    assert.equal(passed?.verdict, 'pass')
    assert.equal(passed?.owner?.uid, proxy.uid)
    assert.ok(passed?.facts.includes('from sidecar'), `${passed?.facts}`)
    assert.equal(inbound?.pod, 'default/server')
    assert.equal(inbound?.direction, 'inbound')
    assert.equal(inbound?.verdict, 'redirect')
    assert.deepEqual(inbound?.target, { port: 15006 })
    assert.equal(inbound?.source.address, client.address)
    assert.equal(inbound?.destination.port, 8080)
    assert.equal(inbound?.process, undefined)

    await must(client.command(['ip', 'route', 'add', 'unreachable', '10.99.0.0/16']))
    await until('the route is mirrored', 5000, async () =>
      (await connectOnce(client, app, ['10.99.0.1', 80])).error === 'EHOSTUNREACH' ? true : undefined,
    )
    const refused = (await until('the refusal', 5000, () => monitor.events().find(({ verdict }) => verdict === 'refused'))) as EventView
    assert.equal(refused.reason, 'no route')
    assert.equal(refused.error, 'EHOSTUNREACH')
    assert.deepEqual(refused.destination, { address: '10.99.0.1', port: 80 })
    await must(client.command(['ip', 'route', 'del', 'unreachable', '10.99.0.0/16']))
    const { code, stderr } = await monitor.stop()
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
    await watcher.off()
  })

  test('nobody listens: refused, with the reason', async () => {
    await servers[1]?.stop()
    using monitor = await watcher.watch('server', '--verdict', 'refused')
    assert.equal((await connectOnce(client, proxy, [server.address, 8080])).error, 'ECONNREFUSED')
    const [refused] = (await monitor.has(1)) as EventView[]
    assert.equal(refused?.direction, 'inbound')
    assert.equal(refused?.verdict, 'refused')
    assert.equal(refused?.reason, 'no listener')
    assert.equal(
      refused?.rule?.name,
      (await agent.pods()).find(({ name }) => name === 'server')?.rules.findLast((r) => r.direction === 'inbound')?.name,
    )
    await monitor.stop()
  })

  test('filters: pod, direction, port, rule', async () => {
    using ofServer = await watcher.view('pod=default/server')
    using outbound = await watcher.view('pod=default/client&direction=outbound&port=8081')
    for (const port of [8080, 8081, 8080]) await out(port)
    await outbound.has(1)
    await sleep(200)
    assert.deepEqual(
      ofServer.events().filter(({ pod }) => pod !== 'default/server'),
      [],
    )
    assert.deepEqual(
      outbound.events().map(({ destination }) => destination.port),
      [8081],
    )
    await outbound.stop()
    await ofServer.stop()
    await watcher.off()
    using ruled = await watcher.view(String(new URLSearchParams({ rule: outbound.events()[0]?.rule?.name ?? '' })))
    await connectOnce(client, proxy, [server.address, 8080])
    await out()
    await ruled.has(1)
    assert.deepEqual([...new Set(ruled.events().map(({ rule }) => rule?.name))], [outbound.events()[0]?.rule?.name])
  })

  test('the kernel is told only what somebody wants to see', async () => {
    await watcher.off()
    using one = await watcher.view('pod=default/client&sample=50')
    assert.equal(watcher.monitoring().sample, 50)
    assert.notEqual(watcher.monitoring().netns, 0n)
    using two = await watcher.view('pod=default/server&sample=7')
    assert.deepEqual([watcher.monitoring().sample, watcher.monitoring().netns], [7, 0n])
    await two.stop()
    await until('the first one alone', 5000, () => (watcher.monitoring().sample === 50 ? true : undefined))
    await one.stop()
    await watcher.off()
  })

  test('one in ten of a thousand connections, and not the same for everybody', async () => {
    using all = await watcher.view('pod=default/client&direction=outbound')
    using some = await watcher.view('pod=default/client&direction=outbound&sample=10')
    const now = Date.now() / 1000
    const counts = await flood(client, { as: app, to: Array(1000).fill([server.address, 8080]), expect: ['client:15001'], start: now, end: now })
    assert.deepEqual(counts, { ok: 1000 })
    await all.has(1000)
    await sleep(200)
    assert.equal(all.events().length, 1000)
    assert.ok(some.events().length > 50 && some.events().length < 160, `${some.events().length} of 1000`)
    await all.stop()
    const before = some.events().length
    await flood(client, { as: app, to: Array(1000).fill([server.address, 8080]), expect: ['client:15001'], start: now, end: now })
    await sleep(300)
    const sampled = some.events().length - before
    assert.ok(sampled > 50 && sampled < 160, `${sampled} of 1000 when the kernel samples`)
  })

  test('off when the viewer is killed; and when the agent is, after five seconds or when it starts again', async () => {
    using monitor = await watcher.watch()
    assert.equal(watcher.monitoring().sample, 1)
    await monitor.stop('SIGKILL')
    await watcher.off()

    using bereft = await watcher.watch()
    await agent.kill('SIGKILL')
    const { code, stderr } = await bereft.ended()
    assert.equal(code, 3)
    assert.match(stderr, /has ended/)
    assert.equal(watcher.monitoring().sample, 1)
    assert.ok(watcher.monitoring().until <= process.hrtime.bigint() + 5_000_000_000n, 'it ends by itself')
    await agent.run()
    assert.equal(watcher.monitoring().sample, 0)
    using parted = await watcher.watch()
    await agent.kill('SIGTERM')
    assert.equal((await parted.ended()).code, 3)
    assert.equal(watcher.monitoring().sample, 0)
    await agent.run()
  })

  test('a viewer that reads nothing loses events, is told how many, and costs neither memory nor time', async () => {
    using reads = await watcher.view('pod=default/client')
    const now = Date.now() / 1000
    const to = Array(1000).fill([server.address, 8080])
    const connect1000 = async () =>
      assert.deepEqual(await flood(client, { as: app, to, expect: ['client:15001'], start: now, end: now }), { ok: 1000 })
    const rss = async () => Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${agent.pid}/status`, 'utf8'))?.[1])
    // The agent has just started: its heap grows to what this traffic needs anyhow.
    for (let round = 0; round < 3; round++) await connect1000()
    await reads.has(3000)
    const start = await rss()
    const call = request({ socketPath: join(agent.directory, 'agent.sock'), path: '/v1/events', agent: false }).end()
    try {
      const [response] = await once(call, 'response')
      response.pause()
      for (let round = 0; round < 6; round++) {
        const began = performance.now()
        await connect1000()
        assert.ok(performance.now() - began < 10_000)
      }
      await reads.has(9000)
      const end = await rss()
      assert.ok(end - start < 40_000, `${end} kB after ${start} kB`)
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      response.resume()
      await until('it is told', 10_000, () => (/"lost":\d+/.test(text) ? true : undefined))
    } finally {
      call.destroy()
    }
    await reads.stop()
    await watcher.off()
  })

  test('a full ring is told', async () => {
    using monitor = await watcher.watch('client')
    agent.signal('SIGSTOP')
    const now = Date.now() / 1000
    try {
      for (let round = 0; round < 3; round++) {
        const to = Array(1000).fill([server.address, 8080])
        assert.deepEqual(await flood(client, { as: app, to, expect: ['client:15001'], start: now, end: now }), { ok: 1000 })
      }
    } finally {
      agent.signal('SIGCONT')
    }
    const lost = await until('the loss is told', 10_000, () => monitor.lines.find((line): line is LostView => 'lost' in line))
    await sleep(1500)
    assert.ok(lost.lost > 500, `${lost.lost}`)
    assert.ok(monitor.events().length > 1000, `${monitor.events().length}`)
    assert.ok(running(monitor.child))
  })

  test('text: a line for each event, readable; wrong use is explained', async () => {
    const said = (...words: string[]) => agent.command(['monitor', ...words])
    await watcher.off()
    const text = said('client', '--count', '2')
    await until('the kernel samples', 10_000, () => (watcher.monitoring().sample === 1 ? true : undefined))
    for (let i = 0; i < 3; i++) await out()
    const { stdout, code } = await text
    assert.equal(stdout.split('\n').length, 1 + 2 + 1)
    assert.equal(code, 0)
    assert.match(stdout, /^TIME +POD +WAY +PROTO +FROM +TO +VERDICT +RULE +CALLER +FACTS\n/)
    assert.match(
      stdout,
      /default\/client +out +tcp +[\d.]+ +[\d.]+:8080 +redirect to 127\.0\.0\.1:15001 +#\d+ .+ python3 \(pid \d+, uid 1000, gid 1000\) +tcp/,
    )
    const unknown = await said('cleint')
    assert.equal(unknown.code, 1)
    assert.match(unknown.stderr, /no pod "cleint"[\s\S]*client/)
    for (const [words, says] of [
      [['--verdict', 'dorp'], /"dorp" is not a verdict[\s\S]*drop/],
      [['--port', '70000'], /from 1 to 65535/],
      [['--sample', '0'], /from 1 to 65535/],
      [['--count', 'x'], /--count/],
      [['--rule', 'no such rule'], /no pod has a rule/],
      [['--direction', 'up'], /direction/],
      [['--proto', 'icmp'], /"icmp" is not a protocol[\s\S]*tcp or udp/],
      [['--family', 'ipv5'], /"ipv5" is not a family[\s\S]*ipv4/],
      [['--to', '10.0.0.1/8'], /to: '10\.0\.0\.1\/8' has host bits set; the network is 10\.0\.0\.0\/8/],
      [['--from', 'fe80::1%eth0'], /has a zone/],
    ] as const) {
      const wrong = await said(...words)
      assert.equal(wrong.code, 2, `${words}: ${wrong.stderr}`)
      assert.match(wrong.stderr, says)
    }
  })

  test('nine viewers: the ninth is sent away', async () => {
    await watcher.off()
    const monitors = []
    try {
      for (let i = 0; i < 8; i++) monitors.push(await watcher.view('port=1'))
      const ninth = await agent.command(['monitor'])
      assert.equal(ninth.code, 1)
      assert.match(ninth.stderr, /8 watch already/)
    } finally {
      for (const each of monitors) await each.stop()
    }
    await watcher.off()
  })

  test('a pod that joins later is seen', async () => {
    const all = [client, server, third].map(({ name, netns }) => ({ name, netns }))
    using monitor = await watcher.watch('--direction', 'outbound')
    await agent.write({ pods: all })
    await agent.waitFor('the third pod is enrolled', 10_000, ({ pods: { enrolled } }) => enrolled === 3)
    await connectOnce(third, app, [server.address, 8080])
    const event = await until('its event', 5000, () => monitor.events().find(({ pod }) => pod === 'default/third'))
    assert.equal(event.verdict, 'redirect')
    assert.notEqual(event.rule?.name, undefined)
  })
})
