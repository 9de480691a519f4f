/**
 * Addresses as the contract has them: four 32-bit words, IPv4 in the first. Text is parsed and printed by Node; an IPv4-mapped IPv6 address
 * counts as IPv4 throughout.
 */
import { isIP } from 'node:net'

export type Words = readonly [number, number, number, number]

export interface Address {
  readonly family: 4 | 6
  readonly words: Words
}

/** The first `length` bits of the address; the others are zero. */
export interface Cidr extends Address {
  readonly length: number
}

export const zeroWords: Words = [0, 0, 0, 0]

/** 127.0.0.1 and ::1 */
export const localhost: Readonly<Record<4 | 6, Words>> = { 4: [0x7f000001, 0, 0, 0], 6: [0, 0, 0, 1] }

function ipv6Words(text: string): Words {
  // The URL parser prints every IPv6 address as hexadecimal groups, also one that ends in dotted decimals.
  const canonical = new URL(`http://[${text}]`).hostname.slice(1, -1)
  const [head = '', tail = ''] = canonical.split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)))
  const [first, last] = [groups(head), groups(tail)]
  const all = [...first, ...Array<number>(8 - first.length - last.length).fill(0), ...last]
  const word = (index: number) => (all[2 * index] ?? 0) * 0x10000 + (all[2 * index + 1] ?? 0)
  return [word(0), word(1), word(2), word(3)]
}

/** undefined: not an address. A zone ("fe80::1%eth0") is not part of an address here. */
export function parseAddress(text: string): Address | undefined {
  const version = text.includes('%') ? 0 : isIP(text)
  if (version === 4) return { family: 4, words: [text.split('.').reduce((word, octet) => word * 256 + Number(octet), 0), 0, 0, 0] }
  if (version !== 6) return undefined
  const words = ipv6Words(text)
  const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff
  return mapped ? { family: 4, words: [words[3], 0, 0, 0] } : { family: 6, words }
}

/** In ::/96, which nobody routes, and neither :: nor ::1: such as ::6, which a mesh may give to the pod's lo. An address of this kind is nobody's own. */
export const isSpare = ({ family, words: [a, b, c, d] }: Address): boolean => family === 6 && (a | b | c) === 0 && d > 1

export function formatAddress({ family, words }: Address): string {
  if (family === 4) return [24, 16, 8, 0].map((shift) => (words[0] >>> shift) & 0xff).join('.')
  const groups = words.flatMap((word) => [word >>> 16, word & 0xffff]).map((group) => group.toString(16))
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

export const isZero = ({ words }: Pick<Address, 'words'>): boolean => words.every((word) => word === 0)

/** 127.0.0.0/8 or ::1 */
export const isLoopback = ({ family, words }: Address): boolean => (family === 4 ? words[0] >>> 24 === 127 : sameWords(words, [0, 0, 0, 1]))

/** Exactly 127.0.0.1 or ::1 */
export const isLocalhost = ({ family, words }: Address): boolean => sameWords(words, localhost[family])

/** 127.0.0.6 or ::6 */
export const isPassthrough = ({ family, words }: Address): boolean => sameWords(words, family === 4 ? [0x7f000006, 0, 0, 0] : [0, 0, 0, 6])

/** fe80::/10 */
export const isLinkLocal = ({ family, words }: Address): boolean => family === 6 && words[0] >>> 22 === 0x3fa

/** 224.0.0.0/4 or ff00::/8 */
export const isMulticast = ({ family, words }: Address): boolean => (family === 4 ? words[0] >>> 28 === 14 : words[0] >>> 24 === 0xff)

export const formatCidr = (cidr: Cidr): string => `${formatAddress(cidr)}/${cidr.length}`

/** Bits of an address of the family: the length of the prefix that holds one address. */
export const addressBits = (family: 4 | 6): 32 | 128 => (family === 4 ? 32 : 128)

/** The address with every bit after `length` cleared. */
export function network({ family, words }: Address, length: number): Cidr {
  const keep = (index: number) => {
    const bits = Math.min(32, Math.max(0, length - 32 * index))
    return bits === 0 ? 0 : (words[index] ?? 0) & (-1 << (32 - bits))
  }
  return { family, length, words: [keep(0) >>> 0, keep(1) >>> 0, keep(2) >>> 0, keep(3) >>> 0] }
}

const sameWords = (a: Words, b: Words): boolean => a.every((word, index) => word === b[index])

export const contains = (outer: Cidr, inner: Address): boolean =>
  outer.family === inner.family && sameWords(network(inner, outer.length).words, outer.words)

/** '10.0.0.0/8', 'fd00::/8' or a bare address. Throws an Error that says what was expected, with the right network when host bits are set. */
export function parseCidr(text: string): Cidr {
  const [base = '', suffix, ...rest] = text.split('/')
  const address = parseAddress(base)
  if (address === undefined || rest.length > 0 || !/^\d{1,3}$/.test(suffix ?? '0')) {
    throw new Error(`expected an IP address or a network like 10.0.0.0/8 or fd00::/8, got '${text}'`)
  }
  const bits = addressBits(address.family)
  // ::ffff:10.0.0.0/104 is written with the length of the IPv6 form.
  const length = suffix === undefined ? bits : Number(suffix) - (address.family === 4 && base.includes(':') ? 96 : 0)
  if (length < 0 || length > bits) throw new Error(`expected a prefix length of at most ${bits}, got '${text}'`)
  const cidr = network(address, length)
  if (!sameWords(cidr.words, address.words)) throw new Error(`'${text}' has host bits set; the network is ${formatCidr(cidr)}`)
  return cidr
}
