/** Pods of Linkerd as somebody may write them: what is usual, what is odd, and now and then what is wrong. */
import fc from 'fast-check'
import type { StaticPod } from '../../lab/agent.ts'
import type { MeshSet } from '../../parity/mesh.ts'

type Texts = Readonly<Record<string, string>>

const name = (text: string) => `config.linkerd.io/${text}`

const port = fc.oneof(
  { arbitrary: fc.constantFrom(22, 53, 80, 443, 8080, 9999, 31000), weight: 5 },
  { arbitrary: fc.constantFrom(0, 4140, 4143, 4190, 4191, 4567, 65535), weight: 3 },
  { arbitrary: fc.nat(65535), weight: 2 },
)
const range = fc.tuple(port, fc.nat(40)).map(([low, more]) => `${low}-${Math.min(65535, low + more)}`)
const rightEntry = fc.oneof(
  { arbitrary: port.map(String), weight: 5 },
  { arbitrary: range, weight: 2 },
  fc.constantFrom('080', '+80', '80-80', '0-65535', '"25"'),
)
const wrongEntry = fc.constantFrom('http', ' 80', '', '90-80', '65536', '80-90-100', '80:90', '-1')
const entry = fc.oneof({ arbitrary: rightEntry, weight: 30 }, { arbitrary: wrongEntry, weight: 1 })

/** A few, or with a small chance more than one rule of multiport holds. */
const list = <T>(element: fc.Arbitrary<T>) =>
  fc.oneof(
    { arbitrary: fc.array(element, { maxLength: 4 }), weight: 9 },
    { arbitrary: fc.array(element, { minLength: 14, maxLength: 40 }), weight: 1 },
  )
const entries = list(entry).map((elements) => elements.join(','))

const networks = [
  '10.77.0.30/32',
  '10.77.0.0/24',
  '10.96.0.10/32',
  '10.97.0.10/31',
  '10.0.0.0/8',
  '0.0.0.0/0',
  '0.0.0.0/1',
  '10.77.0.30/16',
  '127.0.0.0/8',
]
const networks6 = ['fd00:77::/64', 'fd00:77::30/128', 'fd00::/8', '::/0', '::ffff:10.0.0.0/104']
const network = fc.constantFrom(...networks, ...networks6)
const subnets = fc.oneof(
  { arbitrary: fc.tuple(fc.array(network, { maxLength: 3 }), fc.constantFrom(',', ', ')).map(([all, comma]) => all.join(comma)), weight: 20 },
  { arbitrary: fc.constantFrom('10.0.0.1', '10.0.0.0/33', 'all', '10.0.0.0/8,', '10.0.0.0/08'), weight: 1 },
)

/** `wrong` is passed over, or the pod does not start with it; about one value in twenty. */
const mostly = (right: fc.Arbitrary<string>, ...wrong: readonly string[]) =>
  fc.oneof({ arbitrary: right, weight: 20 }, { arbitrary: fc.constantFrom(...wrong), weight: 1 })

const ids = fc.constantFrom('2102', '1000', '0', '-1', '1000810000')
const annotationValues: Readonly<Record<string, fc.Arbitrary<string>>> = {
  [name('skip-inbound-ports')]: entries,
  [name('skip-outbound-ports')]: entries,
  [name('skip-subnets')]: subnets,
}
const rareValues: Readonly<Record<string, fc.Arbitrary<string>>> = {
  [name('inbound-port')]: mostly(fc.constantFrom('4143', '5143'), 'http', '', '70000', '99999999999'),
  [name('outbound-port')]: mostly(fc.constantFrom('4140', '5140'), 'http', '0'),
  [name('control-port')]: mostly(fc.constantFrom('4190', '8080'), ' 4190'),
  [name('admin-port')]: mostly(fc.constantFrom('4191', '9999'), '4191.0'),
  [name('proxy-uid')]: mostly(ids, 'proxy', '4294967295'),
  [name('proxy-gid')]: mostly(ids, ''),
  [name('opaque-ports')]: fc.constantFrom('8080', 'http,25'),
  [name('close-wait-timeout')]: fc.constant('1h'),
}

/** There in so many of ten cases; a set without it is the smaller one. */
const optional = <T>(arbitrary: fc.Arbitrary<T>, there: number): fc.Arbitrary<T | undefined> =>
  fc.oneof({ withCrossShrink: true }, { arbitrary: fc.constant(undefined), weight: 10 - there }, { arbitrary, weight: there })

/** Without keys that are undefined: the config file has none. */
const defined = <T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as never

const some = (values: Readonly<Record<string, fc.Arbitrary<string>>>, there: number): fc.Arbitrary<Texts> =>
  fc.record(Object.fromEntries(Object.entries(values).map(([key, each]) => [key, optional(each, there)]))).map((all) => defined(all) as Texts)

