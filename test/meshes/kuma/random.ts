/** Pods as somebody may write them, with options of the mesh: what is usual, what is odd, and now and then what is wrong. */
import fc from 'fast-check'
import { stringify } from 'yaml'
import type { MeshSet } from '../../parity/mesh.ts'
import type { KumaOptions, Written, WrittenFlow } from './config.ts'
import { traffic } from './reading.ts'

const networks = [
  '10.96.0.0/12',
  '10.96.0.10',
  '10.97.0.10/31',
  '10.88.0.0/24',
  '10.77.0.0/24',
  '10.77.0.20',
  '10.0.0.0/8',
  '192.0.2.0/24',
  'fd00:96::/64',
]
const oddNetworks = [
  '0.0.0.0/0',
  '0.0.0.0/1',
  '127.0.0.0/8',
  '127.0.0.1',
  '10.77.0.20/16',
  '10.0.0.0/010',
  '::ffff:10.96.0.10',
  'fd00::/8',
  '::1',
  '::/0',
]
const ports = [22, 53, 80, 443, 8080, 9999, 31000]
const oddPorts = [1, 9001, 9902, 15001, 15006, 15053, 65535]

const network = fc.oneof(
  { arbitrary: fc.constantFrom(...networks), weight: 5 },
  { arbitrary: fc.constantFrom(...oddNetworks), weight: 2 },
  { arbitrary: fc.tuple(fc.nat(255), fc.integer({ min: 8, max: 32 })).map(([last, length]) => `10.96.0.${last}/${length}`), weight: 2 },
)
/** The config file wants networks without host bits. */
const cleanNetwork = fc.constantFrom(...networks, '0.0.0.0/0', '127.0.0.0/8', 'fd00::/8')
const port = fc.oneof(
  { arbitrary: fc.constantFrom(...ports), weight: 5 },
  { arbitrary: fc.constantFrom(...oddPorts), weight: 2 },
  { arbitrary: fc.integer({ min: 1, max: 65535 }), weight: 1 },
)

/** A few, or with a small chance many. */
const list = <T>(element: fc.Arbitrary<T>) =>
  fc.oneof(
    { arbitrary: fc.array(element, { maxLength: 3 }), weight: 9 },
    { arbitrary: fc.array(element, { minLength: 20, maxLength: 50 }), weight: 1 },
  )

const portRange = fc.constantFrom('22', '80', '53', '8080', '443-9000', '1-1024', '010', '31000-31999')
const uidRange = fc.constantFrom('1000', '2000', '0', '1000-1999', '5678', '0-999', '3000-3000')
const rule = fc
  .record({
    protocols: fc.constantFrom('', 'tcp:', 'udp:', '*:', 'tcp,udp:', ':', ' TCP :'),
    ports: fc.oneof(
      fc.constantFrom('*:', ':'),
      fc.array(portRange, { minLength: 1, maxLength: 3 }).map((all) => `${all.join(',')}:`),
    ),
    uids: uidRange,
  })
  .map(({ protocols, ports, uids }) => `${protocols}${ports}${uids}`)
const anyRule = fc.oneof({ arbitrary: rule, weight: 5 }, { arbitrary: uidRange, weight: 1 })

/** `wrong` is what Kuma does not take, about one value in thirty. */
const value = (right: fc.Arbitrary<string>, wrong: readonly string[]) =>
  fc.oneof({ arbitrary: right, weight: 30 }, { arbitrary: fc.constantFrom(...wrong), weight: 1 })

const portText = fc.tuple(list(port), fc.constantFrom(',', ',', ', ', ' ,,')).map(([all, comma]) => all.join(comma))
const networkText = fc.tuple(list(network), fc.constantFrom(',', ', ', ',,')).map(([all, comma]) => all.join(comma))
const wrongPorts = ['http', '0', '65536', '-1', '80-90', '80;81', '*', '+80']
const wrongNetworks = ['10.0.0.0/33', '300.0.0.0/8', 'all', '*', '10.0.0.0/8, ', 'fd00::1%eth0', '10.0.0.0/08']
const wrongRules = [
  '',
  '*',
  'java',
  '80:1000,2000',
  'icmp:80:1000',
  '1:2:3:4',
  '80-80:1000',
  '90-80:1000',
  '80:70000',
  '80:2000-1000',
  '1-2-3:5',
  '080:1000',
]
const wrongSwitches = ['TRUE', '1', 'on', '']

