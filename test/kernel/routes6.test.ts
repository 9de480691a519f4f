/** The source of an IPv6 connection depends on its destination: the mirror says what the kernel chooses, whatever addresses and routes a pod has. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatAddress, parseAddress, type Words } from '../../core/address.ts'
import { compileRoutes } from '../../core/compile/routes.ts'
import { RouteKind } from '../../core/contract.ts'
import { until } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { routeReference } from '../unit/pods.ts'
import { batch, compareWithKernel, connectResults, hasOwnRoutes, isTentative, stateOf } from './routing.ts'

/** The kernel ends its look for duplicates in the background, also where it has nothing to look for. `links` have link-local addresses then. */
const settled = (pod: LabPod, links: readonly string[] = []): Promise<unknown> =>
  until('no tentative address but on d1', 5000, async () => {
    const state = await stateOf(pod)
    const isReady = hasOwnRoutes(state) && state.addresses.every((each) => each.interface === 'd1' || !isTentative(each))
    const has = (link: string) => state.addresses.some((each) => each.interface === link && each.address.startsWith('fe80:') && !isTentative(each))
    return (isReady && links.every(has)) || undefined
  })

/**
 * d0 and d1, and which of them have link-local addresses. On d1 addresses stay tentative or optimistic for minutes if they are to; eth0 has no
 * IPv6, and no address changes by itself.
 */
async function twoLinks(pod: LabPod, linkLocal: readonly string[] = ['d0', 'd1']): Promise<void> {
  const set = (...settings: string[]) => must(pod.command(['sysctl', '-q', '-w', ...settings.map((each) => `net.ipv6.conf.${each}`)]))
  await set('eth0.disable_ipv6=1', 'default.accept_dad=0')
  const links = ['d0', 'd1'].flatMap((name) => [
    `link add ${name} type veth peer name p${name}`,
    `link set p${name} addrgenmode none up`,
    `link set ${name} addrgenmode ${linkLocal.includes(name) ? 'eui64' : 'none'} up`,
  ])
  // Known neighbours: where one is looked for, the kernel routes connections from an optimistic address in another way.
  const gateways = ['fd20::99 dev d0', 'fd21::99 dev d1', 'fd21::98 dev d1'].map((each) => `neigh add ${each} lladdr 02:00:00:00:00:99 nud permanent`)
  await batch(pod, [...links, ...gateways].join('\n'))
  await settled(pod, linkLocal)
  await set('d0.use_tempaddr=1', 'd1.accept_dad=1', 'd1.dad_transmits=200', 'd1.optimistic_dad=1')
}

const oneOf = <T>(...values: readonly T[]) => fc.constantFrom(...values)
const networks = oneOf(
  ...['fd20::', 'fd20:0:0:1::', 'fd21::', 'fdff:ffff::', 'fec0::', '2001:db8::', '2001:db8:0:1::', '2001:db8:8000::', '2001:0:1::'],
  ...['2001:10::', '2001:1f:ffff::', '2002:c000:204::', '3ffe:1::', '2400::', '2600:1:2:3::'],
)
const hosts = fc.tuple(networks, oneOf('1', '2', 'ff', '1:0:0:1', '8000:0:0:1')).map(([base, host]) => base + host)
const lengths = oneOf(128, 128, 64, 64, 64, 48, 32, 16)
const addresses = fc.tuple(
  hosts,
  lengths,
  oneOf(
    ...['dev d0', 'dev d0', 'dev d0', 'dev d1', 'dev d1', 'dev lo'].map((device) => `${device} nodad`),
    ...['dev d0 nodad valid_lft forever preferred_lft 0', 'dev d1 nodad valid_lft forever preferred_lft 0'],
    ...['dev d1', 'dev d1 optimistic', 'dev d0 mngtmpaddr'],
  ),
)
const ways = oneOf('dev d0', 'dev d1', 'via fd20::99 dev d0 onlink', 'via fd21::99 dev d1 onlink')
const prefixes = fc.tuple(networks, oneOf(16, 20, 32, 48, 64)).map(([base, length]) => `${base}/${length}`)
const destinations = fc.oneof(prefixes, oneOf('default', 'default', 'fc00::/7', 'fe80:1::/64'))
const routes = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(destinations, ways, oneOf(1, 10, 1024)).map(([to, way, metric]) => `${to} ${way} metric ${metric}`) },
  { weight: 2, arbitrary: fc.tuple(destinations, ways, hosts).map(([to, way, source]) => `${to} ${way} src ${source}`) },
  { weight: 2, arbitrary: fc.tuple(destinations, prefixes, ways).map(([to, from, way]) => `${to} from ${from} ${way}`) },
  { weight: 1, arbitrary: prefixes.map((to) => `local ${to} dev lo`) },
  { weight: 1, arbitrary: fc.tuple(oneOf('unreachable', 'blackhole', 'prohibit', 'throw'), destinations).map((parts) => parts.join(' ')) },
)
const rules = fc.tuple(prefixes, oneOf('lookup 100', 'prohibit')).map(([from, what]) => `from ${from} ${what}`)
const worlds = fc.record({
  links: oneOf(0, 1, 2), // with link-local addresses
  addresses: fc.array(addresses, { minLength: 1, maxLength: 4 }),
  routes: fc.array(routes, { maxLength: 6 }),
  rules: fc.array(rules, { maxLength: 1 }),
})

