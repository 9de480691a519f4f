/** The rules that Linkerd's program for iptables writes into a pod, rule by rule and in the same order, for both families. A pure function of what it is told. */
import type { RuleFiles } from '../../lab/restore.ts'

export interface LinkerdRules {
  readonly inboundPort: number
  readonly outboundPort: number
  /** 0 and less: no rule. */
  readonly proxyUid: number
  readonly proxyGid: number
  /** As the program is told: '80' or '80-90', both inclusive; what it cannot read is gone already. */
  readonly inboundIgnored: readonly string[]
  readonly outboundIgnored: readonly string[]
  /** Sources */
  readonly subnets: readonly string[]
  /** Empty: all of them (redirect-all); else these alone (redirect-listed). */
  readonly redirected: readonly number[]
  readonly ipv6: boolean
  /** Before 2.11: what the proxy calls in its own pod goes through the inbound chain. */
  readonly old: boolean
}

/** What the chart's defaults come to. */
export const linkerdDefaults: LinkerdRules = {
  inboundPort: 4143,
  outboundPort: 4140,
  proxyUid: 2102,
  proxyGid: -1,
  inboundIgnored: ['4190', '4191', '4567', '4568'],
  outboundIgnored: ['4567', '4568'],
  subnets: [],
  redirected: [],
  ipv6: false,
  old: false,
}

/** As many ports as one rule of multiport holds; a range counts twice. */
const mostPorts = 15

/** '80-90' is '80:90' to iptables; a range of one port is that port. */
function destination(range: string): string {
  const [low = '', high = low] = range.split('-')
  return low === high ? low : `${low}:${high}`
}

/** The ports in as many rules as they need. */
function chunks(ranges: readonly string[]): readonly string[] {
  const made: { texts: string[]; count: number }[] = []
  for (const text of ranges.map(destination)) {
    const count = text.includes(':') ? 2 : 1
    const last = made.at(-1)
    if (last === undefined || last.count + count > mostPorts) made.push({ texts: [text], count })
    else {
      last.texts.push(text)
      last.count += count
    }
  }
  return made.map(({ texts }) => texts.join(','))
}

const comment = (text: string) => `-m comment --comment "proxy-init/${text}"`

const ignoredPorts = (chain: string, ranges: readonly string[]) =>
  chunks(ranges).map((ports) => `-A ${chain} -p tcp -m multiport --dports ${ports} -j RETURN ${comment(`ignore-port-${ports}`)}`)

function inbound({ inboundIgnored, subnets, redirected, inboundPort }: LinkerdRules, ofFamily: (network: string) => boolean): string[] {
  const chain = 'PROXY_INIT_REDIRECT'
  const to = `-j REDIRECT --to-ports ${inboundPort}`
  return [
    ...ignoredPorts(chain, inboundIgnored),
    ...subnets.filter(ofFamily).map((subnet) => `-A ${chain} -p all -s ${subnet} -j RETURN ${comment(`ignore-subnet-${subnet}`)}`),
    ...(redirected.length === 0
      ? [`-A ${chain} -p tcp ${to} ${comment('redirect-all-incoming-to-proxy-port')}`]
      : redirected.map((port) => `-A ${chain} -p tcp --dport ${port} ${to} ${comment(`redirect-port-${port}-to-proxy-port`)}`)),
    `-A PREROUTING -j ${chain} ${comment('install-proxy-init-prerouting')}`,
  ]
}

function outbound({ proxyUid, proxyGid, outboundIgnored, outboundPort, old }: LinkerdRules): string[] {
  const chain = 'PROXY_INIT_OUTPUT'
  return [
    ...(old && proxyUid > 0
      ? [
          `-A ${chain} -o lo ! -d 127.0.0.1/32 -m owner --uid-owner ${proxyUid} -j PROXY_INIT_REDIRECT ${comment('redirect-non-loopback-local-traffic')}`,
        ]
      : []),
    ...(proxyUid > 0 ? [`-A ${chain} -m owner --uid-owner ${proxyUid} -j RETURN ${comment('ignore-proxy-user-id')}`] : []),
    ...(proxyGid > 0 ? [`-A ${chain} -m owner --gid-owner ${proxyGid} -j RETURN ${comment('ignore-proxy-group-id')}`] : []),
    `-A ${chain} -o lo -j RETURN ${comment('ignore-loopback')}`,
    ...ignoredPorts(chain, outboundIgnored),
    `-A ${chain} -p tcp -j REDIRECT --to-ports ${outboundPort} ${comment('redirect-all-outgoing-to-proxy-port')}`,
    `-A OUTPUT -j ${chain} ${comment('install-proxy-init-output')}`,
  ]
}

const table = (rules: readonly string[]) => ['*nat', '-N PROXY_INIT_REDIRECT', '-N PROXY_INIT_OUTPUT', ...rules, 'COMMIT', ''].join('\n')

export function linkerdTables(rules: LinkerdRules): RuleFiles {
  const of = (six: boolean) => table([...inbound(rules, (network) => network.includes(':') === six), ...outbound(rules)])
  return { v4: of(false), ...(rules.ipv6 && { v6: of(true) }), loopbackAddresses: [] }
}
