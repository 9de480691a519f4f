/**
 * What Istio's rules for a pod depend on, read as Istio reads it: by its CNI plugin (`setup: cni`) or by its injector for the init container
 * (`setup: init`). A second reading, independent of the product's: it knows nothing of plugins/istio but the names of its options.
 */
import { type IstioRuleOptions, cniDefaults as table } from './istio-iptables.ts'

export interface SidecarPod {
  readonly annotations: Readonly<Record<string, string>>
  readonly containers: readonly {
    readonly name: string
    readonly uid?: number
    readonly gid?: number
    readonly env?: Readonly<Record<string, string>>
  }[]
  /** Without those of loopback and link-local ones, the first one first; default: one of IPv4 */
  readonly addresses?: readonly string[]
  /** Of its /etc/resolv.conf; absent: those of the options */
  readonly nameservers?: readonly string[]
}

/** The plugin's options as the config file has them. */
export interface MeshOptions {
  readonly setup?: 'cni' | 'init'
  readonly proxyPort?: number
  readonly inboundPort?: number
  readonly proxyUid?: readonly number[]
  readonly proxyGid?: readonly number[]
  readonly includeOutboundCidrs?: readonly string[]
  readonly excludeOutboundCidrs?: readonly string[]
  readonly includeOutboundPorts?: readonly number[]
  readonly excludeOutboundPorts?: readonly number[]
  readonly includeInboundPorts?: readonly (number | '*')[]
  readonly excludeInboundPorts?: readonly number[]
  readonly ownerGroupsInclude?: readonly (number | '*')[]
  readonly ownerGroupsExclude?: readonly number[]
  readonly loopbackCidr?: string
  readonly dropInvalid?: boolean
  readonly excludeInterfaces?: readonly string[]
  readonly dualStack?: boolean
  readonly captureDns?: 'none' | 'servers' | 'all'
  readonly nameservers?: readonly string[]
}

/** Istio does not start this pod; `by`: the annotation or variable that it refuses. Unsupported: Istio would, with rules that are not of this kind. */
export type Reading = { readonly rules: Required<IstioRuleOptions> } | { readonly refused: string } | { readonly unsupported: string }

export const traffic = (name: string) => `traffic.sidecar.istio.io/${name}`
export const names = {
  mode: 'sidecar.istio.io/interceptionMode',
  statusPort: 'status.sidecar.istio.io/port',
  reroute: 'istio.io/reroute-virtual-interfaces',
} as const

class Refusal extends Error {}

const split = (text: string) => text.split(',').filter((element) => element !== '')

function port(text: string): number {
  const value = /^\d+$/.test(text.trim()) ? Number(text) : Number.NaN
  if (!(value <= 65535)) throw new Refusal()
  return value
}

/** Elements are trimmed; an empty one is no number. */
const ports = (text: string): number[] => (text.trim() === '' ? [] : text.split(',').map(port))
const portsOrAll = (text: string): '*' | number[] => (text === '*' ? text : ports(text))

/** Go's netip.ParsePrefix: a length is required, host bits and IPv6 are allowed, spaces are not. */
function prefix(text: string): string {
  const [, address = '', length = ''] = /^([\d.]+|[\da-fA-F:.]*:[\da-fA-F:.]*)\/(0|[1-9]\d*)$/.exec(text) ?? []
  const numbers = address.split('.')
  const four = numbers.length === 4 && numbers.every((each) => /^(0|[1-9]\d{0,2})$/.test(each) && Number(each) <= 255)
  if (!(address.includes(':') || four) || Number(length) > (four ? 32 : 128)) throw new Refusal()
  return text
}
const prefixes = (text: string): string[] => (text === '' ? [] : text.split(',').map(prefix))
const prefixesOrAll = (text: string): '*' | string[] => (text === '*' ? text : prefixes(text))

/** Trimmed for validation only, but iptables-restore does not mind spaces either. */
const interfaces = (text: string): string[] =>
  split(text).map((element) => {
    if (!/^[\w.-]{1,15}$/.test(element.trim())) throw new Refusal()
    return element.trim()
  })

/** Istio checks nothing here. */
const anyInterfaces = (text: string): string[] => split(text).map((element) => element.trim())

const ids = (text: string): number[] => split(text).map(Number)

/** Its program takes at most 64 of them. */
function capturedGroups(text: string): '*' | number[] {
  const groups = ids(text)
  if (text !== '*' && groups.length > 64) throw new Refusal()
  return text === '*' ? text : groups
}

