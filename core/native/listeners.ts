/** Listening TCP sockets of a network namespace (linux/inet_diag.h). */
import { addressText, familyNumber, familyOf } from './addresses.ts'
import type { Listener } from './api.ts'
import { attributes, dumpRequest, messages } from './netlink.ts'

export const NETLINK_SOCK_DIAG = 4

const SOCK_DIAG_BY_FAMILY = 20
const IPPROTO_TCP = 6
const TCP_LISTEN = 10
/** Whether a socket of IPv6 takes that alone (IPV6_V6ONLY); the kernel says it of every such listener. */
const INET_DIAG_SKV6ONLY = 11
/** struct inet_diag_msg, before the attributes */
const MESSAGE = 72
/** struct inet_diag_req_v2 */
const REQUEST = 56

function request(family: 4 | 6): Buffer {
  const body = Buffer.alloc(REQUEST)
  body.writeUInt8(familyNumber(family), 0)
  body.writeUInt8(IPPROTO_TCP, 1)
  body.writeUInt32LE(1 << TCP_LISTEN, 4)
  return dumpRequest(SOCK_DIAG_BY_FAMILY, body)
}

export const LISTENER_REQUESTS = [request(4), request(6)]

/** struct inet_diag_msg: family, .., source port at 4, source address at 8, cookie at 44, uid at 64, inode at 68 */
export function listeners(answer: Buffer, namespace: number): Listener[] {
  const found: Listener[] = []
  for (const { body } of messages(answer)) {
    const family = familyOf(body.readUInt8(0))
    if (family === undefined) continue
    found.push({
      family,
      address: addressText(body.subarray(8, family === 4 ? 12 : 24)),
      port: body.readUInt16BE(4),
      uid: body.readUInt32LE(64),
      inode: body.readUInt32LE(68),
      cookie: body.readBigUInt64LE(44),
      ipv6Only: family === 6 && attributes(body, MESSAGE).get(INET_DIAG_SKV6ONLY)?.at(0) === 1,
      namespace,
    })
  }
  return found
}
