/**
 * The rules of the nat tables OUTPUT and PREROUTING that the mesh writes for a sidecar, in their effective order. They are of IPv4 alone. A rule whose list
 * is empty is left out, and so are two that decide nothing: 127.0.0.1 is always local, and the exception for port 15000 stands behind a rule that takes everything.
 */
import type { Interception, Rule, TargetSpec } from '../../core/plugin.ts'
import { given, named, pass } from '../shared/rules.ts'
import type { Settings } from './settings.ts'

const dnsServer = '127.0.0.153'

const noIpv6 = pass('IPv6 is not captured', { family: 'ipv6' })

/** What stands in OUTPUT itself. */
function translations({ podIp, dns }: Settings): Rule[] {
  return [
    ...(podIp === undefined
      ? []
      : [{ name: 'sidecar calls localhost', when: { proto: 'tcp', from: 'sidecar', to: ['pod', 'loopback'] }, then: 'app' } as const]),
    ...(dns ? [{ name: 'DNS', when: { proto: 'udp', to: 'DNS proxy', port: 'DNS' }, then: 'dns' } as const] : []),
  ]
}

/** Which of the lists excludes a connection decides nothing, so their order does not matter either. */
function exclusions({ outboundInterfaces, excludedNetworks, excludedOutboundPorts }: Settings): Rule[] {
  return [
    ...given(outboundInterfaces, pass('excluded interface', { to: 'excluded interfaces' })),
    ...given(excludedNetworks, pass('excluded destination', { to: 'excluded destinations' })),
    ...given(excludedOutboundPorts, pass('excluded port', { port: 'excluded outbound ports' })),
  ]
}

function inclusion({ includedNetworks }: Settings): Rule[] {
  if (includedNetworks === '*') return [{ name: 'everything else', when: { proto: 'tcp' }, then: 'outbound' }]
  return given(includedNetworks, { name: 'included destination', when: { proto: 'tcp', to: 'included destinations' }, then: 'outbound' })
}

const outboundRules = (settings: Settings): Rule[] => [
  noIpv6,
  ...translations(settings),
  { name: 'sidecar calls its own pod', when: { proto: 'tcp', from: 'sidecar', to: 'pod' }, unless: { to: 'loopback' }, then: 'inbound' },
  pass('stays in the pod', { to: 'pod' }),
  pass('sidecar goes out', { from: 'sidecar' }),
  ...exclusions(settings),
  ...inclusion(settings),
]

const inboundRules = ({ excludedInboundPorts, inboundInterfaces, ownPorts }: Settings): Rule[] => [
  noIpv6,
  ...given(excludedInboundPorts, pass('excluded port', { port: 'excluded inbound ports' })),
  ...given(inboundInterfaces, pass('excluded interface', { from: 'excluded inbound interfaces' })),
  ...given(ownPorts, pass('port of the sidecar', { port: 'ports of the sidecar' })),
  { name: 'everything else', when: { proto: 'tcp' }, then: 'inbound' },
]

export function interceptionOf(settings: Settings): Interception {
  const [outbound, inbound] = [outboundRules(settings), inboundRules(settings)]
  const { includedNetworks, podIp = false } = settings
  const sets = {
    sidecar: { uid: [settings.proxyUid] },
    'DNS proxy': { cidrs: [dnsServer] },
    DNS: { ports: [53] },
    'excluded interfaces': { interfaces: settings.outboundInterfaces },
    'excluded destinations': { cidrs: settings.excludedNetworks },
    'excluded outbound ports': { ports: settings.excludedOutboundPorts },
    'included destinations': { cidrs: includedNetworks === '*' ? [] : includedNetworks },
    'excluded inbound ports': { ports: settings.excludedInboundPorts },
    'excluded inbound interfaces': { interfaces: settings.inboundInterfaces },
    'ports of the sidecar': { ports: settings.ownPorts },
  }
  const targets: Readonly<Record<string, TargetSpec>> = {
    outbound: { port: settings.proxyPort, ipv6: false },
    inbound: { port: settings.inboundPort, ipv6: false },
    app: { ipv4: podIp, ipv6: false },
    dns: { ipv4: dnsServer, port: 5300, ipv6: false },
  }
  const rules = [...outbound, ...inbound]
  return { sets: named(sets, rules), targets: named(targets, rules), outbound, inbound, proxy: { uid: settings.proxyUid } }
}
