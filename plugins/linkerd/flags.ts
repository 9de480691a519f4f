/** The settings that the arguments of linkerd-init give: they leave nothing to annotations and options. */
import type { Kit, Pod, PortSpec } from '../../core/plugin.ts'
import { unexpected } from '../shared/text.ts'
import { type InitArguments, readArguments } from './args.ts'
import type { Complaints } from './complaints.ts'
import { proxyOf } from './pods.ts'
import type { Settings } from './settings.ts'
import { integer, listenPort, owner, subnets } from './values.ts'

const nothing: InitArguments = { numbers: new Map(), lists: new Map(), truths: new Map(), help: false }

const title = (name: string): string => `argument --${name} of linkerd-init`

const anyPort = (text: string): number => {
  const port = integer(text) ?? Number.NaN
  if (port >= 0 && port <= 65535) return port
  throw unexpected('ports from 0 to 65535', text, text)
}

/** Before 2.16 there was no such flag, and no rule for IPv6; the proxy of that time has one address to listen on, and not a list of them. */
function ipv6Of(truths: InitArguments['truths'], pod: Pod): boolean {
  const env = proxyOf(pod)?.env ?? {}
  const before = env.LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR !== undefined && env.LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS === undefined
  return truths.get('ipv6') ?? !before
}

export function readFlags(pod: Pod, args: readonly string[], complaints: Complaints, kit: Kit): Settings {
  const failed = complaints.refused.length
  const { numbers, lists, truths, help } = complaints.read('arguments of linkerd-init', args, (all) => readArguments(all, kit), nothing)
  const complete = complaints.refused.length === failed && !help
  const list = (name: string) => lists.get(name) ?? []
  /** Without the argument linkerd-init has -1: no port, and no owner. */
  const number = (name: string, read: (text: string) => number) =>
    complete ? complaints.read(title(name), String(numbers.get(name) ?? -1), read, -1) : -1
  const ports = (name: string): readonly PortSpec[] => complaints.ports(title(name), list(name))
  return {
    inboundPort: number('incoming-proxy-port', listenPort),
    outboundPort: number('outgoing-proxy-port', listenPort),
    proxyUid: number('proxy-uid', owner),
    proxyGid: number('proxy-gid', owner),
    skipInboundPorts: ports('inbound-ports-to-ignore'),
    skipOutboundPorts: ports('outbound-ports-to-ignore'),
    skipSubnets: complaints.read(title('subnets-to-ignore'), list('subnets-to-ignore'), subnets, []),
    portsToRedirect: complaints.read(title('ports-to-redirect'), list('ports-to-redirect'), (all) => all.map(anyPort), []),
    ipv6: ipv6Of(truths, pod),
    nothing: help ? '-h or --help' : truths.get('simulate') ? '--simulate' : undefined,
  }
}
