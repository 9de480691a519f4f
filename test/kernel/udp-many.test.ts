/** Many datagrams at once: no answer lost, none taken for another's; and what they leave behind. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { AskerLimit, askerCodec } from '../../core/contract.ts'
import { DnsPods } from './datagrams.ts'
import { refusalsOf } from './fixture.ts'

interface Load {
  readonly right: number
  readonly wrong: number
  readonly lost: number
}

/**
 * Every socket asks six servers at once, again and again, each time with the same number: only the sender of an answer tells them apart. The answers of
 * one round come in any order; late ones of the round before would be seen.
 */
const flood = `
import random
def rounds(made, servers, times):
    right = wrong = lost = 0
    for number in range(times):
        for server in servers: made.sendto(b'%d %d %s' % (random.choice((0, 0, 1, 2)), number, server.encode()), (server, 53))
        wanted = set(servers)
        while wanted:
            got = read(made)
            if len(got) == 1: lost += len(wanted); break
            at, server = got[0].split(' ')
            if int(at) == number and server == got[2] and got[3] == 53 and server in wanted: wanted.remove(server); right += 1
            else: wrong += 1
    return right, wrong, lost
def together(sockets, servers, times):
    children = []
    for made in sockets:
        out, into = os.pipe()
        if os.fork() == 0:
            os.write(into, json.dumps(rounds(made, servers, times)).encode()); os._exit(0)
        os.close(into); children.append(out)
    results = [json.loads(os.read(out, 100)) for out in children]
    for _ in children: os.wait()
    return dict(zip(('right', 'wrong', 'lost'), map(sum, zip(*results))))
`

describe('many datagrams to captured servers', { timeout: 240_000 }, () => {
  let pods: DnsPods
  before(async () => {
    pods = await DnsPods.create('udpmany')
  })
  after(() => pods?.[Symbol.asyncDispose]())

  const ids = () => pods.agent.datapath.maps.askers.entries()

  test('10,080 queries of 16 sockets to 6 servers with one transaction id each round: each answer from its server, all of them', async () => {
    const servers4 = ['8.8.8.8', '8.8.4.4', '9.9.9.9', '1.1.1.1', '1.0.0.1', '9.9.9.10']
    const servers6 = ['fd00::53', 'fd00::54', 'fd00::55', '::ffff:1.1.1.1', '::ffff:1.0.0.1', '::ffff:9.9.9.10']
    for (const [family, servers] of [
      ['V4', servers4],
      ['V6', servers6],
    ] as const) {
      const script = `${flood}\ntell(together([udp(${family}) for _ in range(16)], ${JSON.stringify(servers)}, 105))`
      const load = (await pods.client(script, 100_000)) as Load
      assert.deepEqual(load, { right: 10_080, wrong: 0, lost: 0 })
    }
  })

  test('few ids, however many queries: one for each server and source, counted', async () => {
    const entries = (await ids()).map(({ value }) => askerCodec.decode(value))
    assert.ok(entries.length > 0 && entries.length <= 14, `${entries.length} ids`)
    const [count] = await pods.agent.datapath.maps.asker_counts.entries()
    assert.equal(count?.value.readBigInt64LE(), BigInt(entries.length))
  })

  test('sockets that share what they ask share the id; asking again adds none', async () => {
    const before = (await ids()).length
    await pods.client(`
for _ in range(300):
    made = udp()
    for server in ('8.8.8.8', '8.8.4.4'): made.sendto(b'0 q', (server, 53))
    read(made); read(made)
tell(0)`)
    assert.ok((await ids()).length <= before + 1)
  })

  test('a pod that asks more servers than its share: refused and counted, and the servers that it knows still answer', async () => {
    const { askers, asker_counts: counts } = pods.agent.datapath.maps
    const [entry] = await counts.entries()
    assert.ok(entry)
    const full = Buffer.alloc(8)
    full.writeBigInt64LE(BigInt(AskerLimit.MAX_ASKERS))
    counts.update(entry.key, full)
    const known = (await askers.entries()).length
    const told = await pods.client(`
made = udp()
made.sendto(b'0 first', ('8.8.8.8', 53))
made.sendto(b'0 known', ('8.8.4.4', 53))
refused = attempt(made.sendto, b'0 q', ('10.1.2.3', 53))
connected = udp(); connected.connect(('8.8.8.8', 53)); connected.send(b'0 peer')
again = attempt(connected.connect, ('10.1.2.3', 53))
tell(sorted([read(made)[2], read(made)[2]]), refused, again, read(connected)[2], connected.getpeername()[0])`)
    assert.deepEqual(told, [['8.8.4.4', '8.8.8.8'], 'EPERM', 'EPERM', '8.8.8.8', '8.8.8.8'])
    assert.equal((await refusalsOf(pods.agent.datapath)).get('askers'), 2)
    assert.equal((await askers.entries()).length, known)
    counts.update(entry.key, entry.value)
  })

  test('answers of 60 kB come whole, and checksums that are asked for are right', async () => {
    const told = await pods.client(`
big = b'x' * 60000
made = udp()
made.sendto(b'0 q', ('8.8.8.8', 53)); read(made)
made.sendto(b'0 ' + big, ('8.8.4.4', 53))
data, source = made.recvfrom(65536)
unchecked = udp()
unchecked.setsockopt(socket.SOL_SOCKET, 11, 1)
for server in ('8.8.8.8', '8.8.4.4'): unchecked.sendto(b'0 ' + server.encode(), (server, 53))
tell(len(data.split(b'|')[0]), source[0], sorted([read(unchecked)[2], read(unchecked)[2]]))`)
    assert.deepEqual(told, [60000, '8.8.4.4', ['8.8.4.4', '8.8.8.8']])
  })
})
