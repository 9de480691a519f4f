/** Is there a nat rule in nftables, which is also where iptables-nft keeps its rules (linux/netfilter/nf_tables.h)? */
import { attributes, dumpRequest, messages, text } from './netlink.ts'

export const NETLINK_NETFILTER = 12

const SUBSYSTEM = 10 << 8
const [GET_CHAIN, GET_RULE] = [4, 7]
/** struct nfgenmsg */
const GENERIC = 4
const [CHAIN_TABLE, CHAIN_NAME, CHAIN_TYPE] = [1, 3, 7]
const [RULE_TABLE, RULE_CHAIN] = [1, 2]

/** Answered in this order: chains, rules; of all families. */
export const NAT_REQUESTS = [dumpRequest(SUBSYSTEM | GET_CHAIN, Buffer.alloc(GENERIC)), dumpRequest(SUBSYSTEM | GET_RULE, Buffer.alloc(GENERIC))]

/** What sends traffic somewhere else: the expression of nft, and the targets of iptables-nft. MASQUERADE and SNAT do not. */
const redirects = ['redir\0', 'REDIRECT', 'DNAT'].map((name) => Buffer.from(name))

/** Only chains that are hooked have a type; the rules that redirect may be in others of the same table, which one of theirs jumps to. */
export function hasNatRule(chains: Buffer, rules: Buffer): boolean {
  const key = (family: number, table: Buffer | undefined, chain: Buffer | undefined) => `${family} ${text(table)} ${text(chain)}`
  const hooked = new Set<string>()
  const redirecting = new Set<string>()
  const nat = new Set<string>()
  for (const { body } of messages(chains)) {
    const attribute = attributes(body, GENERIC)
    if (text(attribute.get(CHAIN_TYPE)) === 'nat') nat.add(key(body.readUInt8(0), attribute.get(CHAIN_TABLE), attribute.get(CHAIN_NAME)))
  }
  for (const { body } of messages(rules)) {
    const attribute = attributes(body, GENERIC)
    const table = key(body.readUInt8(0), attribute.get(RULE_TABLE), undefined)
    if (nat.has(key(body.readUInt8(0), attribute.get(RULE_TABLE), attribute.get(RULE_CHAIN)))) hooked.add(table)
    if (redirects.some((name) => body.includes(name))) redirecting.add(table)
  }
  return [...hooked].some((table) => redirecting.has(table))
}
