/** What the programs decide when something is unusual: no room, a stuck proxy, an address that moved. */
import assert from 'node:assert/strict'
import { basename } from 'node:path'
import { after, describe, test } from 'node:test'
import { handoverCodec, Limit, tupleCodec } from '../../core/contract.ts'
import { podCounts, readCounts, sweepHandovers } from '../../core/datapath/counters.ts'
import { until } from '../lab/agent.ts'
import { must } from '../lab/net.ts'
import { connectOnce, flood } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, kernel, reached, refusalsOf, threePods } from './fixture.ts'

const pods = await threePods('decisions')
const { client, server, third, servers, out } = pods
after(() => pods.close())

describe('decisions of the datapath', { timeout: 120_000 }, () => {
  test('no room for a hand-over: the connection is refused and never reaches the proxy without its origin', async () => {
    await using datapath = new DatapathUnderTest('full')
    const agent = await datapath.start(datapath.config([client]), { maxEntries: { handovers: 1 } })
    const origin = { addr: [0, 0, 0, 0], port: 0, sport: 0, family: 4, role: 0, moved: 0, sequence: 0, bound: [0, 0, 0, 0] } as const
    const entry = (created: bigint) => handoverCodec.encode({ origin, created })
    const key = tupleCodec.encode({ netns: 1n, source: [1, 0, 0, 0], dest: [2, 0, 0, 0], sport: 1, dport: 1, family: 4 })
    agent.datapath.maps.handovers.update(key, entry(process.hrtime.bigint()))
    const seen = await servers[0]?.accepted()
    assert.equal((await out()).error, 'ECONNREFUSED')
    assert.equal(await servers[0]?.accepted(), seen)
    assert.equal((await refusalsOf(agent.datapath)).get('handover full'), 1)

    assert.equal(await sweepHandovers(agent.datapath.maps.handovers, agent.datapath.maps.pending), 0, 'a fresh one stays')
    agent.datapath.maps.handovers.update(key, entry(process.hrtime.bigint() - 181_000_000_000n))
    assert.equal(await sweepHandovers(agent.datapath.maps.handovers, agent.datapath.maps.pending), 1)
    assert.equal(reached(await out()), 'client:15001')
    await agent[Symbol.asyncDispose]()
  })

  test('a hand-over is gone as soon as it is fetched, not when the connection ends', async () => {
    await using datapath = new DatapathUnderTest('fetched')
    const agent = await datapath.start(datapath.config([client]))
    const before = (await servers[0]?.accepted()) ?? 0
    const to = [1, 2, 3, 4, 5].map((port) => [server.address, port] as const)
    const load = flood(client, { as: app, to, expect: ['client:15001'], start: 0, end: Date.now() / 1000 + 4 })
    await until('five connections are accepted', 3000, async () => (((await servers[0]?.accepted()) ?? 0) >= before + 5 ? true : undefined))
    assert.deepEqual(await agent.datapath.maps.handovers.entries(), [])
    assert.deepEqual(await load, { ok: 5 })
  })

  test('a socket under TCP_REPAIR keeps its peer: no packet is made that could reach a proxy', async (context) => {
    if (!kernel.features.some(({ id, state }) => id === 'kernel_reads' && state === 'yes')) return context.skip('kernel fields cannot be read here')
    await using datapath = new DatapathUnderTest('repair')
    await datapath.start(datapath.config([client]))
    const script = `
import socket, struct, sys
s = socket.socket()
s.setsockopt(socket.IPPROTO_TCP, 19, 1)
s.bind((sys.argv[1], 41234))
s.connect((sys.argv[2], 8080))
for line in open('/proc/self/net/tcp'):
    words = line.split()
    if words[1].endswith(':%04X' % 41234):
        host, port = words[2].split(':')
        print(socket.inet_ntoa(struct.pack('<I', int(host, 16))), int(port, 16))
`
    const restored = await client.exec(['/usr/bin/python3', '-I', '-S', '-c', script, client.address, server.address])
    assert.equal(restored.stdout.trim(), `${server.address} 8080`, restored.stderr)
    assert.equal(reached(await out()), 'client:15001')
  })

  test('a pod whose proxy does not answer cannot take the room of the others', async () => {
    await using datapath = new DatapathUnderTest('pending')
    const agent = await datapath.start(datapath.config([client, server]))
    const { pending } = agent.datapath.maps
    assert.equal(reached(await out()), 'client:15001')
    const [{ key, value } = { key: Buffer.alloc(8), value: Buffer.alloc(8) }] = await pending.entries()
    assert.equal(value.readBigInt64LE(), 0n, 'a connection that was made is not counted any more')
    value.writeBigInt64LE(BigInt(Limit.PENDING))
    pending.update(key, value)
    assert.equal((await out()).error, 'ECONNREFUSED')
    assert.equal((await refusalsOf(agent.datapath)).get('pending'), 1)
    assert.equal(reached(await connectOnce(client, app, ['127.0.0.1', 8080])), 'client:app')
    assert.equal(reached(await connectOnce(server, app, [client.address, 8080])), 'server:15001', 'another pod')
  })

  test('an address that a pod had and another one has now is outside, also while no agent looks', async () => {
    await using datapath = new DatapathUnderTest('moved')
    const moved = '10.77.0.200'
    await must(['ip', '-n', basename(server.netns), 'address', 'add', `${moved}/24`, 'dev', 'eth0'])
    await datapath.start(datapath.config([server]))
    assert.equal(reached(await connectOnce(server, app, [moved, 8080])), 'server:app')
    await must(['ip', '-n', basename(server.netns), 'address', 'del', `${moved}/24`, 'dev', 'eth0'])
    await must(['ip', '-n', basename(third.netns), 'address', 'add', `${moved}/24`, 'dev', 'eth0'])
    assert.equal(reached(await connectOnce(third, app, [server.address, 8080], { bind: [moved, 0] })), 'server:15006')
    await must(['ip', '-n', basename(third.netns), 'address', 'del', `${moved}/24`, 'dev', 'eth0'])
  })

  test('each rule counts its own decisions', async () => {
    await using datapath = new DatapathUnderTest('count')
    const agent = await datapath.start(datapath.config([client]))
    for (let i = 0; i < 3; i++) await out()
    await out(15020)
    const [outcome] = agent.outcomes
    const compiled = agent.enrolment?.desired.pods.get(outcome?.netns ?? 0n)
    const counts = podCounts(await readCounts(agent.datapath.maps.counters), outcome?.netns ?? 0n, compiled?.policy ?? 0n)
    const hits = compiled?.rules
      .filter(({ direction }) => direction === 'outbound')
      .map(({ name, index }) => [name, counts.outbound.get(index)?.count ?? 0])
    assert.deepEqual(
      hits?.filter(([, count]) => count !== 0),
      [
        ['excluded port', 1],
        ['everything else', 3],
      ],
    )
    await agent[Symbol.asyncDispose]()
  })
})
