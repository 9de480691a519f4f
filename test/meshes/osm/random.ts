/** Pods of OSM, osm-edge and FSM as somebody may write them, with options: what is usual, what is odd, and now and then what is wrong. */
import fc from 'fast-check'
import type { MeshSet } from '../../parity/mesh.ts'
import { type Flavour, names, type OsmOptions, prefixes } from './reading.ts'
import { type OsmRules, osmDefaults, osmScript } from './rules.ts'

const networks = ['10.96.0.0/12', '10.96.0.10/32', '10.97.0.10/31', '10.88.0.0/24', '10.77.0.0/24', '10.77.0.20/32', '10.0.0.0/8', '192.0.2.0/24']
/** The config file wants networks without host bits. */
const cleanNetworks = [...networks, '0.0.0.0/0', '0.0.0.0/1', '127.0.0.0/8', '127.0.0.1/32', '127.0.0.9/32']
const oddNetworks = [...cleanNetworks, '127.0.0.1/0', '10.77.0.20/16', '10.96.0.11/30', '10.96.0.10/010', '10.96.0.10/0032']
const ports = [22, 53, 80, 443, 8080, 9999, 31000]
const oddPorts = [1, 15000, 15001, 15003, 15010, 15901, 15904, 15020, 65535]

const network = fc.oneof(
  { arbitrary: fc.constantFrom(...networks), weight: 5 },
  { arbitrary: fc.constantFrom(...oddNetworks), weight: 3 },
  { arbitrary: fc.tuple(fc.nat(255), fc.integer({ min: 8, max: 32 })).map(([last, length]) => `10.96.0.${last}/${length}`), weight: 2 },
)
/** Beyond 32,767 the kernel may choose the same port for the client, which then connects to itself. */
const port = fc.oneof(
  { arbitrary: fc.constantFrom(...ports), weight: 5 },
  { arbitrary: fc.constantFrom(...oddPorts), weight: 3 },
  { arbitrary: fc.integer({ min: 1, max: 32_767 }), weight: 2 },
)

/** A few, or with a small chance more than a rule of iptables takes. */
const list = <T>(element: fc.Arbitrary<T>) =>
  fc.oneof(
    { arbitrary: fc.array(element, { minLength: 1, maxLength: 4 }), weight: 9 },
    { arbitrary: fc.array(element, { minLength: 14, maxLength: 40 }), weight: 1 },
  )

const comma = fc.constantFrom(',', ',', ', ', ' ,\t')
const textOf = (elements: fc.Arbitrary<readonly (string | number)[]>) => fc.tuple(elements, comma).map(([all, between]) => all.join(between))
const portText = textOf(list(fc.oneof({ arbitrary: port, weight: 9 }, { arbitrary: fc.constantFrom('+80', '0080', ' 22 '), weight: 1 })))

/** `wrong` is what the mesh does not take, about one value in thirty. */
const value = (right: fc.Arbitrary<string>, wrong: readonly string[]) =>
  fc.oneof({ arbitrary: right, weight: 30 }, { arbitrary: fc.constantFrom(...wrong), weight: 1 })

const wrongPorts = ['', 'http', '80,', '80,,81', '65536', '0', '-1', '80-90', '80;81', '*', '0x50']
const wrongNetworks = ['', '10.0.0.1', '10.0.0.0/33', '10.0.0.0/08', '300.0.0.0/8', 'all', '10.0.0.0/8,', '*', 'fd00::/8', '::ffff:10.0.0.0/104']

/** There in so many of ten cases; a set without it is the smaller one. */
const optional = <T>(arbitrary: fc.Arbitrary<T>, there: number): fc.Arbitrary<T | undefined> =>
  fc.oneof({ withCrossShrink: true }, { arbitrary: fc.constant(undefined), weight: 10 - there }, { arbitrary, weight: there })

/** Without keys that are undefined: the config file has none. */
function defined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as never
}

const lists = fc
  .record({
    [names.outPorts]: optional(value(portText, wrongPorts), 6),
    [names.inPorts]: optional(value(portText, wrongPorts), 6),
    [names.outside]: optional(value(textOf(list(network)), wrongNetworks), 4),
    [names.inside]: optional(value(textOf(list(network)), wrongNetworks), 4),
    [names.inject]: optional(value(fc.constantFrom('enabled', 'YES', 'true'), ['no', 'on', '']), 3),
  })
  .map(defined)

/** Lists that the mesh does not read. */
const strange = optional(fc.constantFrom('outbound-port-inclusion-list', 'port-list'), 1)

