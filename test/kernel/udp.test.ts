/** Datagrams that rules send to a proxy: what apps see of it, on every kind of socket. The proxy says what it saw. */
import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { until } from '../lab/agent.ts'
import { DnsPods, interception } from './datagrams.ts'
import { kernel } from './fixture.ts'
import { configOf } from './rules.ts'

const setsErrno = kernel.features.some(({ id, state }) => id === 'set_retval' && state === 'yes')
const errno = (name: string) => (setsErrno ? name : 'EPERM')
const isId = /^(127\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|fd6d:6572:6272:6964::)/

describe('datagrams to a captured port', { timeout: 180_000 }, () => {
  let pods: DnsPods
  before(async () => {
    pods = await DnsPods.create('udp')
  })
  after(() => pods?.[Symbol.asyncDispose]())

  test('a connected socket: its own address, its peer and the sender of answers are as without redirection', async () => {
    const told = await pods.client(`
def ends(family, to, bind=None):
    made = udp(family, bind)
    made.connect((to, 53))
    made.send(b'0 q')
    return [read(made), made.getpeername()[0], made.getsockname()[0]]
tell([ends(V4, '8.8.8.8'), ends(V6, 'fd00::53'), ends(V6, '::ffff:8.8.8.8'), ends(V4, '8.8.8.8', (POD, 0)), ends(V6, 'fd00::53', (POD6, 0))])`)
    const four = [['q', pods.pod.address, '8.8.8.8', 53], '8.8.8.8', pods.pod.address]
    const six = [['q', pods.pod.ipv6, 'fd00::53', 53], 'fd00::53', pods.pod.ipv6]
    const mapped = [['q', pods.pod.address, '::ffff:8.8.8.8', 53], '::ffff:8.8.8.8', `::ffff:${pods.pod.address}`]
    assert.deepEqual(told, [four, six, mapped, four, six])
  })

  test('a socket that is bound to a port alone, as that of dig: the proxy sees loopback, the app its pod', async () => {
    const told = await pods.client(`
def ends(family, to, any):
    made = udp(family, (any, 0))
    made.connect((to, 53))
    made.send(b'0 q')
    first = read(made)
    made.connect((to, 53))
    made.send(b'0 again')
    shown = made.getsockname()[0]
    second = read(made)
    disconnect(made)
    return [first[0], first[2], made.getsockname()[0] == any, shown, second[0], second[2]]
tell([ends(V4, '8.8.8.8', '0.0.0.0'), ends(V6, 'fd00::53', '::'), ends(V6, '::ffff:8.8.8.8', '::')])`)
    assert.deepEqual(told, [
      ['q', '8.8.8.8', true, pods.pod.address, 'again', '8.8.8.8'],
      ['q', 'fd00::53', true, pods.pod.ipv6, 'again', 'fd00::53'],
      ['q', '::ffff:8.8.8.8', true, `::ffff:${pods.pod.address}`, 'again', '::ffff:8.8.8.8'],
    ])
  })

  test('several servers from one socket, all families at once: each answer comes from the server that was asked', async () => {
    const servers = ['8.8.8.8', '8.8.4.4', '9.9.9.9', '9.9.9.10']
    const servers6 = ['fd00::53', 'fd00::54', '::ffff:8.8.8.8', '::ffff:9.9.9.9', 'fd00::55']
    const told = (await pods.client(`
def ask(family, servers):
    made = udp(family)
    for server in servers: made.sendto(b'0 ' + server.encode(), (server, 53))
    answers = [read(made) for _ in servers]
    return sorted(answers, key=lambda answer: servers.index(answer[2]))
tell([ask(V4, ${JSON.stringify(servers)}), ask(V6, ${JSON.stringify(servers6)})])`)) as string[][][]
    for (const [i, asked] of [servers, servers6].entries()) {
      assert.deepEqual(
        told[i]?.map(([text, , from, port]) => [text, from, port]),
        asked.map((server) => [server, server, 53]),
      )
    }
    assert.deepEqual(
      told[0]?.map(([, source = '']) => (isId.test(source) ? 'id' : source)),
      [pods.pod.address, 'id', 'id', 'id'],
    )
  })

  test('sendmsg with IP_PKTINFO and sendmmsg; an address of family AF_UNSPEC does not lead past the proxy', async () => {
    const told = await pods.client(`
made = udp()
info = struct.pack('=I4s4s', 0, socket.inet_aton(POD), bytes(4))
for server in ('8.8.8.8', '8.8.4.4'):
    made.sendmsg([b'0 ' + server.encode()], [(socket.IPPROTO_IP, 8, info)], 0, (server, 53))
out = [read(made), read(made)]
made = udp()
made.connect(('8.8.8.8', 53))
made.sendmsg([b'0 none'], [(socket.IPPROTO_IP, 8, struct.pack('=I4s4s', 0, bytes(4), bytes(4)))])
out.append(read(made))

class Iovec(ctypes.Structure): _fields_ = [('base', ctypes.c_char_p), ('len', ctypes.c_size_t)]
class Message(ctypes.Structure):
    _fields_ = [('name', ctypes.c_char_p), ('namelen', ctypes.c_uint32), ('iov', ctypes.POINTER(Iovec)), ('iovlen', ctypes.c_size_t),
                ('control', ctypes.c_void_p), ('controllen', ctypes.c_size_t), ('flags', ctypes.c_int), ('sent', ctypes.c_uint64)]
many = udp()
servers = ['8.8.8.8', '8.8.4.4', '9.9.9.9']
def message(family, server):
    name = struct.pack('=H', family) + struct.pack('!H4s8x', 53, socket.inet_aton(server))
    text = b'0 ' + server.encode()
    return Message(name, 16, ctypes.pointer(Iovec(text, len(text))), 1, None, 0, 0, 0)
def send(family):
    messages = (Message * 3)(*[message(family, server) for server in servers])
    sent = libc.sendmmsg(many.fileno(), messages, 3, 0)
    return [sent] + [read(many) for _ in range(3)]
tell(out, send(2), send(0))`)
    const trim = (lists: unknown) => JSON.parse(JSON.stringify(lists), (_, value) => (typeof value === 'string' && isId.test(value) ? 'id' : value))
    const pod = pods.pod.address
    const each = [3, ['8.8.8.8', pod, '8.8.8.8', 53], ['8.8.4.4', 'id', '8.8.4.4', 53], ['9.9.9.9', 'id', '9.9.9.9', 53]]
    assert.deepEqual(trim(told), [
      [
        ['8.8.8.8', pod, '8.8.8.8', 53],
        ['8.8.4.4', 'id', '8.8.4.4', 53],
        ['none', pod, '8.8.8.8', 53],
      ],
      each,
      each,
    ])
  })

  test('a socket that is connected again never takes a late answer of the server before, with AF_UNSPEC or without', async () => {
    const told = await pods.client(`
def again(family, first, second, unspec):
    made = udp(family)
    made.connect((first, 53)); made.send(b'200 late')
    if unspec: disconnect(made)
    made.connect((second, 53)); made.send(b'0 soon'); made.send(b'400 last')
    out = [read(made), read(made), made.getpeername()[0], made.getsockname()[0]]
    if '.' in first: # after AF_UNSPEC an IPv6 socket hears nobody but its old peer: the kernel's own doing
        disconnect(made)
        made.sendto(b'0 to', (first, 53))
        out.append(read(made))
    return [[one[0], one[2]] if isinstance(one, list) else one for one in out]
tell([again(V4, '8.8.8.8', '8.8.4.4', 0), again(V4, '8.8.8.8', '8.8.4.4', 1), again(V6, 'fd00::53', 'fd00::54', 0), again(V6, 'fd00::53', 'fd00::54', 1),
      again(V6, '::ffff:8.8.8.8', '::ffff:8.8.4.4', 1)])`)
    const expected = (first: string, second: string, own: string) => [
      ['soon', second],
      ['last', second],
      second,
      own,
      ...(first.includes('.') ? [['to', first]] : []),
    ]
    const four = expected('8.8.8.8', '8.8.4.4', pods.pod.address)
    const six = expected('fd00::53', 'fd00::54', pods.pod.ipv6)
    assert.deepEqual(told, [four, four, six, six, expected('::ffff:8.8.8.8', '::ffff:8.8.4.4', `::ffff:${pods.pod.address}`)])
  })

  test('a connected socket used with sendto: its server answers, another one is not heard', async () => {
    const told = await pods.client(`
def both(family, peer, other):
    made = udp(family)
    made.connect((peer, 53))
    made.sendto(b'0 other', (other, 53))
    made.sendto(b'100 peer', (peer, 53))
    got = read(made)
    made.settimeout(0.2)
    return [got[0], got[2], read(made)]
tell([both(V4, '8.8.8.8', '8.8.4.4'), both(V6, 'fd00::53', 'fd00::54'), both(V6, '::ffff:8.8.8.8', '::ffff:8.8.4.4')])`)
    const expected = (peer: string) => ['peer', peer, ['TIMEOUT']]
    assert.deepEqual(told, ['8.8.8.8', 'fd00::53', '::ffff:8.8.8.8'].map(expected))
  })

  test('what routing refuses is refused with its errno, and a refused connect keeps the peer', async () => {
    const told = await pods.client(`
made, local = udp(), udp(bind=('127.0.0.1', 0))
made.connect(('8.8.8.8', 53))
errors = [attempt(udp().sendto, b'0 q', to) for to in (('8.8.8.8', 0), ('255.255.255.255', 53), ('10.77.0.255', 53))]
errors += [attempt(local.sendto, b'0 q', ('8.8.8.8', 53)), attempt(local.connect, ('8.8.8.8', 53)), attempt(made.connect, ('255.255.255.255', 53))]
made.send(b'0 q')
tell(errors, read(made), made.getpeername()[0])`)
    const errors = ['EINVAL', ...['ENETUNREACH', 'ENETUNREACH', 'EINVAL', 'EINVAL', 'ENETUNREACH'].map(errno)]
    assert.deepEqual(told, [errors, ['q', pods.pod.address, '8.8.8.8', 53], '8.8.8.8'])
  })

  test('an app that sends to an address of the ids sends to loopback', async () => {
    assert.deepEqual(
      await pods.client(`
there = udp(bind=('127.64.1.2', 5353))
made = udp()
made.sendto(b'hello', ('127.64.1.2', 5353))
data, source = there.recvfrom(100)
there.sendto(b'a|b|c', source)
tell(data.decode(), read(made))`),
      ['hello', ['a', 'b', '127.64.1.2', 5353]],
    )
  })

  test('nobody listens at the proxy: connected sockets are refused, whichever server they asked', async () => {
    await pods.stopProxy()
    const told = await pods.client(`
out = []
for family, servers in ((V4, ['8.8.8.8', '8.8.4.4']), (V6, ['fd00::53', 'fd00::54']), (V6, ['::ffff:8.8.8.8', '::ffff:8.8.4.4'])):
    made = udp(family)
    for server in servers:
        made.connect((server, 53)); made.send(b'0 q'); out += read(made)
for family, level, option, servers in ((V4, 0, 11, ['8.8.8.8', '8.8.4.4']), (V6, 41, 25, ['fd00::53', 'fd00::54'])):
    made = udp(family)
    made.setsockopt(level, option, 1)
    for server in servers:
        made.sendto(b'0 q', (server, 53)); out += read(made)
    made.recvmsg(100, 500, socket.MSG_ERRQUEUE)
    out.append(made.recvmsg(100, 500, socket.MSG_ERRQUEUE)[3][0])
silent = udp()
silent.settimeout(0.2)
silent.sendto(b'0 q', ('8.8.8.8', 53))
tell(out, read(silent))`)
    await pods.startProxy()
    const refused = (count: number) => Array.from({ length: count }, () => 'ECONNREFUSED')
    assert.deepEqual(told, [[...refused(8), '8.8.4.4', ...refused(2), 'fd00::54'], ['TIMEOUT']])
  })

  test('a pod whose rules let all UDP pass is not asked', async () => {
    const { agent, datapath } = pods
    const passing = { ...interception, outbound: [{ name: 'tcp', when: { proto: 'tcp' as const, port: 'dns' }, then: 'dns' }] }
    await agent.reload(configOf(datapath, [pods.pod], passing))
    const before = await agent.datapath.maps.counters.entries()
    const told = await pods.client(`
made, there = udp(), udp(bind=('127.0.0.1', 53))
made.sendto(b'q', ('127.0.0.1', 53))
tell(there.recvfrom(10)[0].decode(), attempt(udp().sendto, b'q', ('8.8.8.8', 53)))`)
    assert.deepEqual(told, ['q', 1])
    assert.deepEqual((await agent.datapath.maps.counters.entries()).length, before.length)
    await agent.reload(configOf(datapath, [pods.pod], interception))
  })

  test('connected sockets go on when new rules let all UDP pass, those with an id too', async () => {
    const { agent, datapath } = pods
    const [ready, go] = ['ready', 'go'].map((name) => join(pods.pod.directory, name)) as [string, string]
    const told = pods.client(`
made = []
for family, servers in ((V4, ['8.8.8.8', '8.8.4.4']), (V6, ['fd00::53', 'fd00::54'])):
    made.append(udp(family))
    for server in servers:
        made[-1].connect((server, 53)); made[-1].send(b'0 q'); read(made[-1])
open('${ready}', 'w').close()
while not os.path.exists('${go}'): time.sleep(0.01)
out = []
for each in made:
    each.send(b'0 again'); out.append(read(each))
tell(out)`)
    await until('the sockets are connected', 10_000, () => existsSync(ready) || undefined)
    await agent.reload(configOf(datapath, [pods.pod], { ...interception, outbound: [] }))
    writeFileSync(go, '')
    const answers = (await told) as string[][]
    assert.deepEqual(
      answers.map(([text, source = '', from]) => [text, isId.test(source), from]),
      [
        ['again', true, '8.8.4.4'],
        ['again', true, 'fd00::54'],
      ],
    )
    await agent.reload(configOf(datapath, [pods.pod], interception))
  })
})
