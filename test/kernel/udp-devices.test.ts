/**
 * Datagrams that are bound to an interface, on their way to a proxy: they are answered as with iptables, and none leaves the pod for a loopback
 * address.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { basename } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { localhost } from '../../core/address.ts'
import { AddedKind, addedCodec, RouteKind, routeCodec, routeKeyCodec } from '../../core/contract.ts'
import { until } from '../lab/agent.ts'
import { kill, must } from '../lab/net.ts'
import { DnsPods, interception } from './datagrams.ts'
import { configOf } from './rules.ts'

/** Prints a line for each packet of UDP with a loopback destination that any interface of the node gets; `ready` first, all of it at the end. */
const listening = `
import socket
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
print('ready', flush=True)
while True:
    packet, where = wire.recvfrom(65536)
    kind, rest = packet[12:14], packet[14:]
    if where[0] == 'lo': continue
    if kind == b'\\x08\\0' and rest[9] == 17: to = socket.inet_ntop(socket.AF_INET, rest[16:20])
    elif kind == b'\\x86\\xdd' and rest[6] == 17: to = socket.inet_ntop(socket.AF_INET6, rest[24:40])
    else: continue
    print(to, flush=True)
`

/** Asks with every option, by sendto and by a connected socket; tells [option, way, text, seen source, sender] of each. */
const asking = (device: string) => `
DEVICE, NAME = socket.if_nametoindex('${device}'), b'${device}'
def unicast(made):
    made.setsockopt(*((0, 50) if made.family == V4 else (41, 76)), struct.pack('!I', DEVICE))
def bound(made):
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, NAME)
def info(made, source=None):
    if made.family == V4: return (0, 8, struct.pack('=I4s4s', DEVICE, socket.inet_pton(V4, source or '0.0.0.0'), bytes(4)))
    return (41, 50, socket.inet_pton(V6, source or '::') + struct.pack('=I', DEVICE))
def ask(family, to, name, way):
    made = udp(family)
    made.settimeout(0.7)
    if name == 'unicast': unicast(made)
    if name == 'bound': bound(made)
    if way == 'connect': made.connect((to, 53))
    if name == 'info': made.sendmsg([b'0 q'], [info(made)], 0, *([] if way == 'connect' else [(to, 53)]))
    elif way == 'connect': made.send(b'0 q')
    else: made.sendto(b'0 q', (to, 53))
    return [name, way, *read(made)[:3]]
tell([attempt(ask, family, to, name, way) for family, to in ((V4, '8.8.8.8'), (V6, 'fd00::53')) for name in ('unicast', 'info', 'bound') for way in ('sendto', 'connect')])`

