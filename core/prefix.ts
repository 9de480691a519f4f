/** Prefixes of keys of any width, and ranges of ports and ids as prefixes: what the longest-prefix tries are filled with. */
import { addressBits, type Cidr, parseCidr } from './address.ts'
import type { IdSpec, PortSpec } from './plugin.ts'

/** The leading `length` bits of a key, as a number: 10.0.0.0/8 is { bits: 10n, length: 8 }. */
export interface Prefix {
  readonly bits: bigint
  readonly length: number
}

export interface Range {
  readonly low: number
  readonly high: number
}

export const maxPort = 0xffff
export const maxId = 0xffffffff

const numeral = /^\d{1,10}$/

function parseRange(spec: number | string, max: number, expected: string): Range {
  const [first = '', last = first, ...rest] = String(spec).split('-')
  const range = { low: Number(first), high: Number(last) }
  const valid = rest.length === 0 && numeral.test(first) && numeral.test(last) && range.low <= range.high && range.high <= max
  if (!valid) throw new Error(`expected ${expected}, got '${spec}'`)
  return range
}

/** 8080, '8080', '15090-15099' or '*'. Throws an Error that says what was expected. */
export const portRange = (spec: PortSpec): Range =>
  spec === '*' ? { low: 0, high: maxPort } : parseRange(spec, maxPort, "a port from 0 to 65535, a range like 15090-15099, or '*'")

/** 1337, '1337' or '1000-1999'. Throws an Error that says what was expected. */
export const idRange = (spec: IdSpec): Range => parseRange(spec, maxId, 'an id from 0 to 4294967295 or a range like 1000-1999')

/** '10.0.0.0/8', 'fd00::/8', an address, or '*' for everything of both families. */
export const cidrsOf = (spec: string): readonly Cidr[] => (spec === '*' ? [parseCidr('0.0.0.0/0'), parseCidr('::/0')] : [parseCidr(spec)])

/** The smallest list of prefixes of a key of `width` bits that covers exactly the range. */
export function rangePrefixes({ low, high }: Range, width: number): Prefix[] {
  const prefixes: Prefix[] = []
  // Arithmetic, not bit operations: an id needs 32 bits without a sign.
  for (let at = low; at <= high; ) {
    let free = 0
    while (free < width && at % 2 ** (free + 1) === 0 && at + 2 ** (free + 1) - 1 <= high) free++
    prefixes.push({ bits: BigInt(at / 2 ** free), length: width - free })
    at += 2 ** free
  }
  return prefixes
}

export function cidrPrefix({ family, words, length }: Cidr): Prefix {
  const value = family === 4 ? BigInt(words[0]) : words.reduce((sum, word) => (sum << 32n) | BigInt(word), 0n)
  return { bits: value >> BigInt(addressBits(family) - length), length }
}

/** The prefix as the number that a key of `width` bits starts with; the bits after the prefix are zero. */
export const prefixValue = ({ bits, length }: Prefix, width: number): bigint => bits << BigInt(width - length)
