/**
 * Istio's sidecar rules in full (REDIRECT mode, IPv4, no DNS capture), as its own program writes them, rule by rule and in the same order: to compare
 * with, in a pod of the same shape. `istioRules` is a pure function of what that program is told; test/lab/istio-options.ts says what a pod tells it.
 */
import type { LabPod } from './net.ts'
import { must, run } from './process.ts'

export type Backend = 'nft' | 'legacy'

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
}

/** Input of iptables-restore: the tables that Istio writes. `options` overrides the defaults of istio-cni. */
export function istioRules(options: IstioRuleOptions = {}): string {
  const all = { ...cniDefaults, ...options }
  const nat = [...interfaceRules(all), ...redirectChains(all), ...inboundRules(all), ...outboundRules(all)]
  return `${all.dropInvalid ? table('mangle', ['-A PREROUTING -m conntrack --ctstate INVALID -j DROP']) : ''}${table('nat', nat)}`
}

function table(name: string, rules: readonly string[]): string {
  const chains = new Set(rules.flatMap((rule) => rule.match(/\bISTIO_\w+/g) ?? []))
  return [`*${name}`, ...[...chains].map((chain) => `-N ${chain}`), ...rules, 'COMMIT', ''].join('\n')
}

/** IPv6 has tables of its own. */
const ipv4 = (ranges: readonly string[]) => ranges.filter((range) => !range.includes(':'))

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

function outboundRules(options: Required<IstioRuleOptions>): string[] {
  const { proxyUids, proxyGids, outboundRangesExclude, outboundPortsInclude, outboundPortsExclude, loopbackCidr } = options
  const rules = [
    ...outboundPortsExclude.flatMap((port) => [`-p tcp --dport ${port} -j RETURN`, `-p udp --dport ${port} -j RETURN`]),
    '-o lo -s 127.0.0.6/32 -j RETURN',
    ...proxyUids.flatMap((uid) => ownerRules('--uid-owner', uid, options)),
    ...proxyGids.flatMap((gid) => ownerRules('--gid-owner', gid, options)),
    ...ownerGroupRules(options),
    `-d ${loopbackCidr} -j RETURN`,
    ...ipv4(outboundRangesExclude).map((range) => `-d ${range} -j RETURN`),
    ...outboundPortsInclude.map((port) => `-p tcp --dport ${port} -j ISTIO_REDIRECT`),
  ]
  return ['-A OUTPUT -j ISTIO_OUTPUT', ...rules.map((rule) => `-A ISTIO_OUTPUT ${rule}`), ...rangeRules(options)]
}

/** What the proxy sends: to its own pod, back in; everything else of it, out. In between: what others send within the pod stays there. */
function ownerRules(match: '--uid-owner' | '--gid-owner', id: number, options: Required<IstioRuleOptions>): string[] {
  const { loopbackCidr, tunnelPort } = options
  return [
    `-o lo ! -d ${loopbackCidr} -p tcp ! --dport ${tunnelPort} -m owner ${match} ${id} -j ISTIO_IN_REDIRECT`,
    ...(loopbackIncluded(options) ? [] : [`-o lo -m owner ! ${match} ${id} -j RETURN`]),
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
function rangeRules({ outboundRangesInclude: ranges, rerouteInterfaces }: Required<IstioRuleOptions>): string[] {
  const toProxy = (to: string) => [
    ...rerouteInterfaces.map((each) => `-I PREROUTING 1 -i ${each}${to} -j ISTIO_REDIRECT`),
    `-A ISTIO_OUTPUT${to} -j ISTIO_REDIRECT`,
  ]
  return ranges === '*' ? toProxy('') : ipv4(ranges).flatMap((range) => toProxy(` -d ${range}`))
}

/** Replaces the tables that the rules name; iptables-restore takes a table as a whole or not at all. */
export async function applyIptables(pod: LabPod, rules: string, backend: Backend = 'nft'): Promise<void> {
  await must(pod.command([`iptables-${backend}-restore`]), { input: rules })
}

/** Rules before which all tables that Istio may use are empty. */
export const fromScratch = (rules: string) =>
  `${['mangle', 'nat'].map((name) => (rules.includes(`*${name}\n`) ? '' : `*${name}\nCOMMIT\n`)).join('')}${rules}`

/** Why this machine cannot use the backend; undefined: it can. */
export async function backendMissing(pod: LabPod, backend: Backend): Promise<string | undefined> {
  try {
    const { code, stderr } = await run(pod.command([`iptables-${backend}-restore`]), { input: fromScratch('') })
    return code === 0 ? undefined : `iptables-${backend}-restore: ${stderr.trim()}`
  } catch (error) {
    return `iptables-${backend}-restore: ${error instanceof Error ? error.message : String(error)}`
  }
}