describe('datagrams that are bound to an interface', { timeout: 180_000 }, () => {
  let pods: DnsPods
  let wire: string[]
  let listener: ReturnType<DnsPods['pod']['spawn']> | undefined
  before(async () => {
    pods = await DnsPods.create('udpdev')
    listener = pods.lab.node.spawn(['/usr/bin/python3', '-I', '-S', '-B', '-c', listening])
    wire = []
    listener.stdout?.on('data', (data: Buffer) => wire.push(...data.toString().split('\n').filter(Boolean)))
    if (listener.stdout) await once(listener.stdout, 'data', { signal: AbortSignal.timeout(10_000) })
    wire = []
  })
  after(async () => {
    if (listener) await kill(listener)
    await pods?.[Symbol.asyncDispose]()
  })

  const answers = (...options: string[]) =>
    [
      ['8.8.8.8', pods.pod.address],
      ['fd00::53', pods.pod.ipv6],
    ].flatMap(([server, source]) => options.flatMap((name) => ['sendto', 'connect'].map((way) => [name, way, 'q', source, server])))

  test('IP_UNICAST_IF, IP_PKTINFO and SO_BINDTODEVICE, both families: the server that was asked answers', async () => {
    assert.deepEqual(await pods.client(asking('eth0')), answers('unicast', 'info', 'bound'))
    assert.deepEqual(wire, [])
  })

  test('look-ups that ask for no interface find what they found', async () => {
    const get = (...words: string[]) => must(pods.pod.command(['ip', ...words]))
    assert.match(await get('route', 'get', '127.0.0.1'), /^local 127\.0\.0\.1 dev lo src 127\.0\.0\.1 /)
    assert.match(await get('-6', 'route', 'get', '::1'), /^local ::1 .*dev lo table local proto kernel src ::1 metric 0 /)
    await pods.agent.tick()
    const mirror = [...pods.agent.datapath.have.routes.values()].map(({ key, value }) => ({
      ...routeKeyCodec.decode(key),
      ...routeCodec.decode(value),
    }))
    const own = mirror.filter(({ family, prefixlen, addr }) => addr.join() === localhost[family === 4 ? 4 : 6].join() && prefixlen - 96 >= 32)
    assert.deepEqual(own.map(({ family, kind, interface: index }) => [family, kind, index]).sort(), [
      [4, RouteKind.LOCAL, 1],
      [6, RouteKind.LOCAL, 1],
    ])
  })

  test('an interface that comes later, is down for a while, and goes', async () => {
    const ip = (...words: string[]) => must(pods.pod.command(['ip', ...words]))
    const routes = async () => {
      const [four, six] = await Promise.all([
        ip('route', 'show', 'table', 'local', 'proto', '109'),
        ip('-6', 'route', 'show', 'table', 'local', 'proto', '109'),
      ])
      return [/^local 127\.0\.0\.1 dev net2 /m.test(four), /^local ::1 dev net2 /m.test(six), /^local 127\.0\.0\.1 dev eth0 /m.test(four)]
    }
    const become = async (...wanted: boolean[]) => {
      await until(`routes ${wanted.join()}`, 10_000, async () => {
        await pods.agent.tick()
        return (await routes()).join() === wanted.join() || undefined
      })
    }
    await ip('link', 'add', 'net2', 'type', 'veth', 'peer', 'name', 'wire2', 'netns', basename(pods.lab.node.netns))
    await must(pods.lab.node.command(['ip', 'link', 'set', 'wire2', 'up']))
    await ip('address', 'add', '10.78.0.2/24', 'dev', 'net2')
    await become(true, false, true)
    await ip('link', 'set', 'net2', 'up')
    await ip('address', 'add', 'fd78::2/64', 'dev', 'net2', 'nodad')
    await become(true, true, true)
    const told = (await pods.client(asking('net2'))) as string[][]
    const heard = (name: string) => told.filter(([option]) => option === name).map(([, , text, , server]) => [text, server])
    const both = ['8.8.8.8', 'fd00::53'].flatMap((server) => [server, server]).map((server) => ['q', server])
    assert.deepEqual([heard('unicast'), heard('info')], [both, both])
    // The answer goes to an address of eth0, and a socket that is bound to net2 takes none that does.
    assert.deepEqual(new Set(heard('bound').map(([text]) => text)), new Set(['TIMEOUT']))
    await ip('link', 'set', 'net2', 'down')
    await become(true, false, true) // Linux keeps local routes of IPv4
    await ip('link', 'set', 'net2', 'up')
    await become(true, true, true)
    await ip('link', 'del', 'net2')
    await become(false, false, true)
    assert.deepEqual(
      pods.agent.outcomes.map(({ state }) => state),
      ['enrolled'],
    )
    const records = (await pods.agent.datapath.maps.added.entries()).map(({ key }) => addedCodec.decode(key))
    const devices = new Set(records.filter(({ kind }) => kind === AddedKind.ROUTE).map(({ device }) => device))
    assert.equal(devices.size, 2, 'those of lo and eth0')
    assert.deepEqual(wire, [])
  })

  test('they go with the rules', async () => {
    await pods.agent.reload(configOf(pods.datapath, [], interception))
    for (const family of ['-4', '-6'])
      assert.equal(await must(pods.pod.command(['ip', family, 'route', 'show', 'table', 'local', 'proto', '109'])), '')
    assert.deepEqual(await pods.agent.datapath.maps.added.entries(), [])
  })
})
