/** Where a target sends, in words; the same words whether they come from a plugin or from the kernel. Pure. */
import { formatAddress, type Words } from '../address.ts'
import { Fact, type PolicyRecord, type RuleRecord, TargetFamily, Verdict } from '../contract.ts'
import type { Match, Rule, TargetSpec } from '../plugin.ts'

type Direction = 'outbound' | 'inbound'
type OneFamily = 'ipv4' | 'ipv6'

export const endpointText = (address: string, port: number): string => `${address.includes(':') ? `[${address}]` : address}:${port}`

const other = (family: OneFamily): OneFamily => (family === 'ipv4' ? 'ipv6' : 'ipv4')

/** `only`: the rule is about one family, and the target's other address is of no interest. */
function placeText({ port, ipv4 = '127.0.0.1', ipv6 = '::1' }: TargetSpec, direction: Direction, only?: OneFamily): string {
  if (direction === 'inbound' && port !== undefined) return `port ${port}` // which address the listener has does not matter
  const addresses = [...(only === 'ipv6' ? [] : [ipv4]), ...(only === 'ipv4' ? [] : [ipv6])].filter((address) => address !== false)
  const places = addresses.map((address) => (port === undefined ? address : endpointText(address, port))).join(' or ')
  const refused = [
    ...(ipv4 === false && only !== 'ipv6' ? ['IPv4 is refused'] : []),
    ...(ipv6 === false && only !== 'ipv4' ? ['IPv6 is refused'] : []),
  ]
  return [...(places === '' ? [] : [places]), ...(port === undefined ? ['port kept'] : []), ...refused].join(', ')
}

const familyIn = ({ when, unless }: { readonly when?: Match; readonly unless?: Match }): OneFamily | undefined =>
  when?.family ?? (unless?.family && other(unless.family))

/** "outbound (127.0.0.1:15001 or [::1]:15001)" */
export const targetText = (rule: Rule, target: TargetSpec, direction: Direction): string =>
  `${rule.then} (${placeText(target, direction, familyIn(rule))})`

/** What a rule in the kernel says; targets have no names there. */
export function verdictText({ mask, value, verdict, target }: RuleRecord, { targets }: PolicyRecord, direction: Direction): string {
  if (verdict !== Verdict.TARGET) return verdict === Verdict.PASS ? 'pass' : 'drop'
  const { addr4 = 0, addr6 = [0, 0, 0, 0], families = 0, port = 0 } = targets[target] ?? {}
  const six = 1n << BigInt(Fact.IPV6)
  const only = (mask & six) === 0n ? undefined : (value & six) === 0n ? 'ipv4' : 'ipv6'
  const spec: TargetSpec = {
    ...(port === 0 ? {} : { port }),
    ipv4: (families & TargetFamily.IPV4) === 0 ? false : formatAddress({ family: 4, words: [addr4, 0, 0, 0] }),
    ipv6: (families & TargetFamily.IPV6) === 0 ? false : formatAddress({ family: 6, words: addr6 as unknown as Words }),
  }
  return placeText(spec, direction, only)
}
