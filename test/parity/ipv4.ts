/** IPv4 by arithmetic on whole numbers, independent of the product's own. */

const toNumber = (text: string) => text.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0)
const toText = (number: number) => [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join('.')

/** First and last address of '10.1.2.3/8' as numbers; host bits do not count. */
function span(cidr: string): readonly [first: number, last: number] {
  const [host = '', length = '32'] = cidr.split('/')
  const size = 2 ** (32 - Number(length))
  const first = Math.floor(toNumber(host) / size) * size
  return [first, first + size - 1]
}

export function within(address: string, cidr: string): boolean {
  if (cidr.includes(':') || address.includes(':')) return false
  const [first, last] = span(cidr)
  return toNumber(address) >= first && toNumber(address) <= last
}

/** First and last address of a network, and those just outside. */
export function edges(cidr: string): readonly string[] {
  const [first, last] = span(cidr)
  return [first - 1, first, last, last + 1].filter((number) => number >= 0 && number < 2 ** 32).map(toText)
}