const toNumber = (text: string): bigint => (parseAddress(text)?.words ?? []).reduce((sum, word) => (sum << 32n) | BigInt(word), 0n)
const toText = (value: bigint): string => {
  const words = [96n, 64n, 32n, 0n].map((shift) => Number(BigInt.asUintN(32, value >> shift))) as unknown as Words
  return formatAddress({ family: 6, words })
}

/** Each address, what differs from it in one bit around every bit where another one leaves it, and some of each kind. */
function interesting(own: readonly string[]): string[] {
  const values = own.map(toNumber)
  const near = values.flatMap((value) => {
    const leaving = values.filter((other) => other !== value).map((other) => 128 - (value ^ other).toString(2).length)
    const bits = [...leaving.flatMap((bit) => [bit - 1, bit, bit + 1]), 15, 31, 47, 63, 64, 127].filter((bit) => bit > 2 && bit < 128)
    return [value, ...[...new Set(bits)].map((bit) => value ^ (1n << BigInt(127 - bit)))]
  })
  const kinds = ['fec0::9', 'feff::9', 'fc00::9', 'fdff::9', '2001::9', '2001:0:1::9', '2001:10::9', '2001:1f::9', '2001:20::9', '2002::9']
  return [...near.map(toText), ...kinds, '3ffe::9', '3fff::9', '::9', '1::9', '64:ff9b::9', '2400::9', 'bfff::9', 'fe00::9'].filter(
    (text) => !/^(::|ff..:|fe[89ab].:)/.test(text) || text === '::9',
  )
}

test('the source of every destination, for random addresses and routes', async (context) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
  context.diagnostic(`SEED=${seed}`)
  await using lab = await Lab.create('sources')
  for (const [run, world] of fc.sample(worlds, { seed, numRuns: 25 }).entries()) {
    await using pod = await lab.pod('pod')
    await twoLinks(pod, ['d0', 'd1'].slice(0, world.links))
    const commands = [
      ...world.addresses.map(([host, length, more]) => `address add ${host}/${length} ${more}`),
      ...world.routes.map((route) => `route add ${route}`),
      ...world.rules.map((rule) => `rule add pref 100 ${rule}`),
      'route add default via fd21::98 dev d1 onlink table 100',
    ].join('\n')
    // Some of what is random the kernel refuses: two routes of one metric, a source that is not there.
    await pod.exec(['ip', '-6', '-force', '-batch', '-'], { input: `${commands}\n` })
    await settled(pod)
    const own = (await stateOf(pod)).addresses.filter(({ family }) => family === 6).map(({ address }) => address)
    await compareWithKernel(pod, interesting(own)).catch((error: Error) => {
      assert.fail(`run ${run} of SEED=${seed}: ${error.message}\nlink-local on ${world.links} links\n${commands}`)
    })
  }
})

