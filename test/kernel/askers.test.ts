/** Ids of datagrams that nobody uses any more go, and the others stay. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { u32Codec, u64Codec } from '../../core/codec.ts'
import { AskerKind, type AskerRecord, askerCodec, Family } from '../../core/contract.ts'
import { sweepAskers } from '../../core/datapath/askers.ts'
import { statusView } from '../../core/observe/status.ts'
import { Lab } from '../lab/net.ts'
import { cgroup, DatapathUnderTest, kernel } from './fixture.ts'

const lab = await Lab.create('askers')
const pod = await lab.pod('pod')
after(() => lab.close())

const minutes = (count: number): bigint => BigInt(count) * 60_000_000_000n

describe('ids', { timeout: 120_000 }, () => {
  test('that are idle, or of pods that left, are swept; the counts follow', async () => {
    await using datapath = new DatapathUnderTest('askers')
    await using agent = await datapath.start(datapath.config([pod]))
    const { askers, asker_counts, pods } = agent.datapath.maps
    const netns = agent.outcomes[0]?.netns ?? 0n
    const none = [0, 0, 0, 0]
    const put = (id: number, more: Partial<AskerRecord>) =>
      askers.update(
        u32Codec.encode(id),
        askerCodec.encode({
          netns,
          used: process.hrtime.bigint(),
          server: none,
          source: none,
          target: none,
          port: 53,
          tport: 15053,
          family: Family.IPV4,
          kind: AskerKind.SENDS,
          ...more,
        }),
      )
    const ids = async () => (await askers.entries()).map(({ key }) => u32Codec.decode(key)).sort((a, b) => a - b)
    const count = (cookie: bigint) => asker_counts.lookup(u64Codec.encode(cookie))?.readBigInt64LE()
    const now = process.hrtime.bigint() + minutes(60 * 48) // the node may be up for less
    const stranger = 0xffff_ffff_ffffn

    put(1, { used: now })
    put(2, { used: now - minutes(4) })
    put(3, { used: now - minutes(6) })
    put(4, { used: now - minutes(60), kind: AskerKind.CONNECTS })
    put(5, { used: now - minutes(60 * 25), kind: AskerKind.CONNECTS })
    put(6, { used: now, netns: stranger })
    for (const each of [netns, stranger]) asker_counts.update(u64Codec.encode(each), u64Codec.encode(77n))
    assert.equal(await sweepAskers(askers, asker_counts, pods, now), 3)
    assert.deepEqual(await ids(), [1, 2, 4])
    assert.equal(count(netns), 3n)
    assert.equal(count(stranger), undefined)

    asker_counts.update(u64Codec.encode(netns), u64Codec.encode(4096n))
    assert.equal(await sweepAskers(askers, asker_counts, pods, now), 0)
    assert.equal(count(netns), 3n, 'a count that drifted is right again although nothing was swept')

    const started = { at: '', configPath: '', stateDir: '', cgroup, features: kernel.features }
    const map = (await statusView(agent, started)).maps.find(({ name }) => name === 'askers')
    assert.deepEqual(map, { name: 'askers', entries: 3, capacity: 262144 })

    await agent.reload(datapath.config([]))
    await agent.tick(true)
    assert.deepEqual(await ids(), [])
    assert.equal(count(netns), undefined)
  })
})
