/** A source route that is set after connect() must not lead the connection's packets past the proxy. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Lab, must } from '../lab/net.ts'
import { both, serveEnds } from './ends.ts'
import { DatapathUnderTest } from './fixture.ts'
import { sixty } from './sixty.ts'

const lab = await Lab.create('srcroute')
after(() => lab.close())

const script = `
import ctypes, errno, json, socket, struct, sys
server, hop, port = sys.argv[1:4]
header = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, server) + socket.inet_pton(socket.AF_INET6, hop)
def route(made):
    try:
        made.setsockopt(socket.IPPROTO_IPV6, 57, header)
        return 'set'
    except OSError as error:
        return errno.errorcode[error.errno]
def connected(port):
    made = socket.socket(socket.AF_INET6)
    made.connect((server, port))
    return made
long = connected(8080)
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(8192)
failed = libc.setsockopt(long.fileno(), socket.IPPROTO_TCP, 200, buffer, 8192)
print(json.dumps([route(connected(8080)), route(socket.socket(socket.AF_INET6)), errno.errorcode[ctypes.get_errno()] if failed else 'set']))
`

describe('source routes', { timeout: 60_000 }, async () => {
  const client = await lab.pod('client', { ipv6: true })
  const server = await lab.pod('server', { ipv6: true })

  test('a redirected connection gets none; other sockets and long options are not touched', async () => {
    await using datapath = new DatapathUnderTest('srcroute')
    await datapath.start(datapath.withPlugin([client], sixty))
    await using _proxy = await serveEnds(client, [both('out', 15001)])
    const argv = ['/usr/bin/python3', '-I', '-B', '-c', script, server.ipv6, 'fd77::1', '8080']
    const told: unknown = JSON.parse(await must(client.command(argv, { uid: 1000 })))
    assert.deepEqual(told, ['EPERM', 'set', 'ENOPROTOOPT'])
  })
})
