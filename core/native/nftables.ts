/** The nat rules of nftables, which is also where iptables-nft keeps its rules (linux/netfilter/nf_tables.h). */
import { attributeList, attributes, dumpRequest, messages, text } from './netlink.ts'

export const NETLINK_NETFILTER = 12

const SUBSYSTEM = 10 << 8
const [GET_CHAIN, GET_RULE] = [4, 7]
/** struct nfgenmsg */
const GENERIC = 4
const [CHAIN_TABLE, CHAIN_NAME, CHAIN_TYPE] = [1, 3, 7]
const [RULE_TABLE, RULE_CHAIN] = [1, 2]

/** Answered in this order: chains, rules; of all families. */
export const NAT_REQUESTS = [dumpRequest(SUBSYSTEM | GET_CHAIN, Buffer.alloc(GENERIC)), dumpRequest(SUBSYSTEM | GET_RULE, Buffer.alloc(GENERIC))]

const [RULE_EXPRESSIONS, EXPRESSION_NAME, EXPRESSION_DATA] = [4, 1, 2]
/** Of the expression "target", which holds a target of iptables: NFTA_TARGET_NAME, NFTA_TARGET_INFO. */
const [TARGET_NAME, TARGET_INFO] = [1, 3]
const [IMMEDIATE_DATA, DATA_VALUE] = [2, 1]
const [NAT_TYPE, NAT_DNAT] = [1, 1]
const NFPROTO_IPV6 = 10
/** Of the first port in struct nf_nat_ipv4_multi_range_compat, and in struct nf_nat_range. */
const [PORT_IN_RANGE4, PORT_IN_RANGE6] = [16, 36]

const portAt = (info: Buffer | undefined, offset: number): number => (info === undefined || info.length < offset + 2 ? 0 : info.readUInt16BE(offset))

/**
 * What sends traffic somewhere else: expressions of nft, and targets of iptables-nft. MASQUERADE and SNAT do not. The port of a "redir" is what was
 * loaded into a register before it; 0: none is named. undefined: the rule redirects nothing.
 */
function redirectOf(family: number, rule: Map<number, Buffer>): number | undefined {
  let loaded = 0
  for (const [, expression] of attributeList(rule.get(RULE_EXPRESSIONS) ?? Buffer.alloc(0))) {
    const parts = attributes(expression)
    const data = attributes(parts.get(EXPRESSION_DATA) ?? Buffer.alloc(0))
    switch (text(parts.get(EXPRESSION_NAME))) {
      case 'immediate': {
        const value = attributes(data.get(IMMEDIATE_DATA) ?? Buffer.alloc(0)).get(DATA_VALUE)
        if (value?.length === 2) loaded = value.readUInt16BE(0)
        break
      }
      case 'redir':
        return loaded
      case 'nat':
        if (data.get(NAT_TYPE)?.readUInt32BE(0) === NAT_DNAT) return 0
        break
      case 'target': {
        const name = text(data.get(TARGET_NAME))
        if (name === 'REDIRECT') return portAt(data.get(TARGET_INFO), family === NFPROTO_IPV6 ? PORT_IN_RANGE6 : PORT_IN_RANGE4)
        if (name === 'DNAT') return 0
      }
    }
  }
  return undefined
}

/**
 * The port of each rule that redirects, in tables where a chain of type nat has a rule. Only chains that are hooked have a type; the rules that redirect
 * may be in others of the same table, which one of theirs jumps to.
 */
export function natRedirects(chains: Buffer, rules: Buffer): number[] {
  const key = (family: number, table: Buffer | undefined, chain: Buffer | undefined) => `${family} ${text(table)} ${text(chain)}`
  const hooked = new Set<string>()
  const nat = new Set<string>()
  const found: { readonly table: string; readonly port: number }[] = []
  for (const { body } of messages(chains)) {
    const attribute = attributes(body, GENERIC)
    if (text(attribute.get(CHAIN_TYPE)) === 'nat') nat.add(key(body.readUInt8(0), attribute.get(CHAIN_TABLE), attribute.get(CHAIN_NAME)))
  }
  for (const { body } of messages(rules)) {
    const attribute = attributes(body, GENERIC)
    const family = body.readUInt8(0)
    const table = key(family, attribute.get(RULE_TABLE), undefined)
    if (nat.has(key(family, attribute.get(RULE_TABLE), attribute.get(RULE_CHAIN)))) hooked.add(table)
    const port = redirectOf(family, attribute)
    if (port !== undefined) found.push({ table, port })
  }
  return found.filter(({ table }) => hooked.has(table)).map(({ port }) => port)
}
