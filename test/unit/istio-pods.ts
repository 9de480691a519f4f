/** Pods for the tests of the istio plugin: any set of tables as options of the plugin, or as annotations of a pod. */
import assert from 'node:assert/strict'
import type { PodFacts } from '../../core/describe.ts'
import type { Container, Interception, Pod } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { own, own6, type Tables } from './istio-tables.ts'
import { container, podFacts } from './pods.ts'

export const prefix = 'traffic.sidecar.istio.io'

/** What the plugin answers, without core's checks; and the warnings. */
export function ask(facts: Partial<PodFacts>, options: unknown = {}) {
  const { istio } = plugins
  assert.ok(istio !== undefined)
  const warnings: string[] = []
  const pod: Pod = {
    ...podFacts(facts),
    read: (_annotation, _parse, fallback) => fallback,
    parse: (_title, _text, _parse, fallback) => fallback,
    warn: (message) => void warnings.push(message),
  }
  const answer = istio.describe(pod, istio.options.parse(options) as never)
  return { answer, warnings }
}

/** The rules that the plugin gives; it must have no warning. */
export function interceptionFor(facts: Partial<PodFacts>, options: unknown = {}): Interception {
  const { answer, warnings } = ask(facts, options)
  assert.ok('outbound' in answer, JSON.stringify(answer))
  assert.deepEqual(warnings, [])
  return answer
}

export const withSidecar = (more: Partial<Container>) => ({ containers: [container('app'), container('istio-proxy', more)] })

export function textsOf(tables: Partial<Tables>): Readonly<Record<string, string>> {
  const texts = {
    includeOutboundIPRanges: tables.includeOutboundCidrs,
    excludeOutboundIPRanges: tables.excludeOutboundCidrs,
    includeOutboundPorts: tables.includeOutboundPorts,
    excludeOutboundPorts: tables.excludeOutboundPorts,
    includeInboundPorts: tables.includeInboundPorts,
    excludeInboundPorts: tables.excludeInboundPorts,
    excludeInterfaces: tables.excludeInterfaces,
  }
  return Object.fromEntries(Object.entries(texts).flatMap(([name, list]) => (list === undefined ? [] : [[`${prefix}/${name}`, list.join(',')]])))
}

const networkOf: Readonly<Record<string, string>> = { '10.9.0.77/24': '10.9.0.0/24', '127.0.0.1/0': '127.0.0.0/8', 'fd09::77/64': 'fd09::/64' }

/** Tables that options can have too: an option wants the network itself, an annotation may have bits of a host. */
export const asOptions = (tables: Tables): Tables => ({
  ...tables,
  includeOutboundCidrs: tables.includeOutboundCidrs.map((cidr) => networkOf[cidr] ?? cidr),
  excludeOutboundCidrs: tables.excludeOutboundCidrs.map((cidr) => networkOf[cidr] ?? cidr),
})

/** IPv6 is captured where its address is the first one. */
const familiesFor = ({ ipv6 = false, dns = false }: Partial<Tables>, annotated: boolean) => {
  const servers = typeof dns === 'object' ? { nameservers: dns } : {}
  return {
    facts: { addresses: ipv6 ? [own6, own] : [own, own6], ...(annotated && servers) },
    options: { captureDns: dns === false ? 'none' : dns === 'all' ? 'all' : 'servers', ...(annotated ? {} : servers) },
  }
}

/** `annotated`: by annotations where there is one; else everything by options. */
export function interceptionIn(tables: Partial<Tables>, annotated: boolean): Interception {
  const { ownerGroupsInclude = '*', ipv6: _, dns: __, ...rest } = tables
  const families = familiesFor(tables, annotated)
  const { proxyUid, proxyGid, ownerGroupsExclude, loopbackCidr, proxyPort, inboundPort } = rest
  const others = { proxyUid, proxyGid, ownerGroupsExclude, loopbackCidr, proxyPort, inboundPort }
  const options = { ...(annotated ? others : rest), ...families.options, ownerGroupsInclude: ownerGroupsInclude === '*' ? ['*'] : ownerGroupsInclude }
  const { answer } = ask({ ...families.facts, ...(annotated && { annotations: textsOf(tables) }) }, options)
  assert.ok('outbound' in answer, JSON.stringify(answer))
  return answer
}