const annotationsOf = (flavour: Flavour) =>
  fc.tuple(lists, strange, optional(lists, 1)).map(([own, nobody, others]): Readonly<Record<string, string>> => {
    const other = prefixes[flavour === 'fsm' ? 'osm' : 'fsm']
    const prefixed = (prefix: string, values: object) => Object.entries(values).map(([name, text]) => [`${prefix}/${name}`, text as string])
    return Object.fromEntries([
      ...prefixed(prefixes[flavour], own),
      ...(nobody === undefined ? [] : [[`${prefixes[flavour]}/${nobody}`, '80']]),
      ...prefixed(other, others ?? {}),
    ]) as Readonly<Record<string, string>>
  })

const interfaceNames = fc.array(fc.constantFrom('eth0', 'net2', 'net2', 'lo', 'absent0', 'net+', 'eth+', 'e+', '+'), { minLength: 1, maxLength: 2 })
const proxyIds = fc.constantFrom(1500, 1500, 0, 1000, 1337)

/** What the mesh's init container was given: lists that iptables takes. */
const rules: fc.Arbitrary<OsmRules> = fc
  .record({
    uid: optional(proxyIds, 2),
    podIp: fc.constantFrom(false as const, false as const, '$POD_IP'),
    interfaces: optional(fc.uniqueArray(fc.constantFrom('eth0', 'net2', 'net+'), { maxLength: 2 }), 3),
    inboundPortExclusions: optional(fc.uniqueArray(port, { maxLength: 4 }), 5),
    outboundPortExclusions: optional(fc.uniqueArray(port, { maxLength: 4 }), 5),
    rangeExclusions: optional(fc.uniqueArray(network, { maxLength: 3 }), 5),
    rangeInclusions: optional(fc.uniqueArray(network, { maxLength: 3 }), 4),
    ownPorts: optional(fc.constant([15010, 15901, 15902, 15903]), 3),
  })
  .map((some) => ({ ...osmDefaults, ...defined(some) }))

const label: Readonly<Record<Flavour, string>> = { osm: 'osm-proxy-uuid', 'osm-edge': 'osm-proxy-uuid', fsm: 'fsm-proxy-uuid' }

function podOf(flavour: Flavour): fc.Arbitrary<MeshSet['pod']> {
  return fc
    .record({
      annotations: annotationsOf(flavour),
      uid: optional(proxyIds, 5),
      script: optional(rules, 3),
      bare: fc.constantFrom(false, false, true),
    })
    .map(({ annotations, uid, script, bare }) => {
      const sidecar = defined({ name: flavour === 'osm' ? 'envoy' : 'sidecar', uid })
      const fsm = flavour === 'fsm'
      const text = script && osmScript({ ...script, chains: fsm ? 'FSM' : 'OSM', dns: flavour !== 'osm' })
      const init = text === undefined ? [] : [{ name: fsm ? 'fsm-init' : 'osm-init', args: ['-c', text] }]
      const unsaid = flavour === 'osm' && bare && !Object.keys(annotations).some((name) => name.startsWith(`${prefixes.fsm}/`))
      return { labels: unsaid ? {} : { [label[flavour]]: 'a' }, annotations, containers: [{ name: 'app' }, sidecar, ...init] }
    })
}

const cleanList = fc.array(fc.constantFrom(...cleanNetworks), { maxLength: 3 })
const manyPorts = fc.uniqueArray(port, { minLength: 12, maxLength: 20 })
const portList = fc.oneof({ arbitrary: fc.array(port, { maxLength: 3 }), weight: 6 }, { arbitrary: manyPorts, weight: 1 })

const optionsOf = (flavour: Flavour): fc.Arbitrary<OsmOptions> =>
  fc
    .record({
      flavour: optional(fc.constant(flavour), 2),
      interceptionMode: optional(value(fc.constantFrom('PodLevel', 'iptables'), ['NodeLevel', 'none', 'ebpf']), 3),
      proxyPort: optional(fc.constantFrom(15001, 15101), 1),
      inboundPort: optional(fc.constantFrom(15003, 15103), 1),
      proxyUid: optional(proxyIds, 2),
      localProxyMode: optional(fc.constantFrom('Localhost' as const, 'PodIP' as const), 5),
      localDNSProxy: optional(fc.boolean(), flavour === 'osm-edge' ? 6 : 1),
      outboundIPRangeExclusionList: optional(cleanList, 2),
      outboundIPRangeInclusionList: optional(cleanList, 2),
      outboundPortExclusionList: optional(portList, 2),
      inboundPortExclusionList: optional(portList, 2),
      networkInterfaceExclusionList: optional(interfaceNames, 3),
    })
    .map(defined) as fc.Arbitrary<OsmOptions>

export const osmSets: fc.Arbitrary<MeshSet> = fc
  .constantFrom<Flavour[]>('osm', 'osm', 'osm-edge', 'fsm')
  .chain((flavour) => fc.record({ pod: podOf(flavour), options: optionsOf(flavour) as fc.Arbitrary<MeshSet['options']> }))
