/**
 * The rules of the nat tables OUTPUT and PREROUTING that Kuma writes for a sidecar, in the order in which they end up, for both families or for IPv4.
 * A rule whose list is empty is left out.
 */
import type { Interception, Match, Rule, SetSpec } from '../../core/plugin.ts'
import { isIpv6 } from '../shared/networks.ts'
import { given, named, pass } from '../shared/rules.ts'
import { type Exclusion, joined } from './exclusions.ts'
import type { Settings } from './settings.ts'

/** More than a policy has room for. */
const most = { rules: 64, sets: 48 }

const families = ({ mode }: Settings): Rule[] => (mode === 'ipv4' ? [pass('IPv6 is not captured', { family: 'ipv6' })] : [])

const family4: Match = { family: 'ipv4' }
const family6: Match = { family: 'ipv6' }

/** Families in which DNS is captured; {}: in all that are. undefined: in none. Where only some servers are captured, and none of a family is known, Kuma has no rules for DNS in it. */
function dnsFamilies({ mode, dns: { servers } }: Settings): Match | undefined {
  if (servers === false) return undefined
  if (servers === '*') return {}
  const [four, six] = [servers.some((server) => !isIpv6(server)), servers.some(isIpv6)]
  if (four && (six || mode === 'ipv4')) return {}
  return four ? family4 : six ? family6 : undefined
}

/** Kuma's inbound port of IPv6 was another one once. */
function toInbound(rule: Omit<Rule, 'then'>, { mode, inbound: { port, port6 } }: Settings): Rule[] {
  if (mode === 'ipv4' || port === port6) return [{ ...rule, then: 'inbound' }]
  if (rule.when?.family !== undefined) return [{ ...rule, then: rule.when.family === 'ipv6' ? 'inbound of IPv6' : 'inbound' }]
  return [
    { ...rule, when: { ...rule.when, ...family4 }, then: 'inbound' },
    { ...rule, name: `${rule.name}, IPv6`, when: { ...rule.when, ...family6 }, then: 'inbound of IPv6' },
  ]
}

/** Before 2.14 the rules about loopback left out port 53 where DNS was captured: the families of that. */
const leftOutOfLoopback = (settings: Settings): Match | undefined => (settings.version === '2.14' ? undefined : dnsFamilies(settings))

function aroundLoopback(settings: Settings): Rule[] {
  const dns = leftOutOfLoopback(settings)
  const rules = (name: string, family: Match, unless: Match): Rule[] => [
    ...toInbound(
      {
        name: `sidecar calls its own pod${name}`,
        when: { proto: 'tcp', from: 'sidecar', to: 'pod', ...family },
        unless: { to: 'loopback', ...unless },
      },
      settings,
    ),
    pass(`stays in the pod${name}`, { proto: 'tcp', to: 'pod', ...family }, { from: 'sidecar', ...unless }),
  ]
  if (dns === undefined) return rules('', {}, {})
  const withDns = { port: 'DNS' }
  if (dns.family === undefined) return rules('', {}, withDns)
  return dns === family4
    ? [...rules('', family4, withDns), ...rules(', IPv6', family6, {})]
    : [...rules('', family4, {}), ...rules(', IPv6', family6, withDns)]
}

const toServers = ({ dns: { servers } }: Settings): Match => (servers === '*' ? {} : { to: 'name servers' })

/** Before 2.11 the sidecar took queries over TCP too. */
function dnsOverTcp(settings: Settings): Rule[] {
  if (dnsFamilies(settings) === undefined || !['2.9', '2.7'].includes(settings.version)) return []
  return [{ name: 'DNS over TCP', when: { proto: 'tcp', port: 'DNS', ...toServers(settings) }, then: 'dns' }]
}

/** The rules about loopback before have decided already where they do not leave out port 53. */
const toLocalhost = (settings: Settings): Rule[] =>
  leftOutOfLoopback(settings) === undefined ? [] : [pass('to localhost', { proto: 'tcp', to: 'loopback' })]

/** KUMA_MESH_OUTBOUND */
function chain(settings: Settings): Rule[] {
  const { includePorts, excludePorts } = settings.outbound
  return [
    ...given(includePorts.length > 0 ? [] : excludePorts, pass('excluded port', { proto: 'tcp', port: 'excluded outbound ports' })),
    pass('sidecar hands over to the app', { proto: 'tcp', from: 'passthrough', to: 'pod' }),
    ...aroundLoopback(settings),
    pass('sidecar goes out', { proto: 'tcp', from: 'sidecar' }),
    ...dnsOverTcp(settings),
    ...toLocalhost(settings),
    includePorts.length > 0
      ? { name: 'included port', when: { proto: 'tcp', port: 'included outbound ports' }, then: 'outbound' }
      : { name: 'everything else', when: { proto: 'tcp' }, then: 'outbound' },
  ]
}

