/** A reset over ::1 for a socket that is gone arrives, so the port of a captured client over IPv6 can be used again at once. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { detach, planDetach } from '../../core/detach.ts'
import { podViews } from '../../core/observe/pods.ts'
import type { Interception } from '../../core/plugin.ts'
import { Lab, must } from '../lab/net.ts'
import { DatapathUnderTest, native } from './fixture.ts'
import { configOf } from './rules.ts'

const lab = await Lab.create('lo-resets')
const pod = await lab.pod('pod', { ipv6: true })
after(() => lab.close())

const rules = (when: object): Interception => ({
  targets: { out: { port: 15001 } },
  outbound: [{ name: 'all', when: { proto: 'tcp', ...when }, then: 'out' }],
  inbound: [],
})

/**
 * Connects twice from one port to a proxy that it is itself. The first socket goes without a word (TCP_REPAIR), as those of programs that are killed in
 * the wrong moment; what the proxy's side then sends meets no socket.
 */
const twice = `
import json, socket, sys, time
family, own, to, port = sys.argv[1:]
proxy = socket.create_server(('::', 15001), family=socket.AF_INET6, dualstack_ipv6=True)
def client():
    made = socket.socket(socket.AF_INET6 if family == '6' else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(3)
    made.bind((own, int(port)))
    try: made.connect((to, 80))
    except OSError as error: return made, 'TIMEOUT' if isinstance(error, TimeoutError) else error.errno
    return made, 'connected'
first, one = client()
accepted = proxy.accept()[0]
first.setsockopt(socket.IPPROTO_TCP, 19, 1)
first.close()
accepted.close()
time.sleep(0.3)
second, two = client()
print(json.dumps([one, two]))
`

describe('a client that goes without a word', { timeout: 60_000 }, () => {
  const connect = async (family: 4 | 6, port: number): Promise<unknown> => {
    const [own, to] = family === 6 ? [pod.ipv6, 'fd77::250'] : [pod.address, '10.77.0.250']
    return JSON.parse(await must(pod.command(['/usr/bin/python3', '-I', '-S', '-B', '-c', twice, String(family), own, to, String(port)])))
  }
  const local = () => must(pod.command(['ip', '-6', 'route', 'show', 'table', 'local', 'proto', '109']))

  test('its port is free at once, in both families', async () => {
    await using datapath = new DatapathUnderTest('resets')
    await using agent = await datapath.start(configOf(datapath, [pod], rules({})))
    assert.deepEqual(await connect(6, 40_001), ['connected', 'connected'])
    assert.deepEqual(await connect(4, 40_002), ['connected', 'connected'])
    assert.deepEqual((await podViews(agent))[0]?.loopback, ['local route ::1/128 for interface 2, added'])
  })

  test('the route is there where rules send TCP over IPv6 to ::1, stays for a next agent, and goes with the rules', async () => {
    await using datapath = new DatapathUnderTest('resets')
    const agent = await datapath.start(configOf(datapath, [pod], rules({ family: 'ipv4' })))
    assert.equal(await local(), '')
    await agent.reload(configOf(datapath, [pod], rules({ family: 'ipv6' })))
    assert.match(await local(), /^local ::1 dev eth0 /)
    await agent[Symbol.asyncDispose]()
    const next = await datapath.start(configOf(datapath, [pod], rules({})))
    assert.match(await local(), /^local ::1 dev eth0 /)
    await next.reload(configOf(datapath, [pod], rules({ family: 'ipv4' })))
    assert.equal(await local(), '')
    await next.reload(configOf(datapath, [pod], rules({})))
    await next[Symbol.asyncDispose]()
    await detach(native, await planDetach(native, { bpffs: datapath.bpffs, mode: 'bypass', podNames: new Map() }))
    assert.equal(await local(), '')
  })
})
