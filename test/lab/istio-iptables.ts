/**
 * Istio's sidecar rules in full (REDIRECT mode), as its own program writes them, rule by rule and in the same order, for both families: to compare with,
 * in a pod of the same shape. `istioTables` is a pure function of what that program is told; test/lab/istio-options.ts says what a pod tells it.
 */
import { dnsRules } from './istio-dns.ts'
import type { RuleFiles } from './restore.ts'

export { applyIptables, type Backend, backendMissing, fromScratch, type RuleFiles } from './restore.ts'

export type Family = 'ipv4' | 'ipv6'

/** '*' or a list; an empty list captures nothing. */
type Included<T> = '*' | readonly T[]

export interface IstioRuleOptions {
  readonly outboundPort?: number
  readonly inboundPort?: number
  readonly tunnelPort?: number
  readonly proxyUids?: readonly number[]
  readonly proxyGids?: readonly number[]
  readonly inboundPortsInclude?: Included<number>
  /** Used only where inboundPortsInclude is '*' */
  readonly inboundPortsExclude?: readonly number[]
  readonly outboundRangesInclude?: Included<string>
  readonly outboundRangesExclude?: readonly string[]
  readonly outboundPortsInclude?: readonly number[]
  readonly outboundPortsExclude?: readonly number[]
  /** Interfaces to virtual machines: what comes in there is outbound traffic. */
  readonly rerouteInterfaces?: readonly string[]
  readonly excludeInterfaces?: readonly string[]
  /** Groups whose connections are captured; '*': all but those of ownerGroupsExclude */
  readonly ownerGroupsInclude?: Included<number>
  readonly ownerGroupsExclude?: readonly number[]
  /** What counts as "to localhost" */
  readonly loopbackCidr?: string
  readonly dropInvalid?: boolean
  /** Rules for IPv6, and ::6 on lo */
  readonly ipv6?: boolean
  /** DNS goes to the proxy: what is for one of the nameservers, or all of it. */
  readonly dns?: false | 'servers' | 'all'
  /** Of the pod's /etc/resolv.conf; without any, 'servers' is the same as false. */
  readonly nameservers?: readonly string[]
}

/** What istio-cni tells it for a pod without annotations. */
export const cniDefaults: Required<IstioRuleOptions> = {
  outboundPort: 15001,
  inboundPort: 15006,
  tunnelPort: 15008,
  proxyUids: [1337],
  proxyGids: [1337],
  inboundPortsInclude: '*',
  inboundPortsExclude: [15020, 15021, 15090],
  outboundRangesInclude: '*',
  outboundRangesExclude: [],
  outboundPortsInclude: [],
  outboundPortsExclude: [15020],
  rerouteInterfaces: [],
  excludeInterfaces: [],
  ownerGroupsInclude: '*',
  ownerGroupsExclude: [],
  loopbackCidr: '127.0.0.1/32',
  dropInvalid: false,
  ipv6: false,
  dns: false,
  nameservers: [],
}

/** The tables that Istio writes. `options` overrides the defaults of istio-cni. */
export function istioTables(options: IstioRuleOptions = {}): RuleFiles {
  const given = { ...cniDefaults, ...options }
  const all = given.dns === 'servers' && given.nameservers.length === 0 ? { ...given, dns: false as const } : given
  const v4 = tablesOf(all, 'ipv4')
  return all.ipv6 ? { v4, v6: tablesOf(all, 'ipv6'), loopbackAddresses: ['::6'] } : { v4, loopbackAddresses: [] }
}

/** Those for IPv4 alone. */
export const istioRules = (options: IstioRuleOptions = {}): string => istioTables(options).v4

function tablesOf(all: Required<IstioRuleOptions>, family: Family): string {
  const dns = dnsRules(all, family)
  const nat = [...interfaceRules(all), ...redirectChains(all), ...inboundRules(all), ...outboundRules(all, family, dns.nat)]
  return [
    dns.raw.length === 0 ? '' : table('raw', dns.raw),
    all.dropInvalid ? table('mangle', ['-A PREROUTING -m conntrack --ctstate INVALID -j DROP']) : '',
    table('nat', nat),
  ].join('')
}

function table(name: string, rules: readonly string[]): string {
  const chains = new Set(rules.flatMap((rule) => rule.match(/\bISTIO_\w+/g) ?? []))
  return [`*${name}`, ...[...chains].map((chain) => `-N ${chain}`), ...rules, 'COMMIT', ''].join('\n')
}

/** Each family has tables of its own. */
const ofFamily = (family: Family, ranges: readonly string[]) => ranges.filter((range) => range.includes(':') === (family === 'ipv6'))

/** "To localhost" */
const localhost = (family: Family, { loopbackCidr }: Required<IstioRuleOptions>) => (family === 'ipv4' ? loopbackCidr : '::1/128')

function interfaceRules({ excludeInterfaces, rerouteInterfaces }: Required<IstioRuleOptions>): string[] {
  return [
    ...excludeInterfaces.flatMap((each) => [`-A PREROUTING -i ${each} -j RETURN`, `-A OUTPUT -o ${each} -j RETURN`]),
    ...rerouteInterfaces.map((each) => `-A PREROUTING -i ${each} -j RETURN`),
  ]
}

