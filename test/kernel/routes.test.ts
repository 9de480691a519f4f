/** The mirror of a namespace's routes says what the kernel's routing does: same source, same errno, same interface, same idea of what is local. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatAddress, network, parseAddress, type Words } from '../../core/address.ts'
import { compile } from '../../core/compile/compile.ts'
import { RouteKind } from '../../core/contract.ts'
import { native } from '../../core/native/index.ts'
import { Lab, must } from '../lab/net.ts'
import { compilePod, roomy } from '../unit/pods.ts'
import { Reference } from '../unit/reference.ts'

const setUp = `
link add d0 type veth peer name p0
link add d1 type veth peer name p1
address add 192.0.2.1/32 dev lo
address add 172.20.0.5/16 dev d0
address add 172.20.0.6/16 dev d0
address add 172.21.0.7/24 dev d0
address add 172.22.0.1/24 dev d0 scope link
address add fd20::5/64 dev d0 nodad
address add fd21::7/64 dev d0 nodad
link set d0 up
link set p0 up
link set d1 up
link set p1 up
route add 172.30.0.0/16 dev d1
route add 172.31.0.0/16 via 172.21.0.9 dev d0
route add 172.31.128.0/17 via 172.20.0.9 dev d0 src 172.20.0.6
route add 172.31.200.0/24 via 172.20.0.9 dev d0 metric 20
route add 172.31.200.0/24 via 172.21.0.9 dev d0 metric 10
route add 172.29.0.0/16 via 192.168.55.1 dev d0 onlink
route add local 198.51.100.0/24 dev lo
route add 127.5.0.0/16 dev d0
route add 198.51.100.128/25 dev d0
route add 224.1.0.0/16 dev d0
route add blackhole 10.8.0.0/16
route add unreachable 10.7.0.0/16
route add prohibit 10.6.0.0/16
route add throw 10.5.0.0/16
route add throw 127.6.0.0/16
route add throw 10.4.0.0/16
route add 10.4.4.0/24 via 172.21.0.9 dev d0
route add 10.4.0.0/17 via 172.20.0.9 dev d0 table 253
route add 10.8.8.0/24 via 172.20.0.9 dev d0 table 253
route add 10.3.0.0/16 via 172.20.0.9 dev d0 table 253
route add unreachable 10.2.0.0/16 table 100
route add blackhole fd08::/16
route add unreachable fd07::/16
route add prohibit fd06::/16
route add throw fd05::/16
route add fd30::/16 via fd20::9 dev d0 src fd21::7
route add fd31::/16 via fd20::9 dev d0 table 253
route add local fd32::/64 dev lo
route add ::/0 via fd20::1 dev d0
`

/** Connects to each address without waiting; prints errno and the source that the kernel chose. */
const probe = `
import json, socket, sys
out = {}
for host in json.load(sys.stdin):
    s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    s.setblocking(False)
    error = s.connect_ex((host, 9))
    out[host] = [error if error != 115 else 0, s.getsockname()[0]]
    s.close()
print(json.dumps(out))
`

/** The first and the last address of each network, and their neighbours. */
function edges(networks: readonly { readonly destination: string; readonly prefix: number }[]): string[] {
  const all = networks.flatMap(({ destination, prefix }) => {
    const base = parseAddress(destination)
    assert.ok(base)
    const bits = base.family === 4 ? 32 : 128
    const low = network(base, prefix).words.reduce((sum, word) => (sum << 32n) | BigInt(word), 0n) >> (bits === 32 ? 96n : 0n)
    const high = low + (1n << BigInt(bits - prefix)) - 1n
    const near = [low - 1n, low, low + 1n, high - 1n, high, high + 1n].filter((value) => value > 0n && value < 1n << BigInt(bits))
    return near.map((value) => {
      const wide = bits === 32 ? value << 96n : value
      const words = [96n, 64n, 32n, 0n].map((shift) => Number(BigInt.asUintN(32, wide >> shift))) as unknown as Words
      return formatAddress({ family: base.family, words })
    })
  })
  return [...new Set(all)]
}

async function compare(lab: Lab, defaultRoute: boolean): Promise<number> {
  const pod = await lab.pod(defaultRoute ? 'with-default' : 'without-default')
  await must(pod.command(['ip', '-batch', '-']), { input: setUp })
  if (!defaultRoute) await must(pod.command(['ip', '-batch', '-']), { input: 'route del default\nroute del ::/0\n' })
  const [state] = await native.namespaces.inspect([pod.netns])
  assert.ok(state !== undefined && 'routes' in state)
  const { addresses, routes, interfaces, cookie: netns } = state
  const interception = { outbound: [], inbound: [] }
  const reference = new Reference(compile({ pods: [compilePod(interception, { netns, routes, addresses })] }, roomy))
  const fixed = ['8.8.8.8', '255.255.255.255', '224.0.0.1', '239.255.255.255', '127.255.255.255', '2001:db8::1', 'ff02::1', 'ff0e::1', '::1']
  const asked = [...new Set([...edges(routes), ...fixed])].filter((text) => !/^(fe80|::ffff)/.test(text))
  const seen: unknown = JSON.parse(await must(pod.command(['/usr/bin/python3', '-c', probe]), { input: JSON.stringify(asked) }))
  const gets = await pod.exec(['ip', '-oneline', '-force', '-batch', '-'], { input: asked.map((to) => `route get ${to}\n`).join('') })
  const locals = new Set([...gets.stdout.matchAll(/^(?:local|anycast) (\S+)/gm)].map(([, to]) => to))
  const devices = new Map([...gets.stdout.matchAll(/^(?:(?:local|anycast) )?(\S+) .*?dev (\S+)/gm)].map(([, to, device]) => [to, device]))
  const nameOf = new Map(interfaces.map(({ index, name }) => [index, name]))
  for (const [to, [errno, source]] of Object.entries(seen as Record<string, [number, string]>)) {
    const mirrored = reference.route(netns, to)
    const local = locals.has(to)
    // Left to the kernel: IPv6 without a preferred source, and networks that are local as a whole, where the source depends on the destination.
    const known = mirrored.source !== '0.0.0.0' && mirrored.source !== '::'
    assert.ok(known || errno !== 0 || local || to.includes(':'), `${to}: no source is known`)
    const found =
      mirrored.kind === RouteKind.UNREACHABLE
        ? { errno: mirrored.error }
        : {
            errno: 0,
            local: mirrored.kind === RouteKind.LOCAL,
            source: known ? mirrored.source : source,
            device: mirrored.kind === RouteKind.LOCAL ? 'lo' : nameOf.get(mirrored.interface),
          }
    assert.deepEqual(found, errno === 0 ? { errno, local, source, device: devices.get(to) } : { errno }, to)
  }
  return asked.length
}

test('routing of a pod with many addresses and every type of route is mirrored', async () => {
  await using lab = await Lab.create('routes')
  assert.ok((await compare(lab, true)) > 100)
  assert.ok((await compare(lab, false)) > 100)
})
