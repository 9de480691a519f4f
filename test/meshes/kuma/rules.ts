/** Kuma's rules in full, as kumactl writes them, rule by rule and in the order in which they end up: to compare with, in a pod of the same shape. */
import type { RuleFiles } from '../../lab/restore.ts'

export type Version = '2.14' | '2.11' | '2.9' | '2.7'

/** One rule of iptables for users and ports; both as iptables has them. */
export interface UserRule {
  readonly protocol: 'tcp' | 'udp'
  /** 22,3000:5000 */
  readonly ports: string
  /** 1000 or 1000:1999 */
  readonly uids: string
}

interface Flow {
  readonly enabled: boolean
  readonly port: number
  readonly include: readonly number[]
  readonly exclude: readonly number[]
  /** Destinations of outbound, sources of inbound connections, of both families */
  readonly ips: readonly string[]
}

export interface KumaRules {
  readonly version: Version
  readonly uid: number
  /** There are rules for IPv6, and ::6 on lo. */
  readonly ipv6: boolean
  readonly outbound: Flow & { readonly users: readonly UserRule[]; readonly insert: boolean }
  /** `open`: rules for users, of which Kuma makes rules without a condition */
  readonly inbound: Flow & { readonly port6: number; readonly open: number }
  readonly dns: { readonly port: number; readonly servers: 'none' | 'all' | readonly string[] }
  readonly dropInvalid: boolean
}

export type Family = 'ipv4' | 'ipv6'

export const ofFamily = (family: Family, addresses: readonly string[]) => addresses.filter((each) => each.includes(':') === (family === 'ipv6'))

/** Servers whose queries are taken; '*': all. Without any of the family it has no rules for DNS. */
export function serversOf({ dns: { servers } }: KumaRules, family: Family): '*' | readonly string[] {
  if (servers === 'none') return []
  return servers === 'all' ? '*' : ofFamily(family, servers)
}

const localhosts = { ipv4: '127.0.0.1/32', ipv6: '::1/128' } as const
const passthroughs = { ipv4: '127.0.0.6/32', ipv6: '::6/128' } as const

/** Before 2.11 queries over TCP were taken too; then they are left alone. */
export const isOld = ({ version }: Pick<KumaRules, 'version'>) => version === '2.9' || version === '2.7'

function outputRules(rules: KumaRules, family: Family): string[] {
  const { uid, outbound, dns } = rules
  const servers = serversOf(rules, family)
  const captured = servers === '*' || servers.length > 0
  const toServers = servers === '*' ? [''] : servers.map((server) => ` -d ${server}`)
  const enter = '-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND'
  const past = captured && !isOld(rules) ? [`-A OUTPUT -p tcp --dport 53 -m owner ! --uid-owner ${uid} -j RETURN`] : []
  return [
    ...outbound.users.map(
      ({ protocol, ports, uids }) => `-A OUTPUT -p ${protocol} -m multiport --dports ${ports} -m owner --uid-owner ${uids} -j RETURN`,
    ),
    ...ofFamily(family, outbound.ips).map((each) => `-A OUTPUT -d ${each} -j RETURN`),
    ...(captured ? [`-A OUTPUT -p udp --dport 53 -m owner --uid-owner ${uid} -j RETURN`] : []),
    ...toServers.map((to) => `-A OUTPUT${to} -p udp --dport 53 -j REDIRECT --to-ports ${dns.port}`),
    ...(outbound.insert ? [enter, ...past] : [...past, enter]),
  ]
}