function redirectChains({ tunnelPort, outboundPort, inboundPort }: Required<IstioRuleOptions>): string[] {
  return [
    `-A ISTIO_INBOUND -p tcp --dport ${tunnelPort} -j RETURN`,
    `-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports ${outboundPort}`,
    `-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports ${inboundPort}`,
  ]
}

function inboundRules({ inboundPortsInclude, inboundPortsExclude }: Required<IstioRuleOptions>): string[] {
  const start = '-A PREROUTING -p tcp -j ISTIO_INBOUND'
  if (inboundPortsInclude === '*')
    return [
      start,
      ...inboundPortsExclude.map((port) => `-A ISTIO_INBOUND -p tcp --dport ${port} -j RETURN`),
      '-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT',
    ]
  if (inboundPortsInclude.length === 0) return []
  return [start, ...inboundPortsInclude.map((port) => `-A ISTIO_INBOUND -p tcp --dport ${port} -j ISTIO_IN_REDIRECT`)]
}

function outboundRules(options: Required<IstioRuleOptions>, family: Family, dns: readonly string[]): string[] {
  const { proxyUids, proxyGids, outboundRangesExclude, outboundPortsInclude, outboundPortsExclude } = options
  const rules = [
    ...outboundPortsExclude.flatMap((port) => [`-p tcp --dport ${port} -j RETURN`, `-p udp --dport ${port} -j RETURN`]),
    `-o lo -s ${family === 'ipv4' ? '127.0.0.6/32' : '::6/128'} -j RETURN`,
    ...proxyUids.flatMap((uid) => ownerRules('--uid-owner', uid, options, family)),
    ...proxyGids.flatMap((gid) => ownerRules('--gid-owner', gid, options, family)),
    ...ownerGroupRules(options),
  ]
  const destinations = [
    `-d ${localhost(family, options)} -j RETURN`,
    ...ofFamily(family, outboundRangesExclude).map((range) => `-d ${range} -j RETURN`),
    ...outboundPortsInclude.map((port) => `-p tcp --dport ${port} -j ISTIO_REDIRECT`),
  ]
  const appended = (list: readonly string[]) => list.map((rule) => `-A ISTIO_OUTPUT ${rule}`)
  return ['-A OUTPUT -j ISTIO_OUTPUT', ...appended(rules), ...dns, ...appended(destinations), ...rangeRules(options, family)]
}

/**
 * What the proxy sends: to its own pod, back in; everything else of it, out. In between: what others send within the pod stays there. With DNS capture a
 * name server may be on loopback, so TCP to port 53 and all of UDP go on; and what the proxy's user (not its group) asks one never goes back in.
 */
function ownerRules(match: '--uid-owner' | '--gid-owner', id: number, options: Required<IstioRuleOptions>, family: Family): string[] {
  const { tunnelPort, dns } = options
  const ports = dns && match === '--uid-owner' ? `-m multiport ! --dports 53,${tunnelPort}` : `! --dport ${tunnelPort}`
  return [
    `-o lo ! -d ${localhost(family, options)} -p tcp ${ports} -m owner ${match} ${id} -j ISTIO_IN_REDIRECT`,
    ...(loopbackIncluded(options) ? [] : [`-o lo ${dns ? '-p tcp ! --dport 53 ' : ''}-m owner ! ${match} ${id} -j RETURN`]),
    `-m owner ${match} ${id} -j RETURN`,
  ]
}

/** By the address as it is written: 127.0.0.1/0 is one, 0.0.0.0/0 is not. */
function loopbackIncluded({ outboundRangesInclude: ranges }: Required<IstioRuleOptions>): boolean {
  return ranges !== '*' && ranges.some((range) => /^(127\.|::1\/)/.test(range))
}

function ownerGroupRules({ ownerGroupsInclude, ownerGroupsExclude }: Required<IstioRuleOptions>): string[] {
  if (ownerGroupsInclude === '*') return ownerGroupsExclude.map((gid) => `-m owner --gid-owner ${gid} -j RETURN`)
  return [[...ownerGroupsInclude.map((gid) => `-m owner ! --gid-owner ${gid}`), '-j RETURN'].join(' ')]
}

/** Each rule for an interface to virtual machines is inserted at the start of PREROUTING, so the last one comes first. */
function rangeRules({ outboundRangesInclude: ranges, rerouteInterfaces }: Required<IstioRuleOptions>, family: Family): string[] {
  const toProxy = (to: string) => [
    ...rerouteInterfaces.map((each) => `-I PREROUTING 1 -i ${each}${to} -j ISTIO_REDIRECT`),
    `-A ISTIO_OUTPUT${to} -j ISTIO_REDIRECT`,
  ]
  return ranges === '*' ? toProxy('') : ofFamily(family, ranges).flatMap((range) => toProxy(` -d ${range}`))
}
