/** Pods as somebody may write them, with options of the mesh: what is usual, what is odd, and now and then what is wrong. */
import fc from 'fast-check'
import { type MeshOptions, names, type SidecarPod, traffic } from '../../lab/istio-options.ts'
import type { MeshSet } from '../../parity/mesh.ts'
import { anyFamilies, type Families } from './families.ts'

const networks = ['10.96.0.0/12', '10.96.0.10/32', '10.97.0.10/31', '10.88.0.0/24', '10.77.0.0/24', '10.77.0.20/32', '10.0.0.0/8', '192.0.2.0/24']
const oddNetworks = [
  '0.0.0.0/0',
  '0.0.0.0/1',
  '127.0.0.0/8',
  '127.0.0.1/0',
  '127.0.0.1/32',
  '127.0.0.9/32',
  '10.77.0.20/16',
  '10.96.0.11/30',
  'fd00::/8',
  '::1/128',
  '::/0',
]
const ports = [22, 53, 80, 443, 8080, 9999, 31000]
const oddPorts = [0, 15001, 15006, 15008, 15020, 15021, 15090, 65535]

const network = fc.oneof(
  { arbitrary: fc.constantFrom(...networks), weight: 5 },
  { arbitrary: fc.constantFrom(...oddNetworks), weight: 3 },
  { arbitrary: fc.tuple(fc.nat(255), fc.integer({ min: 8, max: 32 })).map(([last, length]) => `10.96.0.${last}/${length}`), weight: 2 },
)
/** The config file wants networks without host bits. */
const cleanNetwork = fc.constantFrom(...networks, '0.0.0.0/0', '0.0.0.0/1', '127.0.0.0/8', '127.0.0.9/32', 'fd00::/8')
const port = fc.oneof(
  { arbitrary: fc.constantFrom(...ports), weight: 5 },
  { arbitrary: fc.constantFrom(...oddPorts), weight: 3 },
  { arbitrary: fc.nat(65535), weight: 2 },
)

/** A few, or with a small chance many. */
const list = <T>(element: fc.Arbitrary<T>) =>
  fc.oneof(
    { arbitrary: fc.array(element, { maxLength: 4 }), weight: 9 },
    { arbitrary: fc.array(element, { minLength: 20, maxLength: 60 }), weight: 1 },
  )

const spaced = fc.constantFrom(',', ',', ', ', ' ,')
const portText = fc.tuple(list(port), spaced).map(([elements, comma]) => elements.join(comma))
const networkText = list(network).map((elements) => elements.join(','))

/** `wrong` is what Istio does not take, about one value in thirty. */
const value = (right: fc.Arbitrary<string>, wrong: readonly string[]) =>
  fc.oneof({ arbitrary: right, weight: 30 }, { arbitrary: fc.constantFrom(...wrong), weight: 1 })

const orAll = (right: fc.Arbitrary<string>) => fc.oneof({ arbitrary: fc.constant('*'), weight: 1 }, { arbitrary: right, weight: 3 })

const wrongPorts = ['http', '80,', '80,,81', '65536', '-1', '80-90', '80;81', '*,80']
const wrongNetworks = ['10.0.0.1', '10.0.0.0/33', '300.0.0.0/8', 'all', '10.0.0.0/8,', '10.0.0.0/8, 11.0.0.0/8', '*,10.0.0.0/8', 'fd00::1']
const interfaceNames = fc.array(fc.constantFrom('eth0', 'net2', 'net2', 'lo', 'absent0'), { minLength: 1, maxLength: 2 })

const annotationValues: Readonly<Record<string, fc.Arbitrary<string>>> = {
  [traffic('includeOutboundIPRanges')]: value(orAll(networkText), wrongNetworks),
  [traffic('excludeOutboundIPRanges')]: value(networkText, ['*', ...wrongNetworks]),
  [traffic('includeOutboundPorts')]: value(portText, wrongPorts),
  [traffic('excludeOutboundPorts')]: value(portText, ['*', ...wrongPorts]),
  [traffic('includeInboundPorts')]: value(orAll(portText), wrongPorts),
  [traffic('excludeInboundPorts')]: value(portText, ['*', ...wrongPorts]),
}

const rareValues: Readonly<Record<string, fc.Arbitrary<string>>> = {
  [traffic('excludeInterfaces')]: fc.oneof(
    { arbitrary: fc.tuple(interfaceNames, spaced).map(([all, comma]) => all.join(comma)), weight: 20 },
    { arbitrary: fc.constantFrom('a-name-of-16-chr', 'eth0,a/b', ''), weight: 1 },
  ),
  [names.statusPort]: fc.constantFrom('15020', '8080', '0', '15021'),
  [names.mode]: fc.oneof({ arbitrary: fc.constant('REDIRECT'), weight: 8 }, { arbitrary: fc.constantFrom('TPROXY', '', 'redirect'), weight: 1 }),
}

