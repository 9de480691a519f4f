/** Textual form of addresses, as inet_ntop(3) writes them. */

const AF_INET = 2
const AF_INET6 = 10

/** undefined: neither IPv4 nor IPv6 (routes of other protocols come in the same dump) */
export function familyOf(number: number): 4 | 6 | undefined {
  return number === AF_INET ? 4 : number === AF_INET6 ? 6 : undefined
}

export function familyNumber(family: 4 | 6): number {
  return family === 4 ? AF_INET : AF_INET6
}

/** The first longest run of at least two zero groups is written `::`. */
function compressed(groups: readonly number[]): string {
  let [start, length] = [0, 1]
  for (let from = 0; from < groups.length; from++) {
    let to = from
    while (groups[to] === 0) to++
    if (to - from > length) [start, length] = [from, to - from]
  }
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(':')
  return length < 2 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`
}

/** 4 or 16 bytes in network order */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.')
  const mapped = bytes.readUInt16BE(10) === 0xffff && bytes.subarray(0, 10).every((byte) => byte === 0)
  if (mapped) return `::ffff:${bytes.subarray(12, 16).join('.')}`
  return compressed(Array.from({ length: 8 }, (_, group) => bytes.readUInt16BE(group * 2)))
}
