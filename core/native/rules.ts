/** The rules of policy routing of a network namespace (linux/fib_rules.h). */
import { addressText, familyOf } from './addresses.ts'
import type { Rule } from './api.ts'
import { attributes, dumpRequest, messages, text } from './netlink.ts'

const RTM_GETRULE = 34
/** struct fib_rule_hdr */
const HEADER = 12
export const RULE_REQUEST = dumpRequest(RTM_GETRULE, Buffer.alloc(HEADER))

const FIB_RULE_INVERT = 2
/** A rule with a source matches while the source is still being looked for. */
const FIB_RULE_FIND_SADDR = 0x10000
const FRA = { DST: 1, SRC: 2, IIFNAME: 3, PRIORITY: 6, FWMARK: 10, SUPPRESS_PREFIXLEN: 14, TABLE: 15, FWMASK: 16 } as const
/** FRA_FLOW (realms), FRA_PAD and FRA_PROTOCOL (who made the rule) change nothing for a look-up. */
const understood: ReadonlySet<number> = new Set([...Object.values(FRA), 11, 18, 21])

const others: ReadonlyMap<number, string> = new Map([
  [4, 'goto'],
  [12, 'tun_id'],
  [13, 'suppress_ifgroup'],
  [17, 'oif'],
  [19, 'l3mdev'],
  [20, 'uidrange'],
  [22, 'ipproto'],
  [23, 'sport'],
  [24, 'dport'],
  [25, 'dscp'],
  [26, 'flowlabel'],
  [27, 'flowlabel'],
  [28, 'sport'],
  [29, 'dport'],
  [30, 'dscp'],
])

const number = (attribute: Buffer | undefined): number | undefined => attribute?.readUInt32LE(0)
const prefixText = (address: Buffer | undefined, length: number): string | undefined => address && `${addressText(address)}/${length}`

export function rules(answer: Buffer): Rule[] {
  const found: Rule[] = []
  for (const { body } of messages(answer)) {
    const family = familyOf(body.readUInt8(0))
    if (family === undefined) continue // there are rules for the routing of multicast, too
    const attribute = attributes(body, HEADER)
    const [to, from] = [prefixText(attribute.get(FRA.DST), body.readUInt8(1)), prefixText(attribute.get(FRA.SRC), body.readUInt8(2))]
    const flags = body.readUInt32LE(8)
    const strange = [...attribute.keys()].filter((type) => !understood.has(type)).map((type) => others.get(type) ?? `attribute ${type}`)
    const iif = attribute.get(FRA.IIFNAME)
    const mark = number(attribute.get(FRA.FWMARK)) ?? 0
    found.push({
      family,
      priority: number(attribute.get(FRA.PRIORITY)) ?? 0,
      action: body.readUInt8(7),
      table: number(attribute.get(FRA.TABLE)) ?? body.readUInt8(4),
      inverted: (flags & FIB_RULE_INVERT) !== 0,
      ...(from !== undefined && { from }),
      ...(to !== undefined && { to }),
      ...(iif !== undefined && { iif: text(iif) }),
      mark,
      mask: number(attribute.get(FRA.FWMASK)) ?? (mark === 0 ? 0 : 0xffffffff),
      suppress: attribute.get(FRA.SUPPRESS_PREFIXLEN)?.readInt32LE(0) ?? -1,
      others: [
        ...new Set([...strange, ...(body.readUInt8(3) === 0 ? [] : ['tos']), ...((flags & FIB_RULE_FIND_SADDR) === 0 ? [] : ['find source'])]),
      ].sort(),
    })
  }
  return found
}
