/** A client with an MPTCP socket sees what it would see with a TCP socket. The proxy speaks TCP, to which such a connection falls back. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { after, describe, test } from 'node:test'
import { Ability } from '../../core/contract.ts'
import { applyIptables, istioRules } from '../lab/istio-iptables.ts'
import { must } from '../lab/net.ts'
import { DatapathUnderTest, kernel, seesProxy, threePods } from './fixture.ts'

const enabled = existsSync('/proc/sys/net/mptcp/enabled') && readFileSync('/proc/sys/net/mptcp/enabled', 'utf8').trim() === '1'
const skip = enabled ? false : 'this kernel has no MPTCP'
/** The datapath knows the socket of the app. */
const known = (kernel.abilities & BigInt(Ability.MPTCP)) !== 0n
const told = known && !seesProxy

/** Connects one socket to each destination, one after the other; prints for each what the client sees and what the acceptor said. */
const script = `
import ctypes, json, os, socket, struct, sys
os.setgroups([]); os.setgid(1000); os.setuid(1000)
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
s.settimeout(5)
seen = []
for i, (host, port) in enumerate(json.loads(sys.argv[1])):
    if i:
        s.close() if sys.argv[2] == 'new' else None
        if sys.argv[2] == 'new':
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
            s.settimeout(5)
        else:
            assert ctypes.CDLL(None).connect(s.fileno(), (ctypes.c_ubyte * 16)(), 16) == 0
    s.connect((host, port))
    line = s.makefile('rb').readline()
    s.sendall(b'ping')
    echo = s.recv(4)
    try:
        raw = s.getsockopt(socket.SOL_IP, 80, 16)
        origin = '%s:%d' % (socket.inet_ntoa(raw[4:8]), struct.unpack_from('!H', raw, 2)[0])
    except OSError as error:
        origin = error.strerror
    seen.append({'peer': '%s:%d' % s.getpeername(), 'local': '%s:%d' % s.getsockname(), 'origin': origin, 'echo': echo.decode(), 'said': json.loads(line),
        'protocol': s.getsockopt(socket.SOL_SOCKET, 38)})
print(json.dumps(seen))
`

/** A proxy that listens with MPTCP: accepts once, and says on the connection what the client asked for. */
const mptcpProxy = `
import json, os, socket, struct
os.setgroups([]); os.setgid(1337); os.setuid(1337)
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', 15001)); s.listen()
print('ready', flush=True)
s.settimeout(20)
c, peer = s.accept()
try:
    raw = c.getsockopt(socket.SOL_IP, 80, 16)
    origin = '%s:%d (16 bytes)' % (socket.inet_ntoa(raw[4:8]), struct.unpack_from('!H', raw, 2)[0])
except OSError as error:
    origin = error.strerror
c.sendall((json.dumps({'listener': 'mptcp', 'peer': '%s:%d' % peer, 'origin': {'16': origin}}) + '\\n').encode())
c.sendall(c.recv(4)); c.recv(1)
`

interface Seen {
  readonly peer: string
  readonly local: string
  readonly origin: string
  readonly echo: string
  readonly protocol: number
  readonly said: { readonly listener: string; readonly peer: string; readonly origin: Readonly<Record<string, string>> }
}

describe('MPTCP clients', { timeout: 60_000, skip }, async () => {
  const pods = await threePods('mptcp')
  const { client, server, third, servers } = pods
  after(() => pods.close())

  async function connectAll(to: readonly (readonly [string, number])[], how: 'new' | 'again', pod = client): Promise<readonly Seen[]> {
    const argv = ['/usr/bin/python3', '-c', script, JSON.stringify(to), how]
    return JSON.parse(await must(pod.command(argv))) as readonly Seen[]
  }

  test('are redirected, and their peer is the one that they asked for', async () => {
    await using datapath = new DatapathUnderTest('mptcp')
    await datapath.start(datapath.config([client]))
    const [seen] = await connectAll([[server.address, 8080]], 'new')
    assert.equal(seen?.protocol, 262)
    assert.equal(seen?.said.listener, 'client:15001')
    assert.equal(seen?.said.origin['16'], `${server.address}:8080 (16 bytes)`)
    assert.equal(seen?.said.peer, seen?.local)
    assert.equal(seen?.echo, 'ping')
    assert.equal(seen?.peer, told ? `${server.address}:8080` : '127.0.0.1:15001')
    if (known) assert.equal(seen?.origin, `${server.address}:8080`)
  })

  test('see what they see with iptables', { skip: told ? false : 'this kernel does not tell the MPTCP socket' }, async () => {
    await using datapath = new DatapathUnderTest('mptcp-iptables')
    await datapath.start(datapath.config([client]))
    await applyIptables(third, istioRules())
    const both = await Promise.all([client, third].map((pod) => connectAll([[server.address, 8080]], 'new', pod)))
    const seen = both.map((each) => each.map(({ peer, origin, said }) => [peer, origin, said.origin['16'], said.listener.replace(/^.*:/, '')]))
    assert.deepEqual(seen[0], seen[1])
    await must(third.command(['iptables-nft', '-t', 'nat', '-F']))
  })

  test('and proxies that really speak MPTCP with each other know where the connection goes', async () => {
    await using datapath = new DatapathUnderTest('mptcp-both')
    await datapath.start(datapath.config([third]))
    await servers[2]?.stop()
    const listening = third.spawn(['/usr/bin/python3', '-c', mptcpProxy])
    await once(listening.stdout ?? listening, 'data')
    const [seen] = await connectAll([[server.address, 8080]], 'new', third)
    assert.deepEqual([seen?.said.listener, seen?.echo], ['mptcp', 'ping'])
    assert.equal(seen?.peer, told ? `${server.address}:8080` : '127.0.0.1:15001')
    assert.equal(seen?.said.peer, seen?.local)
    assert.equal(seen?.said.origin['16'], known ? `${server.address}:8080 (16 bytes)` : 'Operation not supported')
  })

  test('see the truth of each connection of a socket that is used again', async () => {
    await using datapath = new DatapathUnderTest('mptcp-again')
    await datapath.start(datapath.config([client]))
    for (const how of ['new', 'again'] as const) {
      const to = [
        [server.address, 8080],
        ['127.0.0.1', 8080],
        [server.address, 81],
      ] as const
      const seen = await connectAll(to, how)
      assert.deepEqual(
        seen.map(({ said }) => said.listener),
        ['client:15001', 'client:app', 'client:15001'],
      )
      const expected = to.map(([host, port], index) => (told || index === 1 ? `${host}:${port}` : '127.0.0.1:15001'))
      assert.deepEqual(
        seen.map(({ peer }) => peer),
        expected,
      )
    }
  })
})
