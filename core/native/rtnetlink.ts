/** Links, addresses and routes of a network namespace (linux/rtnetlink.h). */
import { addressText, familyOf } from './addresses.ts'
import type { Address, Route } from './api.ts'
import { attributes, dumpRequest, messages, text } from './netlink.ts'
import { RULE_REQUEST } from './rules.ts'

export const NETLINK_ROUTE = 0

const [RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE] = [18, 22, 26]
/** struct ifinfomsg, ifaddrmsg, rtmsg, rtnexthop */
const [LINK, ADDRESS, ROUTE, NEXT_HOP] = [16, 8, 12, 8]
const IFLA_IFNAME = 3
const IFLA_EXT_MASK = 29
const RTEXT_FILTER_SKIP_STATS = 8
const [IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS] = [1, 2, 8]
const IFA_F_SECONDARY = 1
/** What matters for the choice of a source: temporary, optimistic, deprecated, tentative. */
const IFA_F_CHOICE = 0x65
const [RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_MULTIPATH, RTA_TABLE, RTA_PREF] = [1, 2, 4, 5, 6, 7, 9, 15, 20]
/** ICMPV6_ROUTER_PREF_HIGH and _LOW */
const preferences: ReadonlyMap<number | undefined, number> = new Map([
  [1, 1],
  [3, -1],
])
/** An exception that the kernel learnt (path MTU, redirect), not a route. */
const RTM_F_CLONED = 0x200
/** Also set for a link without carrier where the namespace ignores the routes of such links. */
const RTNH_F_DEAD = 1

function linkRequest(): Buffer {
  const body = Buffer.alloc(LINK + 8)
  body.writeUInt16LE(8, LINK)
  body.writeUInt16LE(IFLA_EXT_MASK, LINK + 2)
  body.writeUInt32LE(RTEXT_FILTER_SKIP_STATS, LINK + 4)
  return dumpRequest(RTM_GETLINK, body)
}

/** Answered in this order: links, addresses, routes, rules; of all families. */
export const STATE_REQUESTS = [
  linkRequest(),
  dumpRequest(RTM_GETADDR, Buffer.alloc(ADDRESS)),
  dumpRequest(RTM_GETROUTE, Buffer.alloc(ROUTE)),
  RULE_REQUEST,
]

/** interface index -> name */
export function linkNames(answer: Buffer): Map<number, string> {
  return new Map(Array.from(messages(answer), ({ body }) => [body.readInt32LE(4), text(attributes(body, LINK).get(IFLA_IFNAME))]))
}

export function addresses(answer: Buffer, names: ReadonlyMap<number, string>): Address[] {
  const found: Address[] = []
  for (const { body } of messages(answer)) {
    const family = familyOf(body.readUInt8(0))
    const attribute = attributes(body, ADDRESS)
    // Of a point-to-point link IFA_ADDRESS is the peer; IFA_LOCAL is absent for IPv6.
    const own = attribute.get(IFA_LOCAL) ?? attribute.get(IFA_ADDRESS)
    if (family === undefined || own === undefined) continue
    const index = body.readUInt32LE(4)
    const flags = attribute.get(IFA_FLAGS)?.readUInt32LE(0) ?? body.readUInt8(2)
    const choice = family === 6 ? flags & IFA_F_CHOICE : 0
    found.push({
      family,
      address: addressText(own),
      prefix: body.readUInt8(1),
      index,
      interface: names.get(index) ?? '',
      scope: body.readUInt8(3),
      secondary: family === 4 && (flags & IFA_F_SECONDARY) !== 0, // for IPv6 the bit means a temporary address
      ...(choice !== 0 && { flags: choice }),
    })
  }
  return found
}

interface Hop {
  readonly index?: number
  readonly gateway?: Buffer | undefined
}

/** The first next hop of a multipath route that is not dead; undefined: all are. */
function firstHop(hops: Buffer): Hop | undefined {
  for (let at = 0; at + NEXT_HOP <= hops.length; ) {
    const length = hops.readUInt16LE(at)
    if (length < NEXT_HOP || at + length > hops.length) return undefined
    if ((hops.readUInt8(at + 2) & RTNH_F_DEAD) === 0)
      return { index: hops.readInt32LE(at + 4), gateway: attributes(hops.subarray(at, at + length), NEXT_HOP).get(RTA_GATEWAY) }
    at += (length + 3) & ~3
  }
  return undefined
}

/** Without dead ones, which the kernel passes over as if they were not there. */
export function routes(answer: Buffer): Route[] {
  const found: Route[] = []
  for (const { body } of messages(answer)) {
    const family = familyOf(body.readUInt8(0))
    if (family === undefined || (body.readUInt32LE(8) & (RTM_F_CLONED | RTNH_F_DEAD)) !== 0) continue
    const attribute = attributes(body, ROUTE)
    const hops = attribute.get(RTA_MULTIPATH)
    const hop = hops === undefined ? {} : firstHop(hops)
    if (hop === undefined) continue
    const destination = attribute.get(RTA_DST)
    const from = attribute.get(RTA_SRC)
    const preference = preferences.get(attribute.get(RTA_PREF)?.readUInt8(0))
    const source = attribute.get(RTA_PREFSRC)
    const gateway = attribute.get(RTA_GATEWAY) ?? hop.gateway
    const index = attribute.get(RTA_OIF)?.readUInt32LE(0) ?? hop.index
    found.push({
      family,
      destination: destination ? addressText(destination) : family === 4 ? '0.0.0.0' : '::',
      prefix: body.readUInt8(1),
      table: attribute.get(RTA_TABLE)?.readUInt32LE(0) ?? body.readUInt8(4),
      type: body.readUInt8(7),
      metric: attribute.get(RTA_PRIORITY)?.readUInt32LE(0) ?? 0,
      ...(preference !== undefined && { preference }),
      ...(from && { from: `${addressText(from)}/${body.readUInt8(2)}` }),
      ...(source && { source: addressText(source) }),
      ...(gateway && { gateway: addressText(gateway) }),
      ...(index !== undefined && { index }),
    })
  }
  return found
}