function outboundChain(rules: KumaRules, family: Family): string[] {
  const { uid, outbound, dns, version } = rules
  if (!outbound.enabled) return ['-p tcp -j RETURN']
  const servers = serversOf(rules, family)
  const captured = servers === '*' || servers.length > 0
  const notDns = captured && version !== '2.14' ? ' ! --dport 53' : ''
  const toServers = servers === '*' ? [''] : servers.map((server) => `-d ${server} `)
  return [
    ...(outbound.include.length > 0 ? [] : outbound.exclude.map((port) => `-p tcp --dport ${port} -j RETURN`)),
    `-s ${passthroughs[family]} -o lo -j RETURN`,
    `-p tcp${notDns} -o lo ! -d ${localhosts[family]} -m owner --uid-owner ${uid} -j KUMA_MESH_INBOUND_REDIRECT`,
    `-p tcp${notDns} -o lo -m owner ! --uid-owner ${uid} -j RETURN`,
    `-m owner --uid-owner ${uid} -j RETURN`,
    ...(isOld(rules) ? toServers.map((to) => `${to}-p tcp --dport 53 -j REDIRECT --to-ports ${dns.port}`) : []),
    `-d ${localhosts[family]} -j RETURN`,
    ...outbound.include.map((port) => `-p tcp --dport ${port} -j KUMA_MESH_OUTBOUND_REDIRECT`),
    ...(outbound.include.length > 0 ? [] : ['-j KUMA_MESH_OUTBOUND_REDIRECT']),
  ]
}

function inboundChain({ inbound }: KumaRules, family: Family): string[] {
  if (!inbound.enabled) return ['-p tcp -j RETURN']
  return [
    ...Array<string>(inbound.open).fill('-j RETURN'),
    ...ofFamily(family, inbound.ips).map((each) => `-s ${each} -j RETURN`),
    ...inbound.include.map((port) => `-p tcp --dport ${port} -j KUMA_MESH_INBOUND_REDIRECT`),
    ...(inbound.include.length > 0
      ? []
      : [...inbound.exclude.map((port) => `-p tcp --dport ${port} -j RETURN`), '-p tcp -j KUMA_MESH_INBOUND_REDIRECT']),
  ]
}

function natTable(rules: KumaRules, family: Family): string {
  const { inbound, outbound } = rules
  const chain = (name: string, list: readonly string[]) => list.map((rule) => `-A ${name} ${rule}`)
  return [
    '*nat',
    ...['INBOUND', 'OUTBOUND', 'INBOUND_REDIRECT', 'OUTBOUND_REDIRECT'].map((name) => `-N KUMA_MESH_${name}`),
    '-A PREROUTING -p tcp -j KUMA_MESH_INBOUND',
    ...outputRules(rules, family),
    ...chain('KUMA_MESH_INBOUND', inboundChain(rules, family)),
    ...chain('KUMA_MESH_OUTBOUND', outboundChain(rules, family)),
    `-A KUMA_MESH_INBOUND_REDIRECT -p tcp -j REDIRECT --to-ports ${family === 'ipv6' ? inbound.port6 : inbound.port}`,
    `-A KUMA_MESH_OUTBOUND_REDIRECT -p tcp -j REDIRECT --to-ports ${outbound.port}`,
    'COMMIT',
    '',
  ].join('\n')
}

/** Connection tracking in two zones: 1 for what the sidecar asks the name servers, 2 for what the apps ask the sidecar. */
function rawTable(rules: KumaRules, family: Family): string {
  const { uid, dns } = rules
  const servers = serversOf(rules, family)
  if (servers.length === 0) return ''
  const each = servers === '*' ? [''] : servers
  return [
    '*raw',
    `-A OUTPUT -p udp --dport 53 -m owner --uid-owner ${uid} -j CT --zone 1`,
    `-A OUTPUT -p udp --sport ${dns.port} -m owner --uid-owner ${uid} -j CT --zone 2`,
    ...each.map((server) => `-A OUTPUT -p udp --dport 53${server && ` -d ${server}`} -j CT --zone 2`),
    ...each.map((server) => `-A PREROUTING -p udp --sport 53${server && ` -s ${server}`} -j CT --zone 1`),
    'COMMIT',
    '',
  ].join('\n')
}

const mangleTable = ({ dropInvalid }: KumaRules) => (dropInvalid ? '*mangle\n-A PREROUTING -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n' : '')

const tablesOf = (rules: KumaRules, family: Family) => [rawTable(rules, family), mangleTable(rules), natTable(rules, family)].join('')

export function kumaTables(rules: KumaRules): RuleFiles {
  const v4 = tablesOf(rules, 'ipv4')
  return rules.ipv6 ? { v4, v6: tablesOf(rules, 'ipv6'), loopbackAddresses: ['::6'] } : { v4, loopbackAddresses: [] }
}
