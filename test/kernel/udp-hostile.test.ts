/** Sockets and datagrams that are out to confuse answers, or that do so without meaning to. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { askerCodec } from '../../core/contract.ts'
import { Lab } from '../lab/net.ts'
import { DnsPods, interception } from './datagrams.ts'
import { DatapathUnderTest, kernel } from './fixture.ts'
import { configOf } from './rules.ts'

const setsErrno = kernel.features.some(({ id, state }) => id === 'set_retval' && state === 'yes')
const errno = (name: string) => (setsErrno ? name : 'EPERM')

describe('datagrams that could be taken for others', { timeout: 180_000 }, () => {
  let pods: DnsPods
  before(async () => {
    pods = await DnsPods.create('udphostile')
  })
  after(() => pods?.[Symbol.asyncDispose]())

  test('connected sockets that share a port: each gets the answers of its own server', async () => {
    const told = await pods.client(`
def shared(family, option, bind):
    made = socket.socket(family, UDP)
    made.settimeout(2)
    made.setsockopt(socket.SOL_SOCKET, option, 1)
    made.bind(bind)
    return made
def both(family, option, bind, servers):
    one = shared(family, option, bind)
    two = shared(family, option, one.getsockname())
    for made, server in zip((one, two), servers): made.connect((server, 53))
    for made, server in zip((one, two), servers): made.send(b'100 ' + server.encode())
    out = []
    for made in (one, two):
        got = read(made)
        out.append([got[0], *got[2:], made.getsockname()[0]] if len(got) > 1 else got)
    return out
four, six, mapped = ['8.8.8.8', '8.8.4.4'], ['fd00::53', 'fd00::54'], ['::ffff:8.8.8.8', '::ffff:8.8.4.4']
cases = [(V4, (POD, 0), four), (V4, ('', 0), four), (V6, (POD6, 0), six), (V6, ('::', 0), six), (V6, ('::', 0), mapped)]
tell([both(family, option, bind, servers) for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT) for family, bind, servers in cases])`)
    const { address, ipv6 } = pods.pod
    const pair = (own: string, ...servers: string[]) => servers.map((server) => [server, server, 53, own])
    const four = pair(address, '8.8.8.8', '8.8.4.4')
    const six = pair(ipv6, 'fd00::53', 'fd00::54')
    const once = [four, four, six, six, pair(`::ffff:${address}`, '::ffff:8.8.8.8', '::ffff:8.8.4.4')]
    assert.deepEqual(told, [...once, ...once])
  })

  test('unconnected sockets that share a port: whoever reads an answer sees the server that gave it', async () => {
    const told = await pods.client(`
made = []
for server in ('8.8.8.8', '8.8.4.4', '9.9.9.9'):
    each = socket.socket(V4, UDP)
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    each.bind(made[0].getsockname() if made else (POD, 0))
    made.append(each)
for each, server in zip(made, ('8.8.8.8', '8.8.4.4', '9.9.9.9')): each.sendto(b'0 ' + server.encode(), (server, 53))
out = []
while len(out) < 3:
    ready = select.select(made, [], [], 2)[0]
    if not ready: break
    out.append(read(ready[0]))
tell(sorted([got[0], got[2]] for got in out))`)
    assert.deepEqual(
      told,
      ['8.8.4.4', '8.8.8.8', '9.9.9.9'].map((server) => [server, server]),
    )
  })

  test('the id of a connected socket in use does not age', async () => {
    const [answer, at] = (await pods.client(`
made = udp()
made.connect(('8.8.8.8', 53))
made.connect(('8.8.8.77', 53))
time.sleep(1.2)
at = time.monotonic_ns()
made.send(b'0 q')
tell(read(made)[0], str(at))`)) as [string, string]
    assert.equal(answer, 'q')
    const server = Buffer.from([8, 8, 8, 77]).readUInt32BE()
    const entries = await pods.agent.datapath.maps.askers.entries()
    const used = entries.map(({ value }) => askerCodec.decode(value)).filter((asker) => asker.server[0] === server)
    assert.equal(used.length, 1)
    assert.ok((used[0]?.used ?? 0n) >= BigInt(at))
  })

  test('a socket of a port alone that changes families: its own address is one that there is', async () => {
    const told = (await pods.client(`
made = udp(V6, ('::', 0))
made.connect(('fd00::53', 53))
before = made.getsockname()[0]
attempt(made.connect, ('::ffff:8.8.8.8', 53))
tell(before, made.getsockname()[0])`)) as [string, string]
    assert.equal(told[0], pods.pod.ipv6)
    assert.ok([pods.pod.ipv6, '::1', `::ffff:${pods.pod.address}`].includes(told[1]), told[1])
  })

  test('a socket of a port alone that is connected to the proxy cannot leave the pod, and keeps what it has', async () => {
    const told = await pods.client(`
def leaves(family, any, server, outside):
    made = udp(family, (any, 0))
    made.connect((server, 53))
    error = attempt(made.connect, (outside, 5353))
    made.send(b'0 q')
    return [error, read(made)[::2], made.getpeername()[0], made.getsockname()[0]]
tell([leaves(V4, '', '8.8.8.8', '8.8.4.4'), leaves(V6, '::', 'fd00::53', 'fd00::54'), leaves(V6, '::', '::ffff:8.8.8.8', '::ffff:8.8.4.4')])`)
    const kept = (server: string, own: string) => [errno('EINVAL'), ['q', server], server, own]
    const { address, ipv6 } = pods.pod
    assert.deepEqual(told, [kept('8.8.8.8', address), kept('fd00::53', ipv6), kept('::ffff:8.8.8.8', `::ffff:${address}`)])
  })

  test('answers that lo carries in fragments, to sockets that are connected or not: whole, and from the server that was asked', async () => {
    const told = await pods.client(`
big = b'x' * 65500
def answers(family, servers):
    sends, peer = udp(family), udp(family)
    for server in servers: sends.sendto(b'0 q', (server, 53)); read(sends)
    for server in servers: peer.connect((server, 53))
    out = []
    for made, work in ((sends, lambda: sends.sendto(b'0 ' + big, (servers[1], 53))), (peer, lambda: peer.send(b'0 ' + big))):
        work()
        got = attempt(made.recvfrom, 65536)
        out.append(got if isinstance(got, str) else [len(got[0].rstrip(b'|0123456789abcdef:.')), got[1][0]])
    return out
tell([answers(V4, ['8.8.8.8', '8.8.4.4']), answers(V6, ['fd00::53', 'fd00::54'])])`)
    assert.deepEqual(
      told,
      ['8.8.4.4', 'fd00::54'].map((server) => [
        [65500, server],
        [65500, server],
      ]),
    )
  })

  test('nobody listens at the proxy, and datagrams have options of IP: the error comes all the same', async () => {
    await pods.stopProxy()
    const told = await pods.client(`
made, connected = udp(), udp()
for each in (made, connected):
    each.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 1, 1, 1]))
made.setsockopt(socket.IPPROTO_IP, 11, 1)
out = []
for server in ('8.8.8.8', '8.8.4.4'):
    made.sendto(b'0 q', (server, 53)); out += read(made)
    connected.connect((server, 53)); connected.send(b'0 q'); out += read(connected)
made.recvmsg(100, 500, socket.MSG_ERRQUEUE)
tell(out, made.recvmsg(100, 500, socket.MSG_ERRQUEUE)[3])`)
    await pods.startProxy()
    assert.deepEqual(told, [Array.from({ length: 4 }, () => 'ECONNREFUSED'), ['8.8.4.4', 53]])
  })
})

test('which id a server gets cannot be foretold: it differs from load to load', { timeout: 120_000 }, async () => {
  const lab = await Lab.create('udpseed')
  const ids: string[] = []
  try {
    const pod = await lab.pod('client')
    const script = `
import socket
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for server in ('8.8.8.8', '8.8.4.4'): made.sendto(b'q', (server, 53))`
    for (const name of ['udpseed1', 'udpseed2']) {
      await using datapath = new DatapathUnderTest(name)
      const agent = await datapath.start(configOf(datapath, [pod], interception))
      const { code, stderr } = await pod.exec(['/usr/bin/python3', '-I', '-S', '-B', '-c', script])
      assert.equal(code, 0, stderr)
      ids.push(...(await agent.datapath.maps.askers.entries()).map(({ key }) => key.toString('hex')))
    }
  } finally {
    await lab.close()
  }
  assert.equal(ids.length, 2)
  assert.notEqual(ids[0], ids[1])
})
