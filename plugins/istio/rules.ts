/**
 * The rules of the nat tables OUTPUT and PREROUTING that Istio writes for a sidecar, in their order, for one family or for both. A rule whose list is
 * empty is left out.
 */
import type { IdSpec, Interception, Match, Rule } from '../../core/plugin.ts'
import { isIpv6 } from '../shared/networks.ts'
import { given, named, pass } from '../shared/rules.ts'
import type { Settings } from './settings.ts'

/** HBONE: goes to the listener that Envoy has for it. */
const tunnelPort = 15008

const dnsPort = 53

/** Where Istio has no rules for IPv6. */
const families = ({ ipv6 }: Settings): Rule[] => (ipv6 ? [] : [pass('IPv6 is not captured', { family: 'ipv6' })])

/** "localhost": a fact that every connection has, or a set when the pod is set up with more of loopback. */
const localhost = ({ loopbackCidr }: Settings): string => (loopbackCidr === '127.0.0.1/32' ? 'loopback' : 'localhost')

/** The sidecar calls its own pod: what comes back in is inbound. */
const callsItself = (name: string, settings: Settings, from: string, unless: Match): Rule => ({
  name,
  when: { proto: 'tcp', from, to: 'pod' },
  unless: { to: localhost(settings), ...unless },
  then: 'inbound',
})

/**
 * Istio repeats three rules for each user and then for each group of the sidecar: "calls its own pod: inbound", "on lo and not it: pass", "it:
 * pass". The second of the first user lets everybody else's local connections pass, so only the first user ever gets the first rule. It is left
 * out when a loopback network is among the captured destinations; then every user and group gets the first rule.
 */
function sidecarRules(settings: Settings): Rule[] {
  const { loopback } = settings.includeOutbound
  if (settings.dns !== false) return sidecarRulesWithDns(settings)
  return [
    callsItself('sidecar calls its own pod', settings, loopback ? 'sidecar' : 'first user of the sidecar', { port: 'tunnel' }),
    ...(loopback ? [] : [pass('stays in the pod', { to: 'pod' })]),
    pass('sidecar goes out', { from: 'sidecar' }),
  ]
}

/**
 * A name server may be on loopback. So the second of the three is about TCP and leaves out port 53, and so does the first one of each user, but not that of
 * a group: port 53 of the pod itself is inbound for those who have the sidecar's group alone.
 */
function sidecarRulesWithDns(settings: Settings): Rule[] {
  const { loopback } = settings.includeOutbound
  return [
    callsItself('sidecar calls its own pod', settings, loopback ? 'users of the sidecar' : 'first user of the sidecar', { port: ['tunnel', 'DNS'] }),
    ...(loopback ? [] : [{ name: 'stays in the pod', when: { proto: 'tcp', to: 'pod' }, unless: { port: 'DNS' }, then: 'pass' } as const]),
    callsItself('group of the sidecar calls its own pod', settings, 'groups of the sidecar', { port: 'tunnel', from: 'users of the sidecar' }),
    pass('sidecar goes out', { from: 'sidecar' }),
  ]
}

function groupRules({ ownerGroups: { include, exclude } }: Settings): Rule[] {
  if (include === '*') return given(exclude, pass('excluded group', { from: 'excluded groups' }))
  return given(include, { name: 'not an included group', unless: { from: 'included groups' }, then: 'pass' })
}

/** Over UDP and TCP. */
function dnsRules({ dns }: Settings): Rule[] {
  if (dns === false) return []
  return given(dns === '*' ? ['*'] : dns, { name: 'DNS', when: { port: 'DNS', ...(dns === '*' ? {} : { to: 'name servers' }) }, then: 'dns' })
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
    ...families(settings),
    ...given(settings.excludeInterfaces, pass('excluded interface', { to: 'excluded interfaces' })),
    ...given(settings.excludeOutboundPorts, pass('excluded port', { port: 'excluded outbound ports' })),
    pass('sidecar hands over to the app', { from: 'passthrough', to: 'pod' }),
    ...sidecarRules(settings),
    ...(include.length === 0 ? [pass('no group is included', {})] : [...groupRules(settings), ...dnsRules(settings), ...destinationRules(settings)]),
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
    ...families(settings),
    ...given(excludeInterfaces, pass('excluded interface', { from: 'excluded interfaces' })),
    pass('tunnel', { port: 'tunnel' }),
    ...(includeInboundPorts.includes('*') ? all : listed),
  ]
}

/** Without networks and name servers of IPv6 where that is not captured. */
function ofCapturedFamilies(settings: Settings): Settings {
  const captured = (networks: readonly string[]) => networks.filter((network) => settings.ipv6 || !isIpv6(network))
  const { dns, includeOutbound, excludeOutboundCidrs } = settings
  return {
    ...settings,
    dns: typeof dns === 'object' ? captured(dns) : dns,
    includeOutbound: { ...includeOutbound, cidrs: captured(includeOutbound.cidrs) },
    excludeOutboundCidrs: captured(excludeOutboundCidrs),
  }
}

export function interceptionOf(all: Settings): Interception {
  const settings = ofCapturedFamilies(all)
  const { ownerGroups, includeOutbound, dns } = settings
  const [outbound, inbound] = [outboundRules(settings), inboundRules(settings)]
  const ids = (list: '*' | readonly IdSpec[]): readonly IdSpec[] => (list === '*' ? [] : list)
  const sets = {
    tunnel: { ports: [tunnelPort] },
    DNS: { ports: [dnsPort] },
    'name servers': { cidrs: typeof dns === 'object' ? dns : [] },
    localhost: { cidrs: [settings.loopbackCidr, ...(settings.ipv6 ? ['::1/128'] : [])] },
    sidecar: { uid: settings.proxyUid, gid: settings.proxyGid },
    'users of the sidecar': { uid: settings.proxyUid },
    'groups of the sidecar': { gid: settings.proxyGid },
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
  const targets = { outbound: { port: settings.proxyPort }, inbound: { port: settings.inboundPort }, dns: { port: settings.dnsPort } }
  const rules = [...outbound, ...inbound]
  return { sets: named(sets, rules), targets: named(targets, rules), outbound, inbound, ...(settings.ipv6 && { loopbackAddresses: ['::6'] }) }
}
