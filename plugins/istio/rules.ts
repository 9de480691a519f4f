/**
 * The rules of the nat tables OUTPUT and PREROUTING that Istio writes for a sidecar, in their order. A rule whose list is empty is left out. IPv6
 * is left alone, as Istio does for a pod whose first address is IPv4.
 */
import type { IdSpec, Interception, Match, Rule } from '../../core/plugin.ts'
import type { Settings } from './settings.ts'

/** HBONE: goes to the listener that Envoy has for it. */
const tunnelPort = 15008

const notIpv4: Rule = { name: 'IPv6 is not captured', when: { family: 'ipv6' }, then: 'pass' }

const pass = (name: string, when: Match): Rule => ({ name, when, then: 'pass' })

/** The rule, when the list that it is about has elements. */
const given = (list: readonly unknown[], rule: Rule): Rule[] => (list.length === 0 ? [] : [rule])

/** "localhost": a fact that every connection has, or a set when the pod is set up with more of loopback. */
const localhost = ({ loopbackCidr }: Settings): string => (loopbackCidr === '127.0.0.1/32' ? 'loopback' : 'localhost')

/**
 * Istio repeats three rules for each user and then for each group of the sidecar: "calls its own pod: inbound", "on lo and not it: pass", "it:
 * pass". The second of the first user lets everybody else's local connections pass, so only the first user ever gets the first rule. It is left
 * out when a loopback network is among the captured destinations; then every user and group gets the first rule.
 */
function sidecarRules(settings: Settings): Rule[] {
  const { loopback } = settings.includeOutbound
  return [
    {
      name: 'sidecar calls its own pod',
      when: { proto: 'tcp', from: loopback ? 'sidecar' : 'first user of the sidecar', to: 'pod' },
      unless: { to: localhost(settings), port: 'tunnel' },
      then: 'inbound',
    },
    ...(loopback ? [] : [pass('stays in the pod', { to: 'pod' })]),
    pass('sidecar goes out', { from: 'sidecar' }),
  ]
}

function groupRules({ ownerGroups: { include, exclude } }: Settings): Rule[] {
  if (include === '*') return given(exclude, pass('excluded group', { from: 'excluded groups' }))
  return given(include, { name: 'not an included group', unless: { from: 'included groups' }, then: 'pass' })
}

function destinationRules(settings: Settings): Rule[] {
  const { includeOutbound, excludeOutboundCidrs, includeOutboundPorts } = settings
  const everything = includeOutbound.cidrs.includes('*')
  return [
    pass('to localhost', { to: localhost(settings) }),
    ...given(excludeOutboundCidrs, pass('excluded destination', { to: 'excluded destinations' })),
    ...given(includeOutboundPorts, { name: 'included port', when: { proto: 'tcp', port: 'included outbound ports' }, then: 'outbound' }),
    ...given(
      includeOutbound.cidrs,
      everything
        ? { name: 'everything else', when: { proto: 'tcp' }, then: 'outbound' }
        : { name: 'included destination', when: { proto: 'tcp', to: 'included destinations' }, then: 'outbound' },
    ),
  ]
}

function outboundRules(settings: Settings): Rule[] {
  const { include } = settings.ownerGroups
  return [
    notIpv4,
    ...given(settings.excludeInterfaces, pass('excluded interface', { to: 'excluded interfaces' })),
    ...given(settings.excludeOutboundPorts, pass('excluded port', { port: 'excluded outbound ports' })),
    pass('sidecar hands over to the app', { from: 'passthrough', to: 'pod' }),
    ...sidecarRules(settings),
    ...(include.length === 0 ? [pass('no group is included', {})] : [...groupRules(settings), ...destinationRules(settings)]),
  ]
}

/** Exclusions count only when everything is included. */
function inboundRules(settings: Settings): Rule[] {
  const { includeInboundPorts, excludeInboundPorts, excludeInterfaces } = settings
  if (includeInboundPorts.length === 0) return []
  const listed: Rule[] = [{ name: 'included port', when: { proto: 'tcp', port: 'included inbound ports' }, then: 'inbound' }]
  const all: Rule[] = [
    ...given(excludeInboundPorts, pass('excluded port', { port: 'excluded inbound ports' })),
    { name: 'everything else', when: { proto: 'tcp' }, then: 'inbound' },
  ]
  return [
    notIpv4,
    ...given(excludeInterfaces, pass('excluded interface', { from: 'excluded interfaces' })),
    pass('tunnel', { port: 'tunnel' }),
    ...(includeInboundPorts.includes('*') ? all : listed),
  ]
}

const listOf = (names: string | readonly string[] | undefined): readonly string[] => [names ?? []].flat()

/** The entries that the rules name. */
function named<T>(entries: Readonly<Record<string, T>>, rules: readonly Rule[]): Record<string, T> {
  const names = new Set(
    rules.flatMap(({ when, unless, then }) => [then, ...[when, unless].flatMap((match) => [match?.port, match?.to, match?.from].flatMap(listOf))]),
  )
  return Object.fromEntries(Object.entries(entries).filter(([name]) => names.has(name)))
}

export function interceptionOf(settings: Settings): Interception {
  const { ownerGroups, includeOutbound } = settings
  const [outbound, inbound] = [outboundRules(settings), inboundRules(settings)]
  const ids = (list: '*' | readonly IdSpec[]): readonly IdSpec[] => (list === '*' ? [] : list)
  const sets = {
    tunnel: { ports: [tunnelPort] },
    localhost: { cidrs: [settings.loopbackCidr] },
    sidecar: { uid: settings.proxyUid, gid: settings.proxyGid },
    'first user of the sidecar': { uid: settings.proxyUid.slice(0, 1) },
    'included groups': { gid: ids(ownerGroups.include) },
    'excluded groups': { gid: ownerGroups.exclude },
    'excluded interfaces': { interfaces: settings.excludeInterfaces },
    'excluded outbound ports': { ports: settings.excludeOutboundPorts },
    'included outbound ports': { ports: settings.includeOutboundPorts },
    'excluded destinations': { cidrs: settings.excludeOutboundCidrs },
    'included destinations': { cidrs: includeOutbound.cidrs },
    'excluded inbound ports': { ports: settings.excludeInboundPorts },
    'included inbound ports': { ports: settings.includeInboundPorts },
  }
  const targets = { outbound: { port: settings.proxyPort }, inbound: { port: settings.inboundPort } }
  const rules = [...outbound, ...inbound]
  return { sets: named(sets, rules), targets: named(targets, rules), outbound, inbound }
}
