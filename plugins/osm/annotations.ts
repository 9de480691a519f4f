/** The rules of a pod without osm-init: the pod's annotations, joined with the options, which stand for the MeshConfig. */
import type { Pod } from '../../core/plugin.ts'
import { bounded } from '../shared/bounded.ts'
import { messageOf, short } from '../shared/text.ts'
import { type Flavour, flavours } from './flavours.ts'
import type { Options } from './options.ts'
import { mostPorts, podAddress, type Reading, type Settings } from './settings.ts'
import { networks, ports } from './values.ts'

const lists = [
  'outbound-port-exclusion-list',
  'inbound-port-exclusion-list',
  'outbound-ip-range-exclusion-list',
  'outbound-ip-range-inclusion-list',
] as const

const unique = <T>(...all: readonly (readonly T[])[]): T[] => [...new Set(all.flat())]

/** What looks like a list of the mesh and is none that it reads: of another flavour, of the namespace, or of a name that it does not know. */
export function warnOfIgnored(pod: Pod, { prefix, title }: Flavour): void {
  const others = Object.values(flavours).map((flavour) => flavour.prefix)
  const isList = (name: string) => name.endsWith('-list') && others.some((other) => name.startsWith(`${other}/`))
  const known = new Set<string>(lists.map((name) => `${prefix}/${name}`))
  const unknown = Object.keys(pod.annotations).filter((name) => isList(name) && !known.has(name))
  const ofNamespace = Object.keys(pod.namespace.annotations).filter(isList)
  const complaints = [
    ...unknown.map((name) => `annotation ${short(name)}: ${title} does not know it and ignores it`),
    ...ofNamespace.map((name) => `annotation ${short(name)} of the namespace: ${title} reads such a list of pods only and ignores it`),
  ]
  for (const complaint of bounded(complaints)) pod.warn(complaint)
}

/** Elements of each list that the rules do not have; throws where the text cannot be read. */
const missing: Readonly<Record<(typeof lists)[number], (text: string, settings: Settings) => readonly (string | number)[]>> = {
  'outbound-port-exclusion-list': (text, { excludedOutboundPorts }) => without(ports(text), excludedOutboundPorts),
  'inbound-port-exclusion-list': (text, { excludedInboundPorts }) => without(ports(text), excludedInboundPorts),
  'outbound-ip-range-exclusion-list': (text, { excludedNetworks }) => without(networks(text), excludedNetworks),
  'outbound-ip-range-inclusion-list': (text, { includedNetworks }) => without(networks(text), includedNetworks === '*' ? [] : includedNetworks),
}

function without<T>(all: readonly T[], known: readonly unknown[]): T[] {
  const those = new Set(known)
  return all.filter((each) => !those.has(each))
}

/** Lists that the rules in osm-init do not have: somebody changed them since. What the rules have besides may come from the MeshConfig. */
export function warnOfDifferent(pod: Pod, settings: Settings, { prefix, title, init }: Flavour): void {
  const differs = (name: (typeof lists)[number], text: string): string | undefined => {
    try {
      const some = missing[name](text, settings)
      return some.length === 0 ? undefined : `the rules in ${init} do not have ${bounded(some.map(String)).join(', ')}`
    } catch (error) {
      return messageOf(error)
    }
  }
  for (const name of lists) {
    const text = pod.annotations[`${prefix}/${name}`]
    const reason = text === undefined ? undefined : differs(name, text)
    if (reason !== undefined) {
      pod.warn(
        `annotation ${prefix}/${name} has no effect: ${reason}; ${title} read it when it created the pod, and the rules in ${init} count until the pod is created again`,
      )
    }
  }
}

/** Reads the pod's lists, joined with those of the options. */
function listsOf(pod: Pod, options: Options, { prefix }: Flavour) {
  const refused: string[] = []
  const read = <T>(name: (typeof lists)[number], parse: (text: string) => T[]): T[] => {
    const text = pod.annotations[`${prefix}/${name}`]
    try {
      return text === undefined ? [] : parse(text)
    } catch (error) {
      refused.push(`annotation ${prefix}/${name}: ${messageOf(error)}`)
      return []
    }
  }
  const excludedOutboundPorts = unique(options.outboundPortExclusionList, read('outbound-port-exclusion-list', ports))
  const excludedInboundPorts = unique(options.inboundPortExclusionList, read('inbound-port-exclusion-list', ports))
  const excludedNetworks = unique(read('outbound-ip-range-exclusion-list', networks), options.outboundIPRangeExclusionList)
  const included = unique(read('outbound-ip-range-inclusion-list', networks), options.outboundIPRangeInclusionList)
  return {
    refused,
    excludedOutboundPorts,
    excludedInboundPorts,
    excludedNetworks,
    includedNetworks: included.length === 0 ? ('*' as const) : included,
  }
}

/** A list that iptables does not take in one rule, and where it comes from. */
function tooMany(pod: Pod, annotation: string, option: string, own: readonly unknown[], all: readonly unknown[]): string[] {
  if (all.length <= mostPorts) return []
  const sources = [
    ...(pod.annotations[annotation] === undefined ? [] : [`annotation ${annotation}`]),
    ...(own.length === 0 ? [] : [`option ${option}`]),
  ]
  return [`${sources.join(' with ')}: ${all.length} ports`]
}

export function fromAnnotations(pod: Pod, options: Options, flavour: Flavour): Reading {
  const { refused, ...given } = listsOf(pod, options, flavour)
  const address = options.localProxyMode === 'PodIP' ? podAddress(pod, flavour) : { podIp: undefined }
  const complaints = [...refused, ...('refused' in address ? address.refused : [])]
  if (complaints.length > 0) return { refused: complaints }
  if (!('podIp' in address)) return address as { readonly cannot: string }
  const { outboundPortExclusionList, inboundPortExclusionList, networkInterfaceExclusionList } = options
  const settings: Settings = {
    proxyUid: options.proxyUid,
    proxyPort: options.proxyPort,
    inboundPort: options.inboundPort,
    podIp: address.podIp,
    dns: flavour.dns && options.localDNSProxy,
    outboundInterfaces: unique(networkInterfaceExclusionList),
    inboundInterfaces: unique(networkInterfaceExclusionList),
    ...given,
    ownPorts: [15010, '15901-15904'],
  }
  const [outbound, inbound] = [`${flavour.prefix}/outbound-port-exclusion-list`, `${flavour.prefix}/inbound-port-exclusion-list`]
  return {
    settings,
    more: [
      ...tooMany(pod, outbound, 'outboundPortExclusionList', outboundPortExclusionList, settings.excludedOutboundPorts),
      ...tooMany(pod, inbound, 'inboundPortExclusionList', inboundPortExclusionList, settings.excludedInboundPorts),
    ],
  }
}