const usual: Readonly<Record<string, fc.Arbitrary<string>>> = {
  [traffic('exclude-inbound-ports')]: value(portText, wrongPorts),
  [traffic('exclude-outbound-ports')]: value(portText, wrongPorts),
  [traffic('exclude-inbound-ips')]: value(networkText, wrongNetworks),
  [traffic('exclude-outbound-ips')]: value(networkText, wrongNetworks),
  [traffic('exclude-outbound-ports-for-uids')]: value(
    fc.array(anyRule, { minLength: 1, maxLength: 4 }).map((all) => all.join(';')),
    wrongRules,
  ),
}
const rare: Readonly<Record<string, fc.Arbitrary<string>>> = {
  'kuma.io/transparent-proxying-ip-family-mode': value(fc.constantFrom('dualstack', 'ipv4', ''), ['ipv6', 'dual']),
  'kuma.io/gateway': value(fc.constantFrom('enabled', 'disabled', 'true', 'no'), [...wrongSwitches, 'builtin']),
  'kuma.io/application-probe-proxy-port': value(fc.constantFrom('0', '9001', '8080'), ['', '65536', 'http']),
  [traffic('exclude-outbound-tcp-ports-for-uids')]: value(fc.constantFrom('22:1000', '80,443:1000-1999;53:0', ''), ['1000', 'tcp:22:1000']),
  [traffic('exclude-outbound-udp-ports-for-uids')]: value(fc.constantFrom('53:1000', ''), ['53']),
  [traffic('drop-invalid-packets')]: value(fc.constantFrom('true', 'false', 'yes'), [...wrongSwitches, 'enabled']),
}
/** Only where nothing of Kuma's says it better. */
const older: Readonly<Record<string, fc.Arbitrary<string>>> = {
  'kuma.io/transparent-proxying': fc.constantFrom('enabled', 'true'),
  'kuma.io/sidecar-uid': fc.constantFrom('5678', '1000', ''),
  'kuma.io/transparent-proxying-inbound-port': value(fc.constantFrom('15006', '16006', '0'), ['70000', '']),
  'kuma.io/transparent-proxying-outbound-port': value(fc.constantFrom('15001', '16001'), ['-1']),
  'kuma.io/builtin-dns': value(fc.constantFrom('enabled', 'disabled'), ['on']),
}

/** There in so many of ten cases; a set without it is the smaller one. */
const optional = <T>(arbitrary: fc.Arbitrary<T>, there: number): fc.Arbitrary<T | undefined> =>
  fc.oneof({ withCrossShrink: true }, { arbitrary: fc.constant(undefined), weight: 10 - there }, { arbitrary, weight: there })

/** Without keys that are undefined: the config file has none. */
function defined<T extends object>(each: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(each).filter(([, inner]) => inner !== undefined)) as never
}

const some = (values: Readonly<Record<string, fc.Arbitrary<string>>>, there: number): fc.Arbitrary<Readonly<Record<string, string>>> =>
  fc.record(Object.fromEntries(Object.entries(values).map(([key, each]) => [key, optional(each, there)]))).map(defined)

const version = optional(fc.constantFrom('2.14' as const, '2.11' as const, '2.9' as const, '2.7' as const), 3)
const servers = fc.constantFrom(['10.96.0.10'], ['10.96.0.10', 'fd00:96::10'], ['fd00:96::10'], ['127.0.0.53', '10.97.0.10'], [])

const options: fc.Arbitrary<KumaOptions> = fc
  .record({
    version,
    proxyPort: optional(fc.constantFrom(15001, 16001), 1),
    inboundPort: optional(fc.constantFrom(15006, 16006), 1),
    proxyUid: optional(fc.constantFrom(5678, 1000, 0), 1),
    ipFamilyMode: optional(fc.constantFrom('dualstack' as const, 'ipv4' as const), 2),
    redirectOutbound: optional(fc.boolean(), 1),
    redirectInbound: optional(fc.boolean(), 1),
    includeOutboundPorts: optional(fc.array(port, { maxLength: 3 }), 1),
    excludeOutboundPorts: optional(fc.array(port, { maxLength: 3 }), 2),
    excludeOutboundCidrs: optional(fc.array(cleanNetwork, { maxLength: 3 }), 2),
    excludeOutboundPortsForUids: optional(fc.array(anyRule, { maxLength: 3 }), 2),
    insertRedirectInsteadOfAppend: optional(fc.boolean(), 2),
    includeInboundPorts: optional(fc.array(port, { maxLength: 3 }), 1),
    excludeInboundPorts: optional(fc.array(port, { maxLength: 3 }), 2),
    excludeInboundCidrs: optional(fc.array(cleanNetwork, { maxLength: 3 }), 2),
    applicationProbeProxyPort: optional(fc.constantFrom(0, 9001, 8080), 2),
    readinessPort: optional(fc.constantFrom(0, 9902), 2),
    captureDns: optional(fc.constantFrom('none' as const, 'servers' as const, 'all' as const), 6),
    dropInvalid: optional(fc.boolean(), 1),
  })
  .map(defined)

const flow = (usualPort: number, otherPort: number): fc.Arbitrary<WrittenFlow> =>
  fc
    .record({
      enabled: optional(fc.boolean(), 2),
      port: optional(fc.constantFrom(usualPort, otherPort), 3),
      includePorts: optional(fc.array(port, { maxLength: 3 }), 1),
      excludePorts: optional(fc.array(fc.oneof(port, fc.constantFrom(9001, 9902)), { maxLength: 3 }), 4),
      excludePortsForIPs: optional(fc.array(network, { maxLength: 3 }), 2),
      insertRedirectInsteadOfAppend: optional(fc.boolean(), 2),
    })
    .map(defined)

