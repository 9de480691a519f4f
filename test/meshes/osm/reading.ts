/**
 * What OSM, osm-edge and FSM make of a pod, read as their injectors and then iptables read it. A second reading, independent of the product's: it knows nothing
 * of plugins/osm but the names of its options, which are those of the MeshConfig.
 */
import type { Facts, Reading } from '../../parity/mesh.ts'
import { type OsmRules, osmDefaults } from './rules.ts'

export type Flavour = 'osm' | 'osm-edge' | 'fsm'

export interface OsmOptions {
  readonly flavour?: Flavour
  readonly interceptionMode?: string
  readonly proxyPort?: number
  readonly inboundPort?: number
  readonly proxyUid?: number
  readonly localProxyMode?: 'Localhost' | 'PodIP'
  readonly localDNSProxy?: boolean
  readonly outboundIPRangeExclusionList?: readonly string[]
  readonly outboundIPRangeInclusionList?: readonly string[]
  readonly outboundPortExclusionList?: readonly number[]
  readonly inboundPortExclusionList?: readonly number[]
  readonly networkInterfaceExclusionList?: readonly string[]
}

export const names = {
  outPorts: 'outbound-port-exclusion-list',
  inPorts: 'inbound-port-exclusion-list',
  outside: 'outbound-ip-range-exclusion-list',
  inside: 'outbound-ip-range-inclusion-list',
  inject: 'sidecar-injection',
} as const

export const prefixes: Readonly<Record<Flavour, string>> = { osm: 'openservicemesh.io', 'osm-edge': 'openservicemesh.io', fsm: 'flomesh.io' }

class Refusal extends Error {}

/** strconv.Atoi of the trimmed element, more than 0; and then iptables takes no more than 65535. */
function port(text: string): number {
  const digits = text.trim().replace(/^\+/, '')
  const value = /^[0-9]+$/.test(digits) ? Number.parseInt(digits, 10) : 0
  if (value <= 0 || value >= 65536) throw new Refusal()
  return value
}

/** net.ParseCIDR of the trimmed element; the text goes to iptables, which takes no IPv6 and reads the length as C does. */
function range(text: string): string {
  const [address = '', length = '', ...more] = text.trim().split('/')
  const bytes = address.split('.')
  const isAddress = bytes.length === 4 && bytes.every((byte) => String(Number(byte)) === byte && Number(byte) <= 255)
  const octal = length.length > 1 && length.startsWith('0')
  if (!isAddress || more.length > 0 || !/^[0-9]+$/.test(length) || Number(length) > 32 || (octal && /[89]/.test(length))) throw new Refusal()
  return `${address}/${Number.parseInt(length, octal ? 8 : 10)}`
}

const joined = <T>(...lists: readonly (readonly T[] | undefined)[]): readonly T[] => [...new Set(lists.flatMap((list) => list ?? []))]

type Texts = Readonly<Record<string, string>>

function listOf<T>(texts: Texts, name: string, element: (text: string) => T): readonly T[] {
  const text = texts[name]
  try {
    return text === undefined ? [] : text.split(',').map(element)
  } catch (error) {
    throw error instanceof Refusal ? new Refusal(name) : error
  }
}

export function flavourOf({ pod, options }: Pick<Facts, 'pod' | 'options'>): Flavour {
  const { flavour } = options as OsmOptions
  const { labels = {}, containers = [] } = pod
  if (flavour !== undefined) return flavour
  if ('fsm-proxy-uuid' in labels) return 'fsm'
  return containers.some(({ name }) => name === 'sidecar') ? 'osm-edge' : 'osm'
}

const yesOrNo = ['enabled', 'yes', 'true', 'disabled', 'no', 'false']

/** The rules that the injector writes, from the annotations and the MeshConfig. */
function written({ pod, options, addresses }: Facts, flavour: Flavour): OsmRules {
  const given = options as OsmOptions
  const [texts, prefix] = [pod.annotations ?? {}, prefixes[flavour]]
  const podIp = addresses.find((address) => !address.includes(':'))
  const rules: OsmRules = {
    ...osmDefaults,
    chains: flavour === 'fsm' ? 'FSM' : 'OSM',
    uid: given.proxyUid ?? osmDefaults.uid,
    outboundPort: given.proxyPort ?? osmDefaults.outboundPort,
    inboundPort: given.inboundPort ?? osmDefaults.inboundPort,
    dns: flavour !== 'osm' && given.localDNSProxy === true,
    interfaces: joined(given.networkInterfaceExclusionList),
    outboundPortExclusions: joined(given.outboundPortExclusionList, listOf(texts, `${prefix}/${names.outPorts}`, port)),
    inboundPortExclusions: joined(given.inboundPortExclusionList, listOf(texts, `${prefix}/${names.inPorts}`, port)),
    rangeExclusions: joined(listOf(texts, `${prefix}/${names.outside}`, range), given.outboundIPRangeExclusionList),
    rangeInclusions: joined(listOf(texts, `${prefix}/${names.inside}`, range), given.outboundIPRangeInclusionList),
    podIp: false,
  }
  if (given.localProxyMode !== 'PodIP') return rules
  if (podIp === undefined) throw new Refusal('localProxyMode')
  return { ...rules, podIp }
}

