/** The rules of the chains PROXY_INIT_OUTPUT and PROXY_INIT_REDIRECT, in their order, for one family or for both. A rule whose list is empty is left out. */
import type { Interception, Match, Rule } from '../../core/plugin.ts'
import { named, pass } from '../shared/rules.ts'
import type { Options } from './options.ts'
import type { Settings } from './settings.ts'

const given = (there: boolean, rule: Rule): Rule[] => (there ? [rule] : [])

/** Where Linkerd has no rules for IPv6. */
const families = ({ ipv6 }: Settings): Rule[] => given(!ipv6, pass('IPv6 is not captured', { family: 'ipv6' }))

/** Captured inbound: all ports, or those that are listed. */
const captured = ({ portsToRedirect }: Settings): Match => ({ proto: 'tcp', ...(portsToRedirect.length > 0 && { port: 'listed ports' }) })

/** Before 2.11: what the proxy calls in its own pod goes through the chain for inbound connections. */
const callsItself = (settings: Settings): Rule => ({
  name: 'proxy calls its own pod',
  when: { ...captured(settings), from: 'user of the proxy', to: 'pod' },
  unless: { to: 'loopback', ...(settings.skipInboundPorts.length > 0 && { port: 'skipped inbound ports' }) },
  then: 'inbound',
})

function outboundRules(settings: Settings, { version }: Options): Rule[] {
  const { proxyUid, proxyGid, skipOutboundPorts } = settings
  return [
    ...families(settings),
    ...given(version === '2.10' && proxyUid > 0, callsItself(settings)),
    ...given(proxyUid > 0, pass('user of the proxy', { from: 'user of the proxy' })),
    ...given(proxyGid > 0, pass('group of the proxy', { from: 'group of the proxy' })),
    pass('stays in the pod', { to: 'pod' }),
    ...given(skipOutboundPorts.length > 0, pass('skipped port', { proto: 'tcp', port: 'skipped outbound ports' })),
    { name: 'everything else', when: { proto: 'tcp' }, then: 'outbound' },
  ]
}

function inboundRules(settings: Settings): Rule[] {
  const { skipInboundPorts, skipSubnets, portsToRedirect } = settings
  return [
    ...families(settings),
    ...given(skipInboundPorts.length > 0, pass('skipped port', { proto: 'tcp', port: 'skipped inbound ports' })),
    ...given(skipSubnets.length > 0, pass('skipped subnet', { from: 'skipped subnets' })),
    { name: portsToRedirect.length > 0 ? 'listed port' : 'everything else', when: captured(settings), then: 'inbound' },
  ]
}

export function interceptionOf(settings: Settings, options: Options): Interception {
  const [outbound, inbound] = [outboundRules(settings, options), inboundRules(settings)]
  const sets = {
    'user of the proxy': { uid: [settings.proxyUid] },
    'group of the proxy': { gid: [settings.proxyGid] },
    'skipped outbound ports': { ports: settings.skipOutboundPorts },
    'skipped inbound ports': { ports: settings.skipInboundPorts },
    'listed ports': { ports: settings.portsToRedirect },
    'skipped subnets': { cidrs: settings.skipSubnets },
  }
  const targets = { outbound: { port: settings.outboundPort }, inbound: { port: settings.inboundPort } }
  return { sets: named(sets, [...outbound, ...inbound]), targets, outbound, inbound }
}
