/** The mirror of a namespace's routes says what the kernel's routing does: same source, same errno, same interface, same idea of what is local. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatAddress, network, parseAddress, type Words } from '../../core/address.ts'
import { RouteKind } from '../../core/contract.ts'
import type { NamespaceState } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import { until } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { routeReference } from '../unit/pods.ts'

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

async function stateOf(pod: LabPod): Promise<NamespaceState> {
  const [state] = await native.namespaces.inspect([pod.netns])
  assert.ok(state !== undefined && 'routes' in state, String(state))
  return state
}

/** Lines with a leading -6 come last. */
async function batch(pod: LabPod, commands: string): Promise<void> {
  const [four, six] = [/^(?!-6)/, /^-6 /].map((own) => commands.split('\n').filter((line) => own.test(line)))
  await must(pod.command(['ip', '-batch', '-']), { input: `${four?.join('\n')}\n` })
  await must(pod.command(['ip', '-6', '-batch', '-']), { input: `${six?.map((line) => line.slice(3)).join('\n')}\n` })
}

async function compare(lab: Lab, defaultRoute: boolean): Promise<number> {
  const pod = await lab.pod(defaultRoute ? 'with-default' : 'without-default')
  await batch(pod, setUp)
  if (!defaultRoute) await batch(pod, 'route del default\nroute del ::/0\n')
  return compareWithKernel(pod)
}