const annotations = fc.tuple(some(annotationValues, 6), some(rareValues, 2)).map(([usual, rare]) => ({ ...usual, ...rare }))
const namespace = fc
  .tuple(some(annotationValues, 3), some(rareValues, 1))
  .map(([usual, rare]) => ({ name: 'shop', annotations: { ...usual, ...rare } }))

const environment = some(
  {
    LINKERD2_PROXY_INBOUND_LISTEN_ADDR: fc.constantFrom('0.0.0.0:4143', '[::]:5143'),
    LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR: fc.constantFrom('127.0.0.1:4140', '127.0.0.1:5140'),
    LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: fc.constantFrom('127.0.0.1:4140,[::1]:4140', '127.0.0.1:5140'),
    LINKERD2_PROXY_CONTROL_LISTEN_ADDR: fc.constantFrom('0.0.0.0:4190', '[::]:9999'),
    LINKERD2_PROXY_ADMIN_LISTEN_ADDR: fc.constantFrom('0.0.0.0:4191', '[::]:8080'),
  },
  4,
)
const runAs = optional(fc.constantFrom(2102, 0, 1000, 1000810000), 5)
const proxy = fc.record({ uid: runAs, gid: runAs, env: optional(environment, 5) }).map((rest) => ({ name: 'linkerd-proxy', ...defined(rest) }))

/** The arguments as the injector writes them, with a flag left out or wrong now and then. */
const flag = (text: string, value: fc.Arbitrary<string>) => value.map((each) => [`--${text}`, each])
const listed = list(port).map((all) => all.join(','))
const initArguments = fc
  .tuple(
    fc.constantFrom([], ['--ipv6=false'], ['--ipv6=false'], ['--ipv6']),
    flag('incoming-proxy-port', mostly(fc.constantFrom('4143', '5143'), '-1', 'http')),
    flag('outgoing-proxy-port', fc.constantFrom('4140', '5140')),
    flag('proxy-uid', ids),
    fc.oneof(fc.constant([]), flag('proxy-gid', ids)),
    flag(
      'inbound-ports-to-ignore',
      entries.map((more) => (more === '' ? '4190,4191' : `4190,4191,${more}`)),
    ),
    fc.oneof(fc.constant([]), flag('outbound-ports-to-ignore', entries)),
    fc.oneof(fc.constant([]), fc.constant([]), flag('ports-to-redirect', listed)),
    fc.oneof(fc.constant([]), flag('subnets-to-ignore', subnets)),
    fc.oneof({ arbitrary: fc.constant([]), weight: 30 }, fc.constant(['--skip-everything'])),
  )
  .map((all) => all.flat())
const init = initArguments.map((args) => ({ name: 'linkerd-init', args }))

const containers: fc.Arbitrary<NonNullable<StaticPod['containers']>> = fc
  .tuple(optional(init, 3), fc.constant({ name: 'app' }), proxy)
  .map((all) => all.filter((each) => each !== undefined))

/** The config file wants networks without host bits. */
const cleanNetworks = fc.array(fc.constantFrom('10.77.0.0/24', '10.96.0.10/32', '0.0.0.0/0', 'fd00:77::/64', '::/0'), { maxLength: 2 })
const portOptions = list(fc.oneof({ arbitrary: port, weight: 4 }, range))
const options = fc
  .record({
    setup: optional(fc.constantFrom('init', 'cni'), 6),
    version: optional(fc.constantFrom('current', '2.15', '2.10'), 2),
    inboundPort: optional(fc.constantFrom(4143, 5143), 2),
    outboundPort: optional(fc.constantFrom(4140, 5140), 2),
    controlPort: optional(fc.constantFrom(4190, 8080), 1),
    adminPort: optional(fc.constantFrom(4191, 9999), 1),
    proxyUid: optional(fc.constantFrom(2102, 1000, 0, -1), 3),
    proxyGid: optional(fc.constantFrom(2102, 1000, 0, -1), 4),
    skipInboundPorts: optional(portOptions, 3),
    skipOutboundPorts: optional(portOptions, 3),
    skipSubnets: optional(cleanNetworks, 3),
    portsToRedirect: optional(fc.array(port, { maxLength: 3 }), 3),
    disableIPv6: optional(fc.boolean(), 7),
    apiServerPorts: optional(fc.constantFrom([443], [8443, '6443-6450']), 1),
  })
  .map((all) => defined(all) as Readonly<Record<string, unknown>>)

const labels = optional(fc.constantFrom({ 'linkerd.io/control-plane-component': 'destination' }, { app: 'web' }), 2)

export const linkerdSets: fc.Arbitrary<MeshSet> = fc.record({
  pod: fc.record({ annotations, namespace: optional(namespace, 3), labels, containers }).map((pod) => defined(pod) as MeshSet['pod']),
  options,
})
