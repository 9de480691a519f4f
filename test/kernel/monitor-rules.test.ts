/** Events of decisions that the built-in meshes do not make, or that only a full map brings about. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { z } from 'zod'
import { handoverCodec, tupleCodec } from '../../core/contract.ts'
import { filterOf } from '../../core/observe/filter.ts'
import { Monitor } from '../../core/observe/monitor.ts'
import type { AnyPlugin } from '../../core/plugin.ts'
import type { EventView } from '../../core/views.ts'
import { until } from '../lab/agent.ts'
import { connectOnce } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { DatapathUnderTest, threePods } from './fixture.ts'
import type { Line } from './watching.ts'

const pods = await threePods('dropped')
const { server, third } = pods
after(() => pods.close())

test('a rule that drops is told as such; with a connection whose hand-over is lost', { timeout: 60_000 }, async () => {
  await using datapath = new DatapathUnderTest('dropped')
  const drops: AnyPlugin = {
    api: 1,
    name: 'drops',
    options: z.strictObject({}),
    selects: () => true,
    describe: () => ({
      sets: { bad: { ports: [9] } },
      targets: { outbound: { port: 15001 } },
      outbound: [
        { name: 'bad port', when: { port: 'bad' }, then: 'drop' },
        { name: 'all', unless: { to: 'pod' }, then: 'outbound' },
      ],
      inbound: [],
    }),
  }
  const own = await datapath.start(datapath.withPlugin([third], drops), { maxEntries: { handovers: 1 } })
  using monitor = new Monitor(own)
  const seen: Line[] = []
  monitor.watch({ filter: filterOf(new URLSearchParams()), send: (line) => seen.push(line) > 0, end: () => {} })
  assert.equal((await connectOnce(third, app, [server.address, 9])).error, 'ECONNREFUSED')
  const [dropped] = (await until('the event', 5000, () => (seen.length > 0 ? seen : undefined))) as EventView[]
  assert.equal(dropped?.verdict, 'drop')
  assert.equal(dropped?.error, 'ECONNREFUSED')
  assert.equal(dropped?.reason, 'rule')
  assert.deepEqual(dropped?.rule, { index: 0, name: 'bad port' })
  assert.deepEqual(dropped?.facts, ['tcp', 'port bad'])
  assert.equal(dropped?.target, undefined)

  const busy = tupleCodec.encode({ netns: 1n, source: [1, 0, 0, 0], dest: [2, 0, 0, 0], sport: 1, dport: 1, family: 4 })
  own.datapath.maps.handovers.update(busy, Buffer.alloc(handoverCodec.size))
  assert.equal((await connectOnce(third, app, [server.address, 8080])).error, 'ECONNREFUSED')
  const [, , lost] = (await until('the events', 5000, () => (seen.length > 2 ? seen : undefined))) as EventView[]
  assert.equal(lost?.verdict, 'refused')
  assert.equal(lost?.reason, 'handover full')
  assert.deepEqual(lost?.destination, { address: server.address, port: 8080 })
  assert.equal(lost?.rule, undefined)
})
