/** The settings that the arguments of linkerd-init give: they leave nothing to annotations and options. */
import type { Kit, PortSpec } from '../../core/plugin.ts'
import { unexpected } from '../shared/text.ts'
import { type InitArguments, readArguments } from './args.ts'
import type { Complaints } from './complaints.ts'
import type { Options } from './options.ts'
import type { Settings } from './settings.ts'
import { integer, listenPort, owner, subnets } from './values.ts'

const nothing: InitArguments = { numbers: new Map(), lists: new Map(), truths: new Map() }

const title = (name: string): string => `argument --${name} of linkerd-init`

const anyPort = (text: string): number => {
  const port = integer(text) ?? Number.NaN
  if (port >= 0 && port <= 65535) return port
  throw unexpected('ports from 0 to 65535', text, text)
}

export function readFlags(args: readonly string[], options: Options, complaints: Complaints, kit: Kit): Settings {
  const failed = complaints.refused.length
  const { numbers, lists, truths } = complaints.read('arguments of linkerd-init', args, (all) => readArguments(all, kit), nothing)
  const complete = complaints.refused.length === failed
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
    ipv6: options.version === 'current' && (truths.get('ipv6') ?? true),
    simulated: truths.get('simulate') ?? false,
  }
}