/** DNS over UDP goes to the sidecar, and over TCP past it, unless the rule for it comes after all others. */
function dnsRules(settings: Settings): Rule[] {
  const where = dnsFamilies(settings)
  if (where === undefined) return []
  const past = ['2.14', '2.11'].includes(settings.version) && settings.outbound.enabled && !settings.outbound.insert
  return [
    pass('DNS of the sidecar', { proto: 'udp', port: 'DNS', from: 'sidecar' }),
    { name: 'DNS', when: { proto: 'udp', port: 'DNS', ...toServers(settings) }, then: 'dns' },
    ...(past ? [pass('DNS over TCP goes out', { proto: 'tcp', port: 'DNS', ...where }, { from: 'sidecar' })] : []),
  ]
}

/** Sets of one kind under one name each. */
function setsOf<T>(prefix: string, list: readonly (readonly T[])[], spec: (members: readonly T[]) => SetSpec) {
  const numbers = new Map<string, number>()
  for (const key of list.map((members) => JSON.stringify(members))) if (!numbers.has(key)) numbers.set(key, numbers.size + 1)
  const nameOf = (members: readonly T[]) => `${prefix} ${numbers.get(JSON.stringify(members))}`
  return { nameOf, sets: Object.fromEntries(list.map((members) => [nameOf(members), spec(members)])) }
}

/** Ports that some users reach past the sidecar. */
function exclusionsOf(exclusions: readonly Exclusion[]): { readonly rules: readonly Rule[]; readonly sets: Readonly<Record<string, SetSpec>> } {
  const ports = setsOf(
    'excluded ports',
    exclusions.map((each) => each.ports),
    (members) => ({ ports: members }),
  )
  const users = setsOf(
    'excluded users',
    exclusions.map((each) => each.uids),
    (members) => ({ uid: members }),
  )
  const rules = exclusions.map((each, index) =>
    pass(`ports excluded for users ${index + 1}`, {
      ...(each.protocols !== 'both' && { proto: each.protocols }),
      port: ports.nameOf(each.ports),
      from: users.nameOf(each.uids),
    }),
  )
  return { rules, sets: { ...ports.sets, ...users.sets } }
}

function inboundRules(settings: Settings): Rule[] {
  const { enabled, includePorts, excludePorts, excludeCidrs } = settings.inbound
  if (!enabled) return []
  const all = (name: string, when: Match) => toInbound({ name, when: { proto: 'tcp', ...when } }, settings)
  return [
    ...families(settings),
    ...given(excludeCidrs, pass('excluded source', { from: 'excluded sources' })),
    ...(includePorts.length > 0
      ? all('included port', { port: 'included inbound ports' })
      : [...given(excludePorts, pass('excluded port', { port: 'excluded inbound ports' })), ...all('everything else', {})]),
  ]
}

/** Without networks of IPv6 where that is not captured. */
function ofCapturedFamilies(settings: Settings): Settings {
  const captured = (networks: readonly string[]) => networks.filter((network) => settings.mode === 'dualstack' || !isIpv6(network))
  const { outbound, inbound } = settings
  return {
    ...settings,
    outbound: { ...outbound, excludeCidrs: captured(outbound.excludeCidrs) },
    inbound: { ...inbound, excludeCidrs: captured(inbound.excludeCidrs) },
  }
}

const tooMany = (count: number, rules: number, sets: number) =>
  `${count} rules of ports for users are left when those that differ in one respect are joined; with the others they need ${rules} rules and ${sets} sets of ports, users and networks, and at most ${most.rules} rules and ${most.sets} sets fit; give the same users the same ports`

/** A text: why they are more than fit. */
export function interceptionOf(all: Settings): Interception | string {
  const settings = ofCapturedFamilies(all)
  const { outbound, inbound, dns } = settings
  const left = joined(outbound.exclusions)
  const exclusions = exclusionsOf(left)
  const outboundRules = [
    ...families(settings),
    ...exclusions.rules,
    ...given(outbound.excludeCidrs, pass('excluded destination', { to: 'excluded destinations' })),
    ...dnsRules(settings),
    ...(outbound.enabled ? chain(settings) : []),
  ]
  const sets = {
    ...exclusions.sets,
    DNS: { ports: [53] },
    'name servers': { cidrs: typeof dns.servers === 'object' ? dns.servers : [] },
    sidecar: { uid: [settings.uid] },
    'excluded destinations': { cidrs: outbound.excludeCidrs },
    'excluded outbound ports': { ports: outbound.excludePorts },
    'included outbound ports': { ports: outbound.includePorts },
    'excluded sources': { cidrs: inbound.excludeCidrs },
    'excluded inbound ports': { ports: inbound.excludePorts },
    'included inbound ports': { ports: inbound.includePorts },
  }
  const targets = {
    outbound: { port: outbound.port },
    inbound: { port: inbound.port },
    'inbound of IPv6': { port: inbound.port6 },
    dns: { port: dns.port },
  }
  const inward = inboundRules(settings)
  const rules = [...outboundRules, ...inward]
  const used = named(sets, rules)
  if (outboundRules.length > most.rules || Object.keys(used).length > most.sets) {
    return tooMany(left.length, outboundRules.length, Object.keys(used).length)
  }
  return {
    sets: used,
    targets: named(targets, rules),
    outbound: outboundRules,
    inbound: inward,
    ...(settings.mode === 'dualstack' && { loopbackAddresses: ['::6'] }),
  }
}