/** The script of the init container, line by line, as iptables-restore would take it. */
function inScript(script: string, addresses: readonly string[]): OsmRules {
  const all = (pattern: RegExp) => [...script.matchAll(pattern)].map(([, text = '']) => text)
  const [variable] = all(/--to-destination (\$POD_IP)/g)
  const podIp = addresses.find((address) => !address.includes(':'))
  if (variable !== undefined && podIp === undefined) throw new Refusal('localProxyMode')
  const ports = (pattern: RegExp) => all(pattern).flatMap((text) => text.split(',').map(Number))
  return {
    ...osmDefaults,
    chains: script.includes('FSM_PROXY') ? 'FSM' : 'OSM',
    uid: Number(all(/ --uid-owner (\d+)/g)[0]),
    outboundPort: Number(all(/_OUT_REDIRECT -p tcp -j REDIRECT --to-port (\d+)/g)[0]),
    inboundPort: Number(all(/_IN_REDIRECT -p tcp -j REDIRECT --to-port (\d+)/g)[0]),
    podIp: variable !== undefined && podIp !== undefined ? podIp : false,
    dns: script.includes('127.0.0.153:5300'),
    interfaces: all(/ -i (\S+) -j RETURN/g),
    inboundPortExclusions: ports(/_INBOUND .*--dports (\S+)/g),
    outboundPortExclusions: ports(/_OUTBOUND .*--dports (\S+)/g),
    rangeExclusions: all(/-A \w+_OUTBOUND -d (\S+) -j RETURN/g)
      .slice(1)
      .map(range), // the first one is about 127.0.0.1
    rangeInclusions: all(/-A \w+_OUTBOUND -d (\S+) -j \w+_OUT_REDIRECT/g).map(range),
    ownPorts: ports(/_INBOUND -p tcp --dport (\d+) /g),
  }
}

/** An address without the bits that its mask leaves out. */
function masked(network: string): string {
  const [address = '', length = ''] = network.split('/')
  const bits = address.split('.').reduce((all, byte) => all * 256n + BigInt(byte), 0n) >> BigInt(32 - Number(length))
  return `${bits}/${length}`
}

/** Lists of a pod with a script that ask for something which the script does not have, or that nobody can read. */
function late({ pod }: Facts, own: string, rules: OsmRules): readonly string[] {
  const texts = pod.annotations ?? {}
  const lacks = (name: string, element: (text: string) => string | number, known: readonly (string | number)[]) => {
    try {
      return listOf(texts, `${own}/${name}`, element).some((each) => !known.includes(each)) ? [`${own}/${name}`] : []
    } catch {
      return [`${own}/${name}`]
    }
  }
  const network = (text: string) => masked(range(text))
  return [
    ...lacks(names.outPorts, port, rules.outboundPortExclusions),
    ...lacks(names.inPorts, port, rules.inboundPortExclusions),
    ...lacks(names.outside, network, rules.rangeExclusions.map(masked)),
    ...lacks(names.inside, network, rules.rangeInclusions.map(masked)),
  ]
}

/** What the mesh passes over in silence, and what its rule for ports cannot hold. */
function warned(facts: Facts, flavour: Flavour, rules: OsmRules, scripted: boolean): readonly string[] {
  const { pod, options } = facts
  const { localDNSProxy, ...given } = options as OsmOptions
  const own = prefixes[flavour]
  const known = [names.outPorts, names.inPorts, names.outside, names.inside].map((name) => `${own}/${name}`)
  const strange = Object.keys(pod.annotations ?? {}).filter((name) => name.endsWith('-list') && !known.includes(name))
  const long = (
    [
      [names.outPorts, 'outboundPortExclusionList', rules.outboundPortExclusions],
      [names.inPorts, 'inboundPortExclusionList', rules.inboundPortExclusions],
    ] as const
  ).flatMap(([name, option, ports]) => {
    if (scripted || ports.length <= 15) return []
    return pod.annotations?.[`${own}/${name}`] === undefined ? [option] : [`${own}/${name}`, ...(given[option]?.length ? [option] : [])]
  })
  const dns = localDNSProxy && flavour === 'osm' && !rules.dns ? ['localDNSProxy'] : []
  const speaksAgainst =
    isInjected(facts, flavour) && !['enabled', 'yes', 'true', undefined].includes(injectionOf(facts, flavour)) ? [`${own}/${names.inject}`] : []
  return [...strange, ...long, ...(scripted ? late(facts, own, rules) : []), ...dns, ...speaksAgainst]
}

const initOf = (flavour: Flavour): string => (flavour === 'fsm' ? 'fsm-init' : 'osm-init')

const isInjected = ({ pod: { labels = {}, containers = [] } }: Facts, flavour: Flavour): boolean =>
  (flavour === 'fsm' ? 'fsm-proxy-uuid' : 'osm-proxy-uuid') in labels || containers.some(({ name }) => name === initOf(flavour))

const injectionOf = ({ pod }: Facts, flavour: Flavour): string | undefined => pod.annotations?.[`${prefixes[flavour]}/${names.inject}`]?.toLowerCase()

export function readPod(facts: Facts): Reading<OsmRules> {
  const { pod, options } = facts
  const flavour = flavourOf(facts)
  const { interceptionMode = 'PodLevel' } = options as OsmOptions
  if (!['PodLevel', 'iptables'].includes(interceptionMode)) return { unsupported: 'interceptionMode' }
  const inject = `${prefixes[flavour]}/${names.inject}`
  const injection = isInjected(facts, flavour) ? undefined : injectionOf(facts, flavour)
  if (injection !== undefined && !yesOrNo.includes(injection)) return { refused: inject }
  if (injection !== undefined && yesOrNo.indexOf(injection) > 2) return { unsupported: inject }
  const script = pod.containers?.find(({ name }) => name === initOf(flavour))?.args?.at(-1)
  try {
    const rules = script === undefined ? written(facts, flavour) : inScript(script, facts.addresses)
    return { rules, warned: warned(facts, flavour, rules, script !== undefined) }
  } catch (error) {
    if (error instanceof Refusal) return { refused: error.message }
    throw error
  }
}