const written: fc.Arbitrary<Written> = fc
  .record({
    kumaDPUser: optional(fc.constantFrom('5678', '1000'), 4),
    ipFamilyMode: optional(value(fc.constantFrom('dualstack', 'ipv4'), ['ipv6']), 4),
    dropInvalidPackets: optional(fc.boolean(), 1),
    inbound: flow(15006, 16006),
    open: optional(fc.array(rule, { maxLength: 2 }), 1),
    outbound: flow(15001, 16001),
    rules: optional(fc.array(value(anyRule, wrongRules), { maxLength: 3 }), 4),
    dns: fc
      .record({ enabled: optional(fc.boolean(), 8), captureAll: optional(fc.boolean(), 7), port: optional(fc.constantFrom(15053, 0), 2) })
      .map(defined),
  })
  .map(({ inbound, outbound, open, rules, dns, ...rest }): Written => {
    const users = (all: readonly string[] | undefined) => (all === undefined ? {} : { excludePortsForUIDs: all })
    return { ...defined(rest), redirect: { inbound: { ...inbound, ...users(open) }, outbound: { ...outbound, ...users(rules) }, dns } }
  })

/** What the injector of Kuma 2 makes of it. */
function flagsOf({ kumaDPUser, ipFamilyMode, dropInvalidPackets, redirect = {} }: Written): string[] {
  const { inbound = {}, outbound = {}, dns = {} } = redirect
  const one = (name: string, text: unknown) => (text === undefined || text === '' ? [] : [`--${name}=${String(text)}`])
  const own = (direction: string, { port: to, excludePorts = [], excludePortsForIPs = [] }: WrittenFlow) => [
    ...one(`redirect-${direction}-port`, to),
    ...one(`exclude-${direction}-ports`, String(excludePorts)),
    ...one(`exclude-${direction}-ips`, excludePortsForIPs.join(',')),
  ]
  return [
    ...one('kuma-dp-user', kumaDPUser),
    ...one('ip-family-mode', ipFamilyMode),
    ...own('outbound', outbound),
    ...(outbound.excludePortsForUIDs ?? []).flatMap((each) => one('exclude-outbound-ports-for-uids', each)),
    ...(inbound.enabled === false ? ['--redirect-inbound=false'] : own('inbound', inbound)),
    ...(dns.enabled ? [dns.captureAll ? '--redirect-all-dns-traffic' : '--redirect-dns'] : []),
    ...(dropInvalidPackets ? ['--drop-invalid-packets'] : []),
    '--verbose',
  ]
}

type Annotations = Readonly<Record<string, string>>
type Containers = NonNullable<MeshSet['pod']['containers']>

const sidecar = optional(fc.constantFrom(5678, 1000), 4).map((uid) => ({ name: 'kuma-sidecar', ...(uid === undefined ? {} : { uid }) }))

/** Of Kuma 2.8 and before */
const olderFlags = fc.subarray([
  '--ipv6-enabled=false',
  '--exclude-outbound-tcp-ports-for-uids=22:1000',
  '--exclude-outbound-udp-ports-for-uids=53:0',
])

/** What tells the plugin most: nothing but options, the injector's configuration, or the flags of kuma-init. */
const sources: fc.Arbitrary<{ readonly annotations: Annotations; readonly more: Containers }> = fc.oneof(
  { arbitrary: some(older, 2).map((annotations) => ({ annotations, more: [] })), weight: 4 },
  {
    arbitrary: written.map((each) => ({ annotations: { [traffic('transparent-proxy-config')]: stringify(each) }, more: [] })),
    weight: 3,
  },
  {
    arbitrary: fc
      .tuple(olderFlags, written)
      .map(([before, each]) => ({ annotations: {}, more: [{ name: 'kuma-init', args: [...before, ...flagsOf(each)] }] })),
    weight: 2,
  },
)

/** Where port 53 of loopback is included, and the rules about loopback leave it to those after them: too rare by chance. */
const portOfDns: fc.Arbitrary<MeshSet> = fc.constantFrom('2.9', '2.11').map((version) => ({
  pod: { annotations: {}, containers: [{ name: 'app' }, { name: 'kuma-sidecar' }] },
  options: { version, captureDns: 'servers', nameservers: ['10.96.0.10'], includeOutboundPorts: [53, 80], insertRedirectInsteadOfAppend: true },
}))

const anySets: fc.Arbitrary<MeshSet> = fc
  .record({ source: sources, usual: some(usual, 4), rare: some(rare, 2), sidecar, options, nameservers: optional(servers, 8) })
  .map(({ source, usual: many, rare: few, sidecar: proxy, options: given, nameservers }) => ({
    pod: {
      annotations: { ...source.annotations, ...many, ...few },
      containers: [{ name: 'app' }, proxy, ...source.more],
      ...(nameservers && { nameservers }),
    },
    options: given as Readonly<Record<string, unknown>>,
  }))

export const kumaSets: fc.Arbitrary<MeshSet> = fc.oneof({ arbitrary: anySets, weight: 60 }, { arbitrary: portOfDns, weight: 1 })
