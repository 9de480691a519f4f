/** Programs of others at the same hooks, attached before and after ours: theirs work on, and ours do. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { attachTypes } from '../../core/datapath/hooks.ts'
import type { BpfObject } from '../../core/native/api.ts'
import { compiled, u32 } from '../native/fixtures.ts'
import { connectOnce } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { cgroup, DatapathUnderTest, native, reached, seesProxy, threePods } from './fixture.ts'

const neighbour = compiled('neighbour')
const pods = await threePods('neighbour')
const { client, server, out } = pods
after(() => pods.close())

function attach(object: BpfObject): Disposable {
  using sockops = object.program('theirs')
  using connect4 = object.program('their_connect')
  const links = [native.attachCgroup(sockops, cgroup, attachTypes.sockOps), native.attachCgroup(connect4, cgroup, attachTypes.connect4)]
  return { [Symbol.dispose]: () => links.forEach((link) => void link.close()) }
}

/** How often each of the neighbour's callbacks ran. */
function counts(object: BpfObject): { rtt: number; connect: number } {
  using map = object.map('counts')
  const [rtt = 0, connect = 0] = [0, 1].map((index) => Number(map.lookup(u32(index))?.readBigUInt64LE()))
  return { rtt, connect }
}

/** Connects and prints tcpi_options of TCP_INFO. */
const options = (address: string) =>
  `import socket; s = socket.create_connection(('${address}', 8080)); print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[5])`
const ECN = 8

async function bothWork(object: BpfObject): Promise<void> {
  const before = counts(object)
  assert.equal(reached(await out()), 'client:15001')
  const step = await connectOnce(client, proxy, [server.address, 8080])
  assert.equal(reached(step), 'server:15006')
  assert.equal((await connectOnce(client, app, [server.address, 8080])).peer, seesProxy ? '127.0.0.1:15001' : `${server.address}:8080`)
  const now = counts(object)
  assert.ok(now.connect >= before.connect + 3, 'its connect hook ran')
  const { stdout } = await client.exec(['/usr/bin/python3', '-c', options(server.address)], app)
  assert.ok((Number(stdout) & ECN) !== 0, 'its answer to the kernel counts')
  assert.ok(now.rtt > before.rtt, 'the callback that it asked for came: our flag did not replace its own')
}

describe('neighbours at the same hooks', { timeout: 60_000 }, () => {
  test('attached before ours', async () => {
    using object = await native.load(neighbour)
    using _links = attach(object)
    await using datapath = new DatapathUnderTest('after')
    await datapath.start(datapath.config([client, server]))
    await bothWork(object)
  })

  test('attached after ours', async () => {
    await using datapath = new DatapathUnderTest('before')
    await datapath.start(datapath.config([client, server]))
    using object = await native.load(neighbour)
    using _links = attach(object)
    await bothWork(object)
  })

  test('options that are not ours have the same answers with our hook as without', async () => {
    const ask = `
import ctypes, socket
libc=ctypes.CDLL(None, use_errno=True)
def ask(level, option, size):
    # Python's own getsockopt takes 1024 bytes at most.
    buffer, length = ctypes.create_string_buffer(size), ctypes.c_uint(size)
    failed = libc.getsockopt(s.fileno(), level, option, buffer, ctypes.byref(length))
    return -ctypes.get_errno() if failed else length.value
s=socket.socket(); s.connect(('127.0.0.1',8080)); out=[]
for level in (0,1,6,41):
    for option in range(0,110):
        for size in (1,4,16,100,4096,5000,9000):
            if (level,option) in ((0,80),(6,11),(1,55)): continue # the answer; and what changes by itself: TCP_INFO, SO_MEMINFO
            out.append((level,option,size,ask(level,option,size)))
print('\\n'.join(map(str,out)))`
    const sweep = async () => (await client.exec(['/usr/bin/python3', '-c', ask], app)).stdout
    const without = await sweep()
    assert.ok(without.split('\n').length > 3000)
    await using datapath = new DatapathUnderTest('options')
    await datapath.start(datapath.config([client]))
    assert.equal(await sweep(), without)
  })
})
