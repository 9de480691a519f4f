/** Networks and addresses as Go reads them, which the meshes are written in; each reader takes time in proportion to a text of any length. */
const octet = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
export const ipv4 = new RegExp(`^${octet}(?:\\.${octet}){3}$`)

/** The network without the bits of the host, as iptables takes it. */
function network(address: string, length: number): string {
  const bits = address.split('.').reduce((number, part) => number * 256 + Number(part), 0)
  const hosts = 2 ** (32 - length)
  const first = bits - (bits % hosts)
  return `${[24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join('.')}/${length}`
}

/** The eight groups of an IPv6 address; undefined: it is none. The last two may be written as an IPv4 address. */
function groupsOf(address: string): readonly number[] | undefined {
  const tail = address.slice(address.lastIndexOf(':') + 1)
  const [a = 0, b = 0, c = 0, d = 0] = tail.split('.').map(Number)
  const pair = `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
  const halves = (ipv4.test(tail) ? `${address.slice(0, -tail.length)}${pair}` : address).split('::')
  const [head = [], rest = []] = halves.map((half) => (half === '' ? [] : half.split(':')))
  const left = 8 - head.length - rest.length
  if (halves.length > 2 || (halves.length === 2 ? left < 1 : left !== 0)) return undefined
  const groups = [...head, ...Array<string>(left).fill('0'), ...rest]
  return groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group)) ? groups.map((group) => Number.parseInt(group, 16)) : undefined
}

/** As people write it: the longest run of zeros is left out. */
function textOf(groups: readonly number[]): string {
  const text = groups.map((group) => group.toString(16)).join(':')
  const runs = [...text.matchAll(/\b0(?::0)+\b/g)].sort((a, b) => b[0].length - a[0].length)
  const [{ 0: run, index } = { 0: '', index: 0 }] = runs
  return run === '' ? text : `${text.slice(0, index) || ':'}${text.slice(index + run.length) || ':'}`
}

/** As `network`; undefined: an IPv4 address in IPv6 form, which no packet of IPv6 has. */
function network6(groups: readonly number[], length: number): string | undefined {
  const kept = groups.map((group, index) => group & (0xffff << (16 - Math.min(16, Math.max(0, length - 16 * index)))))
  return length >= 96 && isMapped(groups) ? undefined : `${textOf(kept)}/${length}`
}

const isMapped = (groups: readonly number[]): boolean => groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff

/** ::1, and 127.0.0.0/8 written as an IPv6 address */
function isLoopback6(groups: readonly number[]): boolean {
  const [last = 0, before = 0] = [groups[7], groups[6]]
  const start = groups.slice(0, 5).every((group) => group === 0)
  return start && ((groups[5] === 0 && before === 0 && last === 1) || (groups[5] === 0xffff && before >> 8 === 127))
}

/** As Go's netip.ParsePrefix; `cidr` is absent where nothing can match. undefined: not a prefix. */
export function prefixOf(element: string): { readonly cidr?: string | undefined; readonly loopback: boolean } | undefined {
  const slash = element.lastIndexOf('/')
  const [address, length] = [element.slice(0, Math.max(slash, 0)), element.slice(slash + 1)]
  if (!/^(?:0|[1-9]\d{0,2})$/.test(length)) return undefined
  if (ipv4.test(address)) {
    return Number(length) <= 32 ? { cidr: network(address, Number(length)), loopback: address.startsWith('127.') } : undefined
  }
  const groups = address.length > 45 ? undefined : groupsOf(address)
  return groups !== undefined && Number(length) <= 128 ? { cidr: network6(groups, Number(length)), loopback: isLoopback6(groups) } : undefined
}

export const isIpv6 = (network: string): boolean => network.includes(':')

/** The address of a name server; one of IPv4 in IPv6 form is of IPv4. undefined: not an address. */
export function serverAddress(text: string): string | undefined {
  if (ipv4.test(text)) return text
  const groups = text.length > 45 ? undefined : groupsOf(text)
  if (groups === undefined) return undefined
  const [high = 0, low = 0] = groups.slice(6)
  return isMapped(groups) ? [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.') : textOf(groups)
}

/** Is the address of loopback, whatever the length of the prefix? */
export const isLoopback = (cidr: string): boolean => prefixOf(cidr.includes('/') ? cidr : `${cidr}/32`)?.loopback === true

/** What is wrong with a name server that has no such address. */
function serverExpected(text: string): string {
  if (text.includes('%')) return 'expected an address without a zone (%eth0): queries to link-local name servers are not captured'
  return `expected the address of a name server, like "10.96.0.10" or "fd00:10:96::a"${text.includes('/') ? ', not a network' : ''}`
}

/** For the schema of an option that has name servers. */
export const isServer = (text: string): boolean => serverAddress(text) !== undefined
export const noServer = {
  error: ({ input }: { readonly input?: unknown }) => serverExpected(String(input)),
  params: { hint: 'Write what stands after "nameserver" in the /etc/resolv.conf of the pods; leave out what has a zone.' },
}