test('a link-local destination: the only link that there is, or none that is known', async () => {
  await using lab = await Lab.create('links')
  for (const several of [false, true]) {
    await using pod = await lab.pod('pod')
    await twoLinks(pod, several ? ['d0', 'd1'] : ['d0'])
    await batch(pod, '-6 address add fd20::5/64 dev d0 nodad\n-6 route add default dev d0')
    await settled(pod)
    const state = await stateOf(pod)
    const mirrored = (to: string) => routeReference(state).route(state.cookie, to)
    const own = state.addresses.find(({ address, interface: name }) => address.startsWith('fe80:') && name === 'd0')
    assert.ok(own)
    const seen = await connectResults(pod, ['fe80::9', 'fe80::9%d0', 'fe80:1::9%d0', `${own.address}%d0`])
    assert.deepEqual(Object.values(seen), [[22, '::'], ...Array(3).fill([0, own.address])])
    const known = { kind: RouteKind.UNICAST, error: 0, source: own.address, interface: own.index }
    const expected = several ? { ...known, source: '::', interface: 0 } : known
    assert.deepEqual(['fe80::9', 'fe80:1::9'].map(mirrored), [expected, expected])
    assert.deepEqual(mirrored(own.address), { ...known, kind: RouteKind.LOCAL })
  }
})

test('a pod without any IPv6 address, on no interface or on none but lo', async () => {
  await using lab = await Lab.create('none')
  await using pod = await lab.pod('pod')
  const asked = ['2001:db8::1', '::1', 'fd20::1', 'fec0::1']
  for (const lo of [1, 0]) {
    await must(pod.command(['sysctl', '-q', '-w', 'net.ipv6.conf.all.disable_ipv6=1', `net.ipv6.conf.lo.disable_ipv6=${lo}`]))
    const errors = Object.values(await connectResults(pod, asked)).map(([errno]) => errno)
    assert.deepEqual(errors, lo === 1 ? [99, 99, 99, 99] : [101, 0, 101, 101])
    await compareWithKernel(pod, asked)
  }
})

test('of equal routes that routers advertised, the preferred one', async () => {
  await using lab = await Lab.create('preferred')
  for (const [first, second] of [
    ['low', 'high'],
    ['medium', 'low'],
    ['high', 'medium'],
  ]) {
    await using pod = await lab.pod('pod')
    await twoLinks(pod)
    await batch(
      pod,
      `-6 address add fd20::5/64 dev d0 nodad
-6 address add fd21::5/64 dev d1 nodad
-6 route append default dev d0 metric 1024 pref ${first}
-6 route append default dev d1 metric 1024 pref ${second}`,
    )
    await settled(pod)
    await compareWithKernel(pod)
  }
})

test('several ways at once: a group of next hops', async () => {
  await using lab = await Lab.create('groups')
  await using pod = await lab.pod('pod')
  await twoLinks(pod)
  await batch(
    pod,
    `-6 address add fd20::5/64 dev d0 nodad
-6 address add 2001:db8::5/64 dev d0 nodad
-6 nexthop add id 1 via fd20::99 dev d0
-6 nexthop add id 2 via fd20::98 dev d0
-6 nexthop add id 4 blackhole`,
  )
  await batch(
    pod,
    `nexthop add id 3 group 1/2
-6 route add default nhid 3
-6 route add 2600::/16 nhid 1
-6 route add 2601::/16 nhid 4
-6 route add 2602::/16 nexthop via fd20::99 dev d0 nexthop via fd20::98 dev d0`,
  )
  await settled(pod)
  assert.ok((await compareWithKernel(pod, ['2600::1', '2601::1', '2602::1', '2003::1'])) > 10)
})

test('one address and a default route: hardly more entries than routes', async () => {
  await using lab = await Lab.create('few')
  await using pod = await lab.pod('pod')
  await twoLinks(pod, ['d0'])
  await batch(pod, '-6 address add fd20::5/64 dev d0 nodad\n-6 route add default via fd20::99 dev d0\naddress add ::6/128 dev lo')
  await settled(pod)
  const { cookie, routes, addresses, rules } = await stateOf(pod)
  const prefixes = (some: typeof addresses) => compileRoutes(cookie, routes, some, rules).map(({ key }) => key.toString('hex'))
  const added = prefixes(addresses).filter((key) => !prefixes([]).includes(key))
  assert.deepEqual(added.length, 1, 'fe80::/10: its source is the link-local address')
})