/** Asks for the edges of every route and for `more`. */
async function compareWithKernel(pod: LabPod, more: readonly string[] = []): Promise<number> {
  const state = await stateOf(pod)
  const { routes, interfaces, cookie: netns } = state
  const reference = routeReference(state)
  const fixed = ['8.8.8.8', '255.255.255.255', '224.0.0.1', '239.255.255.255', '127.255.255.255', '2001:db8::1', 'ff02::1', 'ff0e::1', '::1']
  const asked = [...new Set([...edges(routes), ...fixed, ...more])].filter((text) => !/^(fe80|::ffff)/.test(text))
  const probed = await must(pod.command(['/usr/bin/python3', '-c', probe]), { input: JSON.stringify(asked) })
  const seen = JSON.parse(probed) as Record<string, [number, string]>
  // connect() looks again when the source is known: IPv4 always, IPv6 only after an error. The last answer of these counts below.
  const looks = Object.entries(seen).flatMap(([to, [, source]]) => {
    const [open, known] = [`route get ${to}`, `route get ${to} from ${source}`]
    return to.includes(':') ? [known, open] : [open, known]
  })
  const gets = await pod.exec(['ip', '-oneline', '-force', '-batch', '-'], { input: `${looks.join('\n')}\n` })
  const locals = new Set([...gets.stdout.matchAll(/^(?:local|anycast) (\S+)/gm)].map(([, to]) => to))
  const devices = new Map([...gets.stdout.matchAll(/^(?:(?:local|anycast) )?(\S+) .*?dev (\S+)/gm)].map(([, to, device]) => [to, device]))
  const nameOf = new Map(interfaces.map(({ index, name }) => [index, name]))
  for (const [to, [errno, source]] of Object.entries(seen)) {
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

/** Two ways out, and an address on each. */
const twoWays = `
link add d0 type veth peer name p0
link add d1 type veth peer name p1
address add 172.20.0.5/16 dev d0
address add 172.21.0.5/16 dev d1
address add fd20::5/64 dev d0 nodad
address add fd21::5/64 dev d1 nodad
link set d0 up
link set p0 up
link set d1 up
link set p1 up
`
const far = ['8.8.8.8', '8.8.8.9', '9.9.9.9', '10.6.0.1', '10.6.1.1', '10.7.0.1', '2001:db8::1', '2001:db9::1', 'fd06::1']

/** `ip rule` and the routes that it leads to; of each, the kernel is asked as it is then. */
const policies: readonly (readonly [what: string, commands: string])[] = [
  [
    'the default route is in a table of its own only',
    `route del default
rule add pref 100 lookup 100
route add default via 172.20.0.9 dev d0 table 100
-6 rule add pref 100 lookup 100000
-6 route add default via fd21::9 dev d1 table 100000`,
  ],
  [
    'a table before main has a part of the routes, and throws some back',
    `rule add pref 100 lookup 100
route add 8.8.8.0/24 via 172.21.0.9 dev d1 table 100
route add throw 8.8.8.8/32 table 100
route add unreachable 10.6.0.0/16 table 100
route add local 10.7.0.0/16 dev lo table 100
-6 rule add pref 100 lookup 100
-6 route add 2001:db8::/32 via fd20::9 dev d0 table 100
-6 route add default via fd21::9 dev d1`,
  ],
  [
    'rules with answers of their own for destinations, host bits and all',
    `rule add pref 100 to 10.6.0.0/16 prohibit
rule add pref 90 to 10.6.1.0/24 lookup main
rule add pref 101 to 8.8.8.8 blackhole
rule add pref 102 to 9.0.0.0/8 unreachable
rule add pref 103 to 10.7.0.9/16 prohibit
-6 rule add pref 100 to fd06::/16 prohibit
-6 rule add pref 101 to 2001:db8::/32 unreachable
-6 route add default via fd21::9 dev d1`,
  ],
  [
    'everything but a network goes another way',
    `rule add pref 100 not to 8.8.8.0/24 lookup 100
route add default via 172.21.0.9 dev d1 table 100
-6 rule add pref 100 not to 2001:db8::/32 prohibit
-6 route add default via fd21::9 dev d1`,
  ],
  [
    'what wg-quick sets up',
    `route add default dev d1 table 51820
rule add not fwmark 51820 table 51820
rule add table main suppress_prefixlength 0
-6 route add default dev d1 table 51820
-6 rule add not fwmark 51820 table 51820
-6 rule add table main suppress_prefixlength 0`,
  ],
  [
    'short routes of main are passed over, but not those with an errno',
    `rule add pref 100 lookup main suppress_prefixlength 16
rule add pref 101 lookup 100
route add 9.0.0.0/8 via 172.21.0.9 dev d1
route add prohibit 10.0.0.0/8
route add 8.8.8.0/24 via 172.20.0.9 dev d0
route add default via 172.21.0.9 dev d1 table 100`,
  ],
  [
    'rules for others: a mark, an interface, no operation, a source that no route prefers',
    `rule add pref 100 fwmark 1 lookup 100
rule add pref 101 iif d0 lookup 100
rule add pref 102 nop
rule add pref 103 from 172.21.0.5 lookup 100
rule add pref 104 iif none prohibit
rule add pref 105 not from all prohibit
route add unreachable default table 100`,
  ],
  [
    'a rule for what the pod itself sends, and an unmarked socket',
    `rule add pref 100 iif lo fwmark 0/0xff lookup 100
route add default via 172.21.0.9 dev d1 table 100`,
  ],
  ['the source that the first look gave is refused in the second', 'rule add pref 100 from 10.77.0.0/16 to 8.8.8.8 prohibit'],
  ['no source is open yet', 'rule add pref 100 from 0.0.0.0/1 lookup 100\nroute add 8.8.8.8/32 via 172.21.0.9 dev d1 table 100'],
  [
    'only what comes from its address has a way, of IPv6',
    `-6 address del fd21::5/64 dev d1
-6 rule add pref 100 from fd20::/64 lookup 100
-6 route add default via fd20::9 dev d0 table 100`,
  ],
  ['a longer prefix of main does not win over local any more', 'rule add pref 100 lookup 100\nroute add 127.5.0.0/16 dev d0'],
  ['rules without main', '-6 rule add pref 100 iif d0 prohibit\n-6 rule del lookup main\nrule del lookup main'],
  ['rules without main, and none of its own', 'rule del lookup main\n-6 rule del lookup main'],
]

test('policy routing is mirrored', async () => {
  await using lab = await Lab.create('policies')
  for (const [what, commands] of policies) {
    await using pod = await lab.pod('pod')
    await batch(pod, `${twoWays}${commands}\n`)
    await compareWithKernel(pod, far).catch((error: Error) => assert.fail(`${what}: ${error.message}`))
  }
})

test('a rule that comes and goes is noticed, and mirrored', async () => {
  await using lab = await Lab.create('noticed')
  const pod = await lab.pod('pod')
  let told = 0
  using _watch = await native.namespaces.watch(pod.netns, () => void told++)
  const commands = ['to 8.8.8.8 prohibit', 'to fd06::/16 prohibit'].flatMap((rule) => [`add pref 100 ${rule}`, `del pref 100 ${rule}`])
  for (const command of commands) {
    const [before, errno] = [told, command.startsWith('add') ? 13 : 0]
    const [family, to] = command.includes(':') ? ['-6', 'fd06::1'] : ['-4', '8.8.8.8']
    await must(pod.command(['ip', family, 'rule', ...command.split(' ')]))
    await until(command, 2000, async () => (told > before ? true : undefined))
    const state = await stateOf(pod)
    assert.equal(routeReference(state).route(state.cookie, to).error, errno || (family === '-6' ? 101 : 0), command)
    await compareWithKernel(pod, [to])
  }
})

const hopOf = async (pod: LabPod) => (await stateOf(pod)).routes.find(({ destination }) => destination === '8.0.0.0')?.gateway

test('dead next hops are passed over', async () => {
  await using lab = await Lab.create('hops')
  await using pod = await lab.pod('pod')
  const hops = (a: string, b: string) => `nexthop via ${a} dev d0 nexthop via ${b} dev d1`
  await batch(
    pod,
    `${twoWays}route add 8.0.0.0/8 ${hops('172.20.0.9', '172.21.0.9')}
-6 route add 2001:db8::/32 ${hops('fd20::9', 'fd21::9')}
-6 route add default via fd20::9 dev d0
`,
  )
  await must(pod.command(['ip', 'link', 'set', 'd0', 'down']))
  assert.equal(await hopOf(pod), '172.21.0.9')
  await compareWithKernel(pod, far)
  await must(
    pod.command(['sysctl', '-q', '-w', 'net.ipv4.conf.all.ignore_routes_with_linkdown=1', 'net.ipv6.conf.all.ignore_routes_with_linkdown=1']),
  )
  await must(pod.command(['ip', 'link', 'set', 'p1', 'down']))
  // The kernel looks at carriers when it has time.
  await until('the other next hop is dead', 5000, async () => ((await hopOf(pod)) === undefined ? true : undefined))
  await compareWithKernel(pod, far)
})
