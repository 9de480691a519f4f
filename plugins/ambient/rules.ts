/**
 * The rules of the nat tables OUTPUT and PREROUTING that istio-cni writes for a pod of ambient, in their order, for one family or for both. ztunnel is
 * known by the mark of its sockets; users and groups do not matter.
 */
import type { Interception, Rule } from '../../core/plugin.ts'
import { pass } from '../shared/rules.ts'
import type { Settings } from './settings.ts'

/** On every socket that ztunnel opens in a pod. */
export const ztunnelMark = 0x539
/** What answers to ztunnel carry under Istio's own rules. */
const returnMark = 0x111
const markMask = 0xfff

/** Where Istio has no rules for IPv6. */
const families = ({ ipv6 }: Settings): Rule[] => (ipv6 ? [] : [pass('IPv6 is not captured', { family: 'ipv6' })])

/** A name server of the pod itself gets its queries over UDP, but over TCP only at 127.0.0.1 and ::1: Istio's two rules differ in that. */
function dnsRules({ dns }: Settings): Rule[] {
  if (!dns) return []
  return [
    { name: 'DNS over UDP', when: { proto: 'udp', port: 'DNS' }, unless: { to: 'pod', from: 'ztunnel' }, then: 'dns' },
    { name: 'DNS over TCP', when: { proto: 'tcp', port: 'DNS' }, unless: { to: 'loopback', from: 'ztunnel' }, then: 'dns' },
  ]
}

const outboundRules = (settings: Settings): Rule[] => [
  ...families(settings),
  pass('to the source of probes', { proto: 'tcp', to: 'source of probes' }),
  ...dnsRules(settings),
  pass('on its way back', { proto: 'tcp', from: 'return path' }),
  pass('stays in the pod', { to: 'pod' }, { to: 'loopback' }),
  { name: 'everything else', when: { proto: 'tcp' }, unless: { to: 'loopback', from: 'ztunnel' }, then: 'outbound' },
]

function inboundRules(settings: Settings): Rule[] {
  if (!settings.inbound) return []
  return [
    ...families(settings),
    pass('probe of the node', { proto: 'tcp', from: 'source of probes' }),
    { name: 'everything else', when: { proto: 'tcp' }, unless: { to: 'loopback', port: 'tunnel' }, then: 'inbound' },
  ]
}

export function interceptionOf(settings: Settings): Interception {
  const { dns, inbound, probes } = settings
  return {
    sets: {
      ztunnel: { mark: [{ value: ztunnelMark, mask: markMask }] },
      'return path': { mark: [{ value: returnMark, mask: markMask }] },
      'source of probes': { cidrs: probes },
      ...(dns && { DNS: { ports: [53] } }),
      ...(inbound && { tunnel: { ports: [15008] } }),
    },
    targets: { outbound: { port: 15001 }, ...(inbound && { inbound: { port: 15006 } }), ...(dns && { dns: { port: 15053 } }) },
    outbound: outboundRules(settings),
    inbound: inboundRules(settings),
    proxy: { uid: 0, gid: 1337, mark: ztunnelMark },
  }
}