/** There in so many of ten cases; a set without it is the smaller one. */
const optional = <T>(arbitrary: fc.Arbitrary<T>, there: number): fc.Arbitrary<T | undefined> =>
  fc.oneof({ withCrossShrink: true }, { arbitrary: fc.constant(undefined), weight: 10 - there }, { arbitrary, weight: there })

const some = (values: Readonly<Record<string, fc.Arbitrary<string>>>, there: number) =>
  fc
    .record(Object.fromEntries(Object.entries(values).map(([key, each]) => [key, optional(each, there)])))
    .map((all) => Object.fromEntries(Object.entries(all).flatMap(([key, text]) => (text === undefined ? [] : [[key, text]]))))

const annotations: fc.Arbitrary<Readonly<Record<string, string>>> = fc
  .tuple(some(annotationValues, 6), some(rareValues, 3), optional(fc.constantFrom(traffic('kubevirtInterfaces'), names.reroute), 1))
  .map(([usual, rare, reroute]) => ({ ...usual, ...rare, ...(reroute === undefined ? {} : { [reroute]: 'net2' }) }))

const sidecarIds = fc.constantFrom(1337, 0, 1000, 1000810000)
/** iptables-restore takes 255 words in a rule: 64 groups, which Istio allows, do not fit. */
const manyGroups = (count: number) => Array.from({ length: count }, (_, index) => 990 + index).join(',')
const environment = some(
  {
    INVALID_DROP: fc.constantFrom('true', 'false', 'perhaps'),
    ISTIO_OUTBOUND_OWNER_GROUPS: value(fc.constantFrom('*', '1000', '1000,2000', '', manyGroups(40)), [manyGroups(65)]),
    ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: fc.constantFrom('1000', '2000,1337', ''),
    ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: value(fc.constantFrom('127.0.0.1/32', '127.0.0.1/8'), ['127.0.0.1', '10.0.0.0/8', '127.0.0.0/7']),
  },
  5,
)

/** Without keys that are undefined: the config file has none. */
function defined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as never
}

const containers: fc.Arbitrary<SidecarPod['containers']> = fc.oneof(
  { arbitrary: fc.constant([]), weight: 1 },
  {
    arbitrary: fc
      .record({ uid: optional(sidecarIds, 5), gid: optional(sidecarIds, 5), env: optional(environment, 3) })
      .map((sidecar) => [{ name: 'app' }, defined({ name: 'istio-proxy', ...sidecar })] as SidecarPod['containers']),
    weight: 4,
  },
)

const proxyIds = fc.constantFrom([1337], [3, 4], [4, 3, 1337], [0], [1000, 1337])
const groups = fc.constantFrom(['*' as const], [1000], [2000, 1000], [])
const anyOptions = fc
  .record({
    setup: optional(fc.constantFrom('cni' as const, 'init' as const), 6),
    proxyUid: optional(proxyIds, 4),
    proxyGid: optional(proxyIds, 4),
    includeOutboundCidrs: optional(fc.oneof(fc.constant(['*']), fc.array(cleanNetwork, { maxLength: 3 })), 2),
    excludeOutboundCidrs: optional(fc.array(cleanNetwork, { maxLength: 3 }), 2),
    includeOutboundPorts: optional(fc.array(port, { maxLength: 3 }), 2),
    excludeOutboundPorts: optional(fc.array(port, { maxLength: 3 }), 2),
    includeInboundPorts: optional(fc.oneof(fc.constant(['*' as const]), fc.array(port, { maxLength: 3 })), 2),
    excludeInboundPorts: optional(fc.array(port, { maxLength: 3 }), 2),
    ownerGroupsInclude: optional(groups, 3),
    ownerGroupsExclude: optional(fc.constantFrom([1000], [2000, 1337], []), 3),
    loopbackCidr: optional(fc.constantFrom('127.0.0.1/32', '127.0.0.0/8', '127.0.0.1/8', '127.0.0.8/29'), 3),
    dropInvalid: optional(fc.boolean(), 2),
    excludeInterfaces: optional(interfaceNames, 1),
  })
  // The init container is told no group of its own.
  .map(({ proxyGid, ...rest }): MeshOptions => defined(rest.setup === 'init' ? rest : { ...rest, proxyGid }) as MeshOptions)

interface Sidecar {
  readonly annotations: Readonly<Record<string, string>>
  readonly containers: SidecarPod['containers']
  readonly options: MeshOptions
}

function setOf({ annotations, containers, options }: Sidecar, { env, nameservers, options: more }: Families): MeshSet {
  return {
    pod: {
      annotations: { 'sidecar.istio.io/status': '{}', ...annotations },
      containers: containers.map((each) => (each.name === 'istio-proxy' ? { ...each, env: { ...each.env, ...env } } : each)),
      ...(nameservers && { nameservers }),
    },
    options: { ...options, ...more },
  }
}

export const istioSets: fc.Arbitrary<MeshSet> = fc
  .tuple(fc.record({ annotations, containers, options: anyOptions }), anyFamilies)
  .map(([sidecar, families]) => setOf(sidecar, families))
