/** The rules that OSM, osm-edge and FSM write into a pod, line by line and in the order in which they write them; all are of IPv4. */
import type { RuleFiles } from '../../lab/restore.ts'

export interface OsmRules {
  /** Begins the names of the chains. */
  readonly chains: 'OSM' | 'FSM'
  readonly uid: number
  readonly outboundPort: number
  readonly inboundPort: number
  /** PodIP: what the sidecar connects to localhost goes to this address. */
  readonly podIp: string | false
  /** The rule of osm-edge for 127.0.0.153 */
  readonly dns: boolean
  readonly interfaces: readonly string[]
  readonly inboundPortExclusions: readonly number[]
  readonly outboundPortExclusions: readonly number[]
  readonly rangeExclusions: readonly string[]
  /** Empty: everything is included. */
  readonly rangeInclusions: readonly string[]
  /** The sidecar's own, for metrics and probes */
  readonly ownPorts: readonly number[]
}

export const osmDefaults: OsmRules = {
  chains: 'OSM',
  uid: 1500,
  outboundPort: 15001,
  inboundPort: 15003,
  podIp: false,
  dns: false,
  interfaces: [],
  inboundPortExclusions: [],
  outboundPortExclusions: [],
  rangeExclusions: [],
  rangeInclusions: [],
  ownPorts: [15010, 15901, 15902, 15903, 15904],
}

/** The mesh writes one rule for all ports, and iptables takes 15 in one; with more the pod does not start. Here the rest gets rules of its own. */
function multiport(add: string, ports: readonly number[]): string[] {
  const parts = Array.from({ length: Math.ceil(ports.length / 15) }, (_, part) => ports.slice(part * 15, part * 15 + 15))
  return parts.map((part) => `${add} -p tcp --match multiport --dports ${part.join(',')} -j RETURN`)
}

function inbound(rules: OsmRules, chain: string): string[] {
  return [
    `-A ${chain}_IN_REDIRECT -p tcp -j REDIRECT --to-port ${rules.inboundPort}`,
    `-A PREROUTING -p tcp -j ${chain}_INBOUND`,
    ...rules.ownPorts.map((port) => `-A ${chain}_INBOUND -p tcp --dport ${port} -j RETURN`),
    `-A ${chain}_INBOUND -p tcp -j ${chain}_IN_REDIRECT`,
    ...rules.interfaces.map((each) => `-I ${chain}_INBOUND -i ${each} -j RETURN`),
    ...multiport(`-I ${chain}_INBOUND`, rules.inboundPortExclusions),
  ]
}

function outbound(rules: OsmRules, chain: string): string[] {
  const { uid, podIp } = rules
  return [
    `-A ${chain}_OUT_REDIRECT -p tcp -j REDIRECT --to-port ${rules.outboundPort}`,
    `-A ${chain}_OUT_REDIRECT -p tcp --dport 15000 -j ACCEPT`,
    `-A OUTPUT -p tcp -j ${chain}_OUTBOUND`,
    `-A ${chain}_OUTBOUND -o lo ! -d 127.0.0.1/32 -m owner --uid-owner ${uid} -j ${chain}_IN_REDIRECT`,
    `-A ${chain}_OUTBOUND -o lo -m owner ! --uid-owner ${uid} -j RETURN`,
    `-A ${chain}_OUTBOUND -m owner --uid-owner ${uid} -j RETURN`,
    `-A ${chain}_OUTBOUND -d 127.0.0.1/32 -j RETURN`,
    ...(podIp === false ? [] : [`-I OUTPUT -p tcp -o lo -d 127.0.0.1/32 -m owner --uid-owner ${uid} -j DNAT --to-destination ${podIp}`]),
    ...(rules.dns ? ['-A OUTPUT -p udp -d 127.0.0.153 --dport 53 -j DNAT --to-destination 127.0.0.153:5300'] : []),
    ...rules.interfaces.map((each) => `-A ${chain}_OUTBOUND -o ${each} -j RETURN`),
    ...rules.rangeExclusions.map((each) => `-A ${chain}_OUTBOUND -d ${each} -j RETURN`),
    ...multiport(`-A ${chain}_OUTBOUND`, rules.outboundPortExclusions),
    ...rules.rangeInclusions.map((each) => `-A ${chain}_OUTBOUND -d ${each} -j ${chain}_OUT_REDIRECT`),
    `-A ${chain}_OUTBOUND -j ${rules.rangeInclusions.length === 0 ? `${chain}_OUT_REDIRECT` : 'RETURN'}`,
  ]
}

/** Input of iptables-restore. */
export function osmTable(rules: OsmRules): string {
  const chain = `${rules.chains}_PROXY`
  const names = ['INBOUND', 'IN_REDIRECT', 'OUTBOUND', 'OUT_REDIRECT'].map((name) => `:${chain}_${name} - [0:0]`)
  return ['*nat', ...names, ...inbound(rules, chain), ...outbound(rules, chain), 'COMMIT', ''].join('\n')
}

export const osmTables = (rules: OsmRules): RuleFiles => ({ v4: osmTable(rules), loopbackAddresses: [] })

/** The argument of the container that writes the rules, a script of the shell; the pod's address is a variable there. */
export function osmScript(rules: OsmRules): string {
  const table = osmTable({ ...rules, podIp: rules.podIp === false ? false : '$POD_IP' }).trimEnd()
  return `iptables-restore --noflush <<EOF\n# ${rules.chains} sidecar interception rules\n${table}\nEOF\n`
}
