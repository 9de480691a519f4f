/**
 * What a pod's rules start from: the flags of its kuma-init, else the configuration that Kuma's injector wrote into an annotation, else the options.
 * The first two say everything; what they leave out has the default of Kuma's program, which is not that of a cluster.
 */
import type { Kit, Pod, PortSpec } from '../../core/plugin.ts'
import type { Reader } from '../shared/reader.ts'
import { messageOf, short } from '../shared/text.ts'
import { type Exclusion, exclusion } from './exclusions.ts'
import { flagOf, treeOfFlags, wantsHelp } from './flags.ts'
import { takesOld } from './older.ts'
import type { Options } from './options.ts'
import { initOf } from './sidecar.ts'
import { flag, networksIn, port, portOrZero, portsIn, scalar, scalars, type Tree, treeOf } from './tree.ts'
import { familyMode, userId } from './values.ts'

export interface Flow {
  readonly enabled: boolean
  readonly port: number
  readonly includePorts: readonly PortSpec[]
  readonly excludePorts: readonly PortSpec[]
  readonly excludeCidrs: readonly string[]
}

export interface Base {
  /** `older`: the options, and what the injector of Kuma 2 wrote into annotations. */
  readonly source: 'flags' | 'annotation' | 'options' | 'older'
  /** Absent: the container or the options say it. */
  readonly uid?: number | undefined
  readonly mode: 'dualstack' | 'ipv4'
  readonly outbound: Flow & { readonly exclusions: readonly Exclusion[]; readonly insert: boolean }
  /** `open`: where it has a value of which Kuma makes a rule that lets everything pass. */
  readonly inbound: Flow & { readonly port6?: number | undefined; readonly open?: string | undefined }
  readonly dns: { readonly capture: 'none' | 'servers' | 'all'; readonly port: number }
  readonly vnet: readonly string[]
  /** Where it says that packets are dropped, or logged; undefined: they are not. */
  readonly dropInvalid?: string | undefined
  readonly logs?: string | undefined
}

export const configAnnotation = 'traffic.kuma.io/transparent-proxy-config'

/** What refuses a pod, and what only makes it impossible here. */
export interface Readers {
  readonly refused: Reader
  readonly impossible: Reader
}

type Read = <T>(path: string, parse: (value: unknown) => T, fallback: T) => T

const flowOf = (read: Read, name: 'inbound' | 'outbound', usualPort: number, readPort: (value: unknown) => number): Flow => ({
  enabled: read(`redirect.${name}.enabled`, flag, true),
  port: read(`redirect.${name}.port`, readPort, usualPort),
  includePorts: read(`redirect.${name}.includePorts`, portsIn, []),
  excludePorts: read(`redirect.${name}.excludePorts`, portsIn, []),
  excludeCidrs: read(`redirect.${name}.excludePortsForIPs`, networksIn, []),
})

const exclusionsIn = (value: unknown): Exclusion[] => scalars(value).map(exclusion)

function dnsOf(read: Read, source: Base['source']): Base['dns']['capture'] {
  const [enabled, all] = [read('redirect.dns.enabled', flag, false), read('redirect.dns.captureAll', flag, false)]
  // The flag for all queries captures by itself; in the configuration it only says which.
  if (source === 'flags') return all ? 'all' : enabled ? 'servers' : 'none'
  return enabled ? (all ? 'all' : 'servers') : 'none'
}

