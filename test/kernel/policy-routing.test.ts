/** The mirror asks the tables as the rules of policy routing do, and passes over dead next hops, as the kernel does. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { native } from '../../core/native/index.ts'
import { until } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { routeReference } from '../unit/pods.ts'
import { batch, compareWithKernel, stateOf } from './routing.ts'

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
