/**
 * Policies of growing size, as rules of a plugin and as iptables rules: so many CIDRs in one set, or so many rules. All of a connection's rules are asked, and
 * the last one sends it to the proxy. The CIDRs are spread evenly over a network in which the destination is too, so that its way through the trie is long.
 */
import type { Interception } from '../core/plugin.ts'
import type { RuleFiles } from '../test/lab/istio-iptables.ts'

export type Kind = 'CIDRs' | 'rules'

export interface Point {
  readonly kind: Kind
  readonly size: number
}

export const SIZES: Readonly<Record<Kind, readonly number[]>> = { CIDRs: [1, 10, 100, 1_000, 10_000], rules: [1, 15, 30, 60] }

export const POINTS: readonly Point[] = (Object.keys(SIZES) as Kind[]).flatMap((kind) => SIZES[kind].map((size) => ({ kind, size })))

export const nameOf = ({ kind, size }: Point): string => `${kind.toLowerCase()}-${size}`

export const PROXY_PORT = 15001

/** Networks have numbers of this many bits. */
const BITS = 21
const DESTINATION = 1_500_000

/** A permutation of the numbers, so that no network comes twice. */
const place = (number: number) => (Math.imul(number + 1, 0x9e3779b1) >>> (32 - BITS)) ^ 0x0a5a5a

/** Between 64.0.0.0 and 95.255.255.0 */
const network4 = (at: number) => `${64 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}.0`
const network6 = (at: number) => `fd00:${(at >> 5).toString(16)}:${((at & 31) << 11).toString(16)}::`

/** In none of the networks. */
export const destination4 = network4(place(DESTINATION)).replace(/0$/, '1')
export const destination6 = `${network6(place(DESTINATION))}1`

const cidrs4 = (count: number) => Array.from({ length: count }, (_, number) => `${network4(place(number))}/24`)
const cidrs6 = (count: number) => Array.from({ length: count }, (_, number) => `${network6(place(number))}/48`)

/** Nodes of a trie with so many networks that a lookup of the destination passes: one at each length where the way of a network leaves its own. */
export function nodes(count: number): number {
  const shared = (number: number) => Math.clz32(place(number) ^ place(DESTINATION))
  return new Set(Array.from({ length: count }, (_, number) => shared(number))).size
}

/** Ports and networks of which the rules name all pairs. */
const SIDE = 8
const port = (rule: number) => 20_000 + (rule % SIDE)
const network = (rule: number) => Math.floor(rule / SIDE)
const numbers = (count: number) => Array.from({ length: count }, (_, number) => number)

export function interception({ kind, size }: Point): Interception {
  const proxy = { name: 'everything else', when: { proto: 'tcp' }, then: 'proxy' } as const
  const targets = { proxy: { port: PROXY_PORT } }
  if (kind === 'CIDRs') {
    const listed = { name: 'listed', when: { to: 'listed' }, then: 'pass' } as const
    return { sets: { listed: { cidrs: [...cidrs4(size), ...cidrs6(size)] } }, targets, outbound: [listed, proxy], inbound: [] }
  }
  // All sets are there whatever the number of rules is, so that only the rules make a difference.
  const sets = Object.fromEntries(
    numbers(SIDE).flatMap((each) => [
      [`ports ${each}`, { ports: [port(each)] }],
      [`networks ${each}`, { cidrs: [cidrs4(SIDE)[each] ?? '', cidrs6(SIDE)[each] ?? ''] }],
    ]),
  )
  const rules = numbers(size - 1).map((rule) => ({
    name: `pair ${rule}`,
    when: { proto: 'tcp', port: `ports ${rule % SIDE}`, to: `networks ${network(rule)}` } as const,
    then: 'pass',
  }))
  return { sets, targets, outbound: [...rules, proxy], inbound: [] }
}

/** The same decisions as a list of rules in the nat table. */
export function iptablesRules({ kind, size }: Point): RuleFiles {
  const text = (cidrs: readonly string[]) => {
    const rules =
      kind === 'CIDRs'
        ? cidrs.map((cidr) => `-A OUTPUT -d ${cidr} -j RETURN`)
        : numbers(size - 1).map((rule) => `-A OUTPUT -d ${cidrs[network(rule)]} -p tcp --dport ${port(rule)} -j RETURN`)
    return ['*nat', ...rules, `-A OUTPUT -p tcp -j REDIRECT --to-ports ${PROXY_PORT}`, 'COMMIT', ''].join('\n')
  }
  const count = kind === 'CIDRs' ? size : SIDE
  return { v4: text(cidrs4(count)), v6: text(cidrs6(count)), loopbackAddresses: [] }
}

/** A plugin that gives the pod with a point's name the point's rules. */
export function pluginText(): string {
  const interceptions = Object.fromEntries(POINTS.map((point) => [nameOf(point), interception(point)]))
  return `const interceptions = ${JSON.stringify(interceptions)}
export default ({ definePlugin, z }) => definePlugin({
  api: 1,
  name: 'points',
  options: z.strictObject({}),
  selects: () => true,
  describe: (pod) => interceptions[pod.name],
})
`
}