function fromTree(tree: Tree, source: Base['source'], title: (path: string) => string, { refused, impossible }: Readers): Base {
  const read: Read = (path, parse, fallback) => refused.read(title(path), tree.get(path), parse, fallback)
  const user = read('kumaDPUser', scalar, '')
  const dns = dnsOf(read, source)
  const [inbound, outbound] = (['inbound', 'outbound'] as const).map((name) => tree.get(`redirect.${name}.enabled`) !== false)
  /** A flag must be a port in any case; in the configuration 0 does no harm where no rule has it. */
  const portWhere = (used: boolean | undefined) => (used || source === 'flags' ? port : portOrZero)
  const rulesForUsers = 'redirect.inbound.excludePortsForUIDs'
  return {
    source,
    uid: impossible.read(title('kumaDPUser'), user, userId, undefined),
    mode: read('ipFamilyMode', (value) => familyMode(scalar(value)), 'dualstack'),
    outbound: {
      ...flowOf(read, 'outbound', 15001, portWhere(outbound)),
      exclusions: read('redirect.outbound.excludePortsForUIDs', exclusionsIn, []),
      insert: read('redirect.outbound.insertRedirectInsteadOfAppend', flag, false),
    },
    inbound: {
      ...flowOf(read, 'inbound', 15006, portWhere(inbound || outbound)),
      port6: read('redirect.inbound.portIPv6', port, undefined),
      open: read(rulesForUsers, exclusionsIn, []).length > 0 ? title(rulesForUsers) : undefined,
    },
    dns: { capture: dns, port: read('redirect.dns.port', portWhere(dns !== 'none'), 15053) },
    vnet: read('redirect.vnet.networks', scalars, []),
    dropInvalid: read('dropInvalidPackets', flag, false) ? title('dropInvalidPackets') : undefined,
    logs: read('log.enabled', flag, false) ? title('log.enabled') : undefined,
  }
}

function fromFlags(tree: Tree, readers: Readers): Base {
  if (tree.get('redirect.dns.enabled') === true && tree.get('redirect.dns.captureAll') === true)
    readers.refused.complaints.push('container kuma-init: expected one of --redirect-dns and --redirect-all-dns-traffic, got both')
  return fromTree(tree, 'flags', (path) => `container kuma-init: ${flagOf(path)}`, readers)
}

/** A limit of this reader is not one of Kuma. */
function yamlOf(text: string, title: string, { yaml }: Kit, { refused, impossible }: Readers): unknown {
  try {
    return yaml(text)
  } catch (error) {
    if (error instanceof Error && error.name === 'LimitError') impossible.complaints.push(`${title}: ${error.message}; more is not read here`)
    else refused.complaints.push(`${title}: ${messageOf(error)}`)
    return {}
  }
}

function fromAnnotation(text: string, pod: Pod, kit: Kit, readers: Readers): Base {
  const title = `annotation ${configAnnotation}`
  const { tree, unknown } = treeOf(yamlOf(text, title, kit, readers), title, readers.refused)
  if (unknown.length > 0) {
    const names = unknown.slice(0, 4).map(short).join(', ')
    pod.warn(`${title}: Kuma does not know ${names}${unknown.length > 4 ? ` and ${unknown.length - 4} more` : ''}, and ignores it`)
  }
  return fromTree(tree, 'annotation', (path) => `${title}: ${path}`, readers)
}

const fromOptions = (options: Options): Base => ({
  source: 'options',
  mode: options.ipFamilyMode,
  outbound: {
    enabled: options.redirectOutbound,
    port: options.proxyPort,
    includePorts: options.includeOutboundPorts,
    excludePorts: options.excludeOutboundPorts,
    excludeCidrs: options.excludeOutboundCidrs,
    exclusions: options.excludeOutboundPortsForUids.map(exclusion),
    insert: options.insertRedirectInsteadOfAppend,
  },
  inbound: {
    enabled: options.redirectInbound,
    port: options.inboundPort,
    port6: options.inboundPort6,
    includePorts: options.includeInboundPorts,
    excludePorts: options.readinessPort === 0 ? options.excludeInboundPorts : [...options.excludeInboundPorts, options.readinessPort],
    excludeCidrs: options.excludeInboundCidrs,
  },
  dns: { capture: options.captureDns, port: options.dnsPort },
  vnet: options.vnet,
  dropInvalid: options.dropInvalid ? 'dropInvalid' : undefined,
})

/** An empty annotation is none to Kuma. */
export function baseOf(pod: Pod, options: Options, kit: Kit, readers: Readers): Base {
  const init = initOf(pod)
  if (init !== undefined && wantsHelp(init))
    readers.impossible.complaints.push(
      'container kuma-init: -h or --help: it prints its help and writes no rules, so nothing is intercepted in this pod',
    )
  const flags = init && treeOfFlags(init, kit, takesOld(options), (message) => pod.warn(message))
  if (flags !== undefined) return fromFlags(flags, readers)
  const text = pod.annotations[configAnnotation] ?? ''
  return text === '' ? fromOptions(options) : fromAnnotation(text, pod, kit, readers)
}
