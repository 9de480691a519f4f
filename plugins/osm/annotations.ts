/** The rules of a pod without osm-init: the pod's annotations, joined with the options, which stand for the MeshConfig. */
import type { Pod } from '../../core/plugin.ts'
import { short } from '../shared/text.ts'
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

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const unique = <T>(...all: readonly (readonly T[])[]): T[] => [...new Set(all.flat())]

/** What looks like a list of the mesh and is none that it reads: of another flavour, of the namespace, or of a name that it does not know. */
export function warnOfIgnored(pod: Pod, { prefix, title }: Flavour): void {
  const others = Object.values(flavours).map((flavour) => flavour.prefix)
  const isList = (name: string) => name.endsWith('-list') && others.some((other) => name.startsWith(`${other}/`))
  const known = new Set<string>(lists.map((name) => `${prefix}/${name}`))
  for (const name of Object.keys(pod.annotations)) {
    if (isList(name) && !known.has(name)) pod.warn(`annotation ${short(name)}: ${title} does not know it and ignores it`)
  }
  for (const name of Object.keys(pod.namespace.annotations)) {
    if (isList(name)) pod.warn(`annotation ${short(name)} of the namespace: ${title} reads such a list of pods only and ignores it`)
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
