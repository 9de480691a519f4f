/** Istio's sidecar rules (REDIRECT mode, IPv4, no DNS capture) as istio-cni writes them, to compare with: same pods, same proxies, the usual way. */
import type { LabPod } from './net.ts'
import { must } from './process.ts'

export interface IstioRuleOptions {
  readonly outboundPort?: number
  readonly inboundPort?: number
  readonly proxyUids?: readonly number[]
  readonly proxyGids?: readonly number[]
  /** '*' or a list; an empty list captures nothing inbound */
  readonly inboundPortsInclude?: '*' | readonly number[]
  /** Used only where inboundPortsInclude is '*' */
  readonly inboundPortsExclude?: readonly number[]
  /** '*' or CIDRs; an empty list captures nothing by address */
  readonly outboundRangesInclude?: '*' | readonly string[]
  readonly outboundRangesExclude?: readonly string[]
  readonly outboundPortsInclude?: readonly number[]
  readonly outboundPortsExclude?: readonly number[]
}

/** Input of iptables-restore: the nat table, complete. The defaults are those of istio-cni for a pod without annotations. */
export function istioRules(options: IstioRuleOptions = {}): string {
  const { outboundPort = 15001, inboundPort = 15006 } = options
  return [
    '*nat',
    ':ISTIO_REDIRECT - [0:0]',
    ':ISTIO_IN_REDIRECT - [0:0]',
    ':ISTIO_INBOUND - [0:0]',
    ':ISTIO_OUTPUT - [0:0]',
    `-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports ${outboundPort}`,
    `-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports ${inboundPort}`,
    ...inboundRules(options),
    '-A OUTPUT -j ISTIO_OUTPUT',
    ...outboundRules(options),
    'COMMIT',
    '',
  ].join('\n')
}

function inboundRules({ inboundPortsInclude = '*', inboundPortsExclude = [15020, 15021, 15090] }: IstioRuleOptions): string[] {
  if (inboundPortsInclude !== '*' && inboundPortsInclude.length === 0) return []
  const start = ['-A PREROUTING -p tcp -j ISTIO_INBOUND', '-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN']
  if (inboundPortsInclude !== '*')
    return [...start, ...inboundPortsInclude.map((port) => `-A ISTIO_INBOUND -p tcp --dport ${port} -j ISTIO_IN_REDIRECT`)]
  return [
    ...start,
    ...inboundPortsExclude.map((port) => `-A ISTIO_INBOUND -p tcp --dport ${port} -j RETURN`),
    '-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT',
  ]
}

function outboundRules(options: IstioRuleOptions): string[] {
  const { proxyUids = [1337], proxyGids = [1337], outboundRangesInclude = '*', outboundPortsExclude = [15020] } = options
  const { outboundPortsInclude = [], outboundRangesExclude = [] } = options
  const ranges = outboundRangesInclude === '*' ? [] : outboundRangesInclude
  const loopbackIncluded = ranges.some((range) => range.startsWith('127.'))
  const rules = [
    ...outboundPortsExclude.flatMap((port) => [`-p tcp --dport ${port} -j RETURN`, `-p udp --dport ${port} -j RETURN`]),
    '-s 127.0.0.6/32 -o lo -j RETURN',
    ...proxyUids.flatMap((uid) => ownerRules('--uid-owner', uid, loopbackIncluded)),
    ...proxyGids.flatMap((gid) => ownerRules('--gid-owner', gid, loopbackIncluded)),
    '-d 127.0.0.1/32 -j RETURN',
    ...outboundRangesExclude.map((range) => `-d ${range} -j RETURN`),
    ...outboundPortsInclude.map((port) => `-p tcp --dport ${port} -j ISTIO_REDIRECT`),
    ...(outboundRangesInclude === '*' ? ['-j ISTIO_REDIRECT'] : ranges.map((range) => `-d ${range} -j ISTIO_REDIRECT`)),
  ]
  return rules.map((rule) => `-A ISTIO_OUTPUT ${rule}`)
}

/** What the proxy sends: to its own pod, back in; everything else of it, out. In between: what others send within the pod stays there. */
function ownerRules(match: '--uid-owner' | '--gid-owner', id: number, loopbackIncluded: boolean): string[] {
  return [
    `! -d 127.0.0.1/32 -o lo -p tcp ! --dport 15008 -m owner ${match} ${id} -j ISTIO_IN_REDIRECT`,
    ...(loopbackIncluded ? [] : [`-o lo -m owner ! ${match} ${id} -j RETURN`]),
    `-m owner ${match} ${id} -j RETURN`,
  ]
}

/** Replaces the pod's nat table. */
export async function applyIptables(pod: LabPod, rules: string, backend: 'nft' | 'legacy' = 'nft'): Promise<void> {
  await must(pod.command([`iptables-${backend}-restore`]), { input: rules })
}