/** A part of 127.0.0.0/8. */
function loopback(text: string): string {
  if (!prefix(text).startsWith('127.') || Number(text.replace(/.*\//, '')) < 8) throw new Refusal()
  return text
}

const orAll = <T>(list: readonly (T | '*')[]): '*' | readonly T[] => (list.includes('*') ? '*' : list.filter((each): each is T => each !== '*'))

/** Go's strconv.ParseBool; what cannot be read is false. */
const truth = (text: string | undefined) => text !== undefined && ['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)

type Values = Readonly<Record<string, string>>
type Read = <T>(name: string, parse: (text: string) => T, fallback: T) => T

/** What is there and cannot be read is a refusal that names it. */
const readFrom =
  (values: Values): Read =>
  (name, parse, fallback) => {
    const text = values[name]
    try {
      return text === undefined ? fallback : parse(text)
    } catch (error) {
      if (error instanceof Refusal) throw new Refusal(name)
      throw error
    }
  }

function interceptionMode(read: Read, init: boolean): string {
  const allowed = init ? ['REDIRECT', 'TPROXY', 'NONE'] : ['REDIRECT', 'TPROXY']
  return read(
    names.mode,
    (text) => {
      if (!allowed.includes(text)) throw new Refusal()
      return text
    },
    'REDIRECT',
  )
}

const sidecarOf = (pod: SidecarPod) => pod.containers.find(({ name }) => name === 'istio-proxy')

/** Root counts as "not set". The init container is told a user only, and takes its number for the group as well. */
function owners(pod: SidecarPod, { proxyUid = [1337], proxyGid = [1337] }: MeshOptions, init: boolean) {
  const sidecar = sidecarOf(pod)
  const proxyUids = sidecar?.uid ? [sidecar.uid] : proxyUid
  return { proxyUids, proxyGids: init ? proxyUids : sidecar?.gid ? [sidecar.gid] : proxyGid }
}

/** The CNI plugin reads these from its own environment, the init container from the pod's. */
function fromEnvironment(env: Values, options: MeshOptions, init: boolean) {
  const own = init ? readFrom(env) : <T>(_name: string, _parse: (text: string) => T, fallback: T): T => fallback
  return {
    ownerGroupsInclude: own('ISTIO_OUTBOUND_OWNER_GROUPS', capturedGroups, orAll(options.ownerGroupsInclude ?? ['*'])),
    ownerGroupsExclude: own('ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE', ids, options.ownerGroupsExclude ?? []),
    loopbackCidr: own('ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR', loopback, options.loopbackCidr ?? table.loopbackCidr),
    dropInvalid: (options.dropInvalid ?? false) || truth(env.INVALID_DROP),
  }
}

/** What is said, if anything is; of several names one that is true is enough. */
function saidIn(env: Values, names: readonly string[]): boolean | undefined {
  const texts = names.flatMap((name) => env[name] ?? [])
  return texts.length === 0 ? undefined : texts.some(truth)
}

/** With dual stack any address of IPv6 counts, without it only the first address. */
function ipv6(env: Values, { addresses = [] }: SidecarPod, options: MeshOptions, init: boolean): boolean {
  const dual = saidIn(env, init ? ['ISTIO_DUAL_STACK', 'DUAL_STACK'] : ['ISTIO_DUAL_STACK']) ?? options.dualStack ?? false
  return (dual ? addresses : addresses.slice(0, 1)).some((address) => address.includes(':'))
}

const unmapped = (server: string) => server.replace(/^::ffff:(?=\d+\.)/, '')

/** The CNI plugin knows no name servers: it captures all or nothing. */
function dns(env: Values, { captureDns = 'none' }: MeshOptions, init: boolean): IstioRuleOptions['dns'] {
  const asked = saidIn(env, init ? ['ISTIO_META_DNS_CAPTURE', 'REDIRECT_DNS'] : ['ISTIO_META_DNS_CAPTURE']) ?? captureDns !== 'none'
  if (!asked) return false
  if (!init) return 'ISTIO_META_DNS_CAPTURE' in env || captureDns === 'none' ? 'all' : captureDns
  return (saidIn(env, ['CAPTURE_ALL_DNS']) ?? captureDns === 'all') ? 'all' : 'servers'
}

function inboundExcludes(read: Read, options: MeshOptions, init: boolean): number[] {
  const listed = read(traffic('excludeInboundPorts'), ports, options.excludeInboundPorts ?? (init ? [] : [15020]))
  if (!init) return [...new Set([...listed, 15020, 15021, 15090])]
  const status = read(names.statusPort, port, 15020)
  return [15090, 15021, ...listed, ...(status === 0 || listed.includes(status) ? [] : [status])]
}

function rulesOf(pod: SidecarPod, options: MeshOptions, read: Read): Required<IstioRuleOptions> {
  const init = options.setup === 'init'
  const env = sidecarOf(pod)?.env ?? {}
  const kubevirt = read(traffic('kubevirtInterfaces'), anyInterfaces, [])
  return {
    ...table,
    outboundPort: options.proxyPort ?? table.outboundPort,
    inboundPort: options.inboundPort ?? table.inboundPort,
    ...owners(pod, options, init),
    ...fromEnvironment(env, options, init),
    ipv6: ipv6(env, pod, options, init),
    dns: dns(env, options, init) ?? false,
    nameservers: [...new Set((pod.nameservers ?? options.nameservers ?? []).map(unmapped))],
    outboundRangesInclude: read(traffic('includeOutboundIPRanges'), prefixesOrAll, orAll(options.includeOutboundCidrs ?? ['*'])),
    outboundRangesExclude: read(traffic('excludeOutboundIPRanges'), prefixes, options.excludeOutboundCidrs ?? []),
    outboundPortsInclude: read(traffic('includeOutboundPorts'), ports, options.includeOutboundPorts ?? []),
    outboundPortsExclude: read(traffic('excludeOutboundPorts'), ports, options.excludeOutboundPorts ?? (init ? [] : [15020])),
    inboundPortsInclude: read(traffic('includeInboundPorts'), portsOrAll, orAll(options.includeInboundPorts ?? ['*'])),
    inboundPortsExclude: inboundExcludes(read, options, init),
    excludeInterfaces: read(traffic('excludeInterfaces'), interfaces, options.excludeInterfaces ?? []),
    rerouteInterfaces: read(names.reroute, anyInterfaces, kubevirt),
  }
}

export function readPod(pod: SidecarPod, options: MeshOptions): Reading {
  const read = readFrom(pod.annotations)
  try {
    const rules = rulesOf(pod, options, read)
    const mode = interceptionMode(read, options.setup === 'init')
    return mode === 'REDIRECT' ? { rules } : { unsupported: names.mode }
  } catch (error) {
    if (error instanceof Refusal) return { refused: error.message }
    throw error
  }
}
