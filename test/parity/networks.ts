/** Addresses and networks of both families by arithmetic on whole numbers, independent of the product's own. */
import { SocketAddress } from 'node:net'

const fours = (text: string) => text.split('.').reduce((sum, byte) => sum * 256n + BigInt(byte), 0n)

function sixes(text: string): bigint {
  const tail = /[^:]*\.[^:]*$/.exec(text)?.[0]
  const bits = tail === undefined ? 0n : fours(tail)
  const groups = tail === undefined ? text : `${text.slice(0, -tail.length)}${(bits >> 16n).toString(16)}:${(bits & 0xffffn).toString(16)}`
  const [head = [], rest = []] = groups.split('::').map((half) => half.split(':').filter((group) => group !== ''))
  const all = [...head, ...Array<string>(8 - head.length - rest.length).fill('0'), ...rest]
  return all.reduce((sum, group) => sum * 0x10000n + BigInt(`0x${group}`), 0n)
}

const isSix = (text: string) => text.includes(':')
const toNumber = (text: string) => (isSix(text) ? sixes(text) : fours(text))

function toText(number: bigint, six: boolean): string {
  const [parts, bits, base] = six ? [8, 16n, 16] : [4, 8n, 10]
  const all = Array.from({ length: parts }, (_, index) => (number >> (BigInt(parts - 1 - index) * bits)) & ((1n << bits) - 1n))
  const text = all.map((part) => part.toString(base)).join(six ? ':' : '.')
  return six ? new SocketAddress({ address: text, family: 'ipv6' }).address : text // as everybody writes it
}

/** First and last address of '10.1.2.3/8' as numbers; host bits do not count. */
function span(cidr: string): readonly [first: bigint, last: bigint] {
  const [host = '', length] = cidr.split('/')
  const bits = isSix(host) ? 128 : 32
  const size = 1n << BigInt(bits - Number(length ?? bits))
  const first = (toNumber(host) / size) * size
  return [first, first + size - 1n]
}

export function within(address: string, cidr: string): boolean {
  if (isSix(cidr) !== isSix(address)) return false
  const [first, last] = span(cidr)
  return toNumber(address) >= first && toNumber(address) <= last
}

/** First and last address of a network, and those just outside. */
export function edges(cidr: string): readonly string[] {
  const [first, last] = span(cidr)
  const six = isSix(cidr)
  const end = 1n << (six ? 128n : 32n)
  return [first - 1n, first, last, last + 1n].filter((number) => number >= 0n && number < end).map((number) => toText(number, six))
}
