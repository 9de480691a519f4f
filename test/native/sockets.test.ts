import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import type { BpfMap, OpenSocket } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import { connect, leavesNoDescriptors, nativeError, u32, u64 } from './fixtures.ts'

const [HASH, SOCKHASH] = [1, 18]

/** Sockets of a process; SO_COOKIE is 57. Prints the descriptor and the cookie of each, then the port of the listener. */
const script = `
import json, os, socket, sys, threading
def cookie(sock):
    return str(int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 57, 8), 'little'))
listener = socket.create_server(('127.0.0.1', 0))
bound = socket.socket()
bound.bind(('127.0.0.1', 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind('\\0' + str(os.getpid()))
unix.listen()
sockets = {
    'listener': listener,
    'bound': bound,
    'unix': unix,
    'udp': socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    'connected': socket.create_connection(listener.getsockname()),
}
other = open('/dev/null')
described = {name: [sock.fileno(), cookie(sock)] for name, sock in sockets.items()}
print(json.dumps({**described, 'file': [other.fileno(), '1'], 'closed': [999, '1'], 'port': listener.getsockname()[1]}), flush=True)
def answer():
    while True:
        listener.accept()[0].close()
threading.Thread(target=answer, daemon=True).start()
sys.stdin.read()`

type Name = 'listener' | 'bound' | 'unix' | 'udp' | 'connected' | 'file' | 'closed'
let child: ChildProcess
let port: number
let sockets: Record<Name, OpenSocket>

before(async () => {
  child = spawn('/usr/bin/python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [line] = (await once(child.stdout as NonNullable<typeof child.stdout>, 'data')) as [Buffer]
  const { port: listens, ...described } = JSON.parse(line.toString()) as { port: number } & Record<Name, [number, string]>
  port = listens
  const entries = Object.entries(described).map(([name, [descriptor, cookie]]) => [
    name,
    { pid: child.pid as number, descriptor, cookie: BigInt(cookie) },
  ])
  sockets = Object.fromEntries(entries) as typeof sockets
})

after(() => child.kill('SIGKILL'))

const sockhash = (valueSize = 8): BpfMap => native.createMap({ name: 'sockets', type: SOCKHASH, keySize: 4, valueSize, maxEntries: 4 })

describe('a listener of another process', () => {
  leavesNoDescriptors()

  it('goes under the first key that is free, and is told by its cookie', async () => {
    using map = sockhash()
    const { listener } = sockets
    assert.equal(await native.addListener(map, [u32(7), u32(8)], listener), 0)
    assert.deepEqual(map.lookup(u32(7)), u64(listener.cookie))
    assert.equal(await native.addListener(map, [u32(7), u32(8), u32(9)], listener), 1)
    assert.equal(await native.addListener(map, [u32(7), u32(8)], listener), -1)
    assert.equal(await native.addListener(map, [], listener), -1)
    assert.deepEqual((await map.entries()).map(({ key }) => key.readUInt32LE()).sort(), [7, 8])
    assert.equal(await connect(port), '', 'it goes on to listen')
  })

  it('is not confused with anything else', async () => {
    using map = sockhash()
    const { listener, bound, unix, udp, connected, file, closed } = sockets
    const refusals: readonly [OpenSocket, string, RegExp][] = [
      [{ ...listener, cookie: listener.cookie + 1n }, 'ESTALE', /another socket/],
      [{ ...connected, cookie: listener.cookie }, 'ESTALE', /another socket/],
      [connected, 'EINVAL', /not a TCP listener/],
      [bound, 'EINVAL', /not a TCP listener/],
      [unix, 'EINVAL', /not a TCP listener/],
      [udp, 'EINVAL', /not a TCP listener/],
      [file, 'ENOTSOCK', /descriptor \d+ of process \d+/],
      [closed, 'EBADF', /duplicate descriptor 999 of process \d+/],
      [{ ...listener, pid: 0 }, 'EINVAL', /process 0/],
      [{ ...listener, pid: 2 ** 32 - 1 }, 'EINVAL', /process 4294967295/],
      [{ ...listener, descriptor: 2 ** 32 - 1 }, 'EBADF', /4294967295/],
    ]
    for (const [socket, code, words] of refusals) await assert.rejects(native.addListener(map, [u32(1)], socket), nativeError(code, words))
    assert.deepEqual(await map.entries(), [])
  })

  it('is refused when its process has ended', async () => {
    using map = sockhash()
    const ended = spawn('true')
    await once(ended, 'exit')
    await assert.rejects(native.addListener(map, [u32(1)], { ...sockets.listener, pid: ended.pid as number }), nativeError('ESRCH', /process/))
  })

  it('goes into no other map, and under no other keys', async () => {
    const { listener } = sockets
    using hash = native.createMap({ name: 'hash', type: HASH, keySize: 4, valueSize: 8, maxEntries: 4 })
    using small = sockhash(4)
    using map = sockhash()
    for (const other of [hash, small]) await assert.rejects(native.addListener(other, [u32(1)], listener), nativeError('EINVAL', /sockhash/))
    await assert.rejects(native.addListener(map, [u64(1)], listener), nativeError('EINVAL', /key 0 has 8 bytes/))
    map.close()
    await assert.rejects(native.addListener(map, [u32(1)], listener), nativeError('EBADF'))
    for (const wrong of [{ pid: -1 }, { pid: 1.5 }, { descriptor: '3' }, { cookie: 7 }, { cookie: -1n }, { cookie: 2n ** 64n }]) {
      using open = sockhash()
      await assert.rejects(native.addListener(open, [u32(1)], { ...listener, ...wrong } as OpenSocket), TypeError, Object.keys(wrong)[0])
    }
  })
})

describe('a listener whose process ends', () => {
  it('is not held open: it and its entry go with its process', async () => {
    using map = sockhash()
    await native.addListener(map, [u32(1)], sockets.listener)
    child.kill('SIGKILL')
    await once(child, 'exit')
    assert.equal(await connect(port), 'ECONNREFUSED')
    assert.deepEqual(await map.entries(), [])
  })
})
