/** Numbers, ranges and networks as Linkerd reads them: the second reading's own. */

/** iptables takes no larger id. */
export const maxOwner = 0xfffffffe

export class Refusal extends Error {}

/** Go's strconv.Atoi, in so many bits. */
export function atoi(text: string, bits = 64): number | undefined {
  const value = /^[-+]?[0-9]+$/.test(text) ? Number(text) : Number.NaN
  return value >= -(2 ** (bits - 1)) && value < 2 ** (bits - 1) ? value : undefined
}

const isPort = (value: number | undefined): value is number => value !== undefined && value >= 0 && value <= 65535

/** Of an entry of a list of ports: '80', '80-90', or undefined where it is dropped. */
export function range(entry: string): string | undefined {
  const bounds = entry.split('-')
  const [low, high] = [atoi(bounds[0] ?? ''), atoi(bounds.at(-1) ?? '')]
  return bounds.length <= 2 && isPort(low) && isPort(high) && low <= high ? `${low}-${high}` : undefined
}

/** The injector writes flags of comma-separated values, which may stand in quotation marks; the CNI plugin splits the text itself. */
export function entries(text: string, cni: boolean): string[] {
  if (cni) return text.split(',')
  const line = text.replaceAll('\n', '')
  if (/\n[^\n]/.test(text.trimStart()) || !/^("[^"]*"|[^",]*)(,("[^"]*"|[^",]*))*$/.test(line)) throw new Refusal()
  return line === '' ? [] : line.replaceAll('"', '').split(',')
}

/** As Go's net.ParseCIDR and iptables after it, which takes a length with a leading 0 for octal. */
export function subnet(entry: string): string {
  const text = entry.trim()
  const [, host = '', length = ''] = /^([\d.]+|[\da-fA-F:.]*:[\da-fA-F:.]*)\/(\d+)$/.exec(text) ?? []
  const octets = host.split('.')
  const four = octets.length === 4 && octets.every((octet) => /^(0|[1-9]\d{0,2})$/.test(octet) && Number(octet) <= 255)
  const bits = /^0[0-7]+$/.test(length) ? Number.parseInt(length, 8) : Number(/^0./.test(length) ? Number.NaN : length || Number.NaN)
  if (!(four || host.includes(':')) || !(bits <= (four ? 32 : 128))) throw new Refusal()
  return `${host}/${bits}`
}

export interface Lists {
  readonly warned: string[]
  /** The entries that are ports; a list of others alone makes a rule that iptables refuses. */
  ports(name: string, entries: readonly string[], more?: readonly string[]): readonly string[]
}

export function lists(): Lists {
  const warned: string[] = []
  return {
    warned,
    ports(name, entries, more = []) {
      const read = entries.map(range)
      if (read.includes(undefined)) warned.push(name)
      const all = [...read.filter((each) => each !== undefined), ...more]
      if (all.length === 0 && entries.length > 0) throw new Refusal(name)
      return all
    },
  }
}

/** A refusal of what is read says where it stood. */
export function at<T>(name: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof Refusal) throw new Refusal(error.message || name)
    throw error
  }
}
