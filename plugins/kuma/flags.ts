/** The flags of the container kuma-init, which Kuma's injector has made from annotations and from its own configuration. */
import type { Container, Kit } from '../../core/plugin.ts'
import { removed } from './older.ts'
import type { Tree } from './tree.ts'

/** `tcp` and `udp`: lists of rules for this protocol; `family`: a switch for IPv6 that says the mode. */
type Kind = 'switch' | 'number' | 'text' | 'list' | 'tcp' | 'udp' | 'family'

/** Flags that decide on rules, by what they are in Kuma's configuration. */
const paths: Readonly<Record<string, readonly [path: string, kind: Kind]>> = {
  'kuma-dp-user': ['kumaDPUser', 'text'],
  'kuma-dp-uid': ['kumaDPUser', 'text'],
  'ip-family-mode': ['ipFamilyMode', 'text'],
  'ipv6-enabled': ['ipFamilyMode', 'family'],
  'redirect-outbound-port': ['redirect.outbound.port', 'number'],
  'redirect-inbound': ['redirect.inbound.enabled', 'switch'],
  'redirect-inbound-port': ['redirect.inbound.port', 'number'],
  'redirect-inbound-port-v6': ['redirect.inbound.portIPv6', 'number'],
  'exclude-inbound-ports': ['redirect.inbound.excludePorts', 'text'],
  'exclude-outbound-ports': ['redirect.outbound.excludePorts', 'text'],
  'exclude-inbound-ips': ['redirect.inbound.excludePortsForIPs', 'list'],
  'exclude-outbound-ips': ['redirect.outbound.excludePortsForIPs', 'list'],
  'exclude-outbound-ports-for-uids': ['redirect.outbound.excludePortsForUIDs', 'list'],
  'exclude-outbound-tcp-ports-for-uids': ['redirect.outbound.excludePortsForUIDs', 'tcp'],
  'exclude-outbound-udp-ports-for-uids': ['redirect.outbound.excludePortsForUIDs', 'udp'],
  'redirect-outbound-insert-instead-of-append': ['redirect.outbound.insertRedirectInsteadOfAppend', 'switch'],
  'redirect-dns': ['redirect.dns.enabled', 'switch'],
  'redirect-all-dns-traffic': ['redirect.dns.captureAll', 'switch'],
  'redirect-dns-port': ['redirect.dns.port', 'number'],
  vnet: ['redirect.vnet.networks', 'list'],
  'drop-invalid-packets': ['dropInvalidPackets', 'switch'],
  'iptables-logs': ['log.enabled', 'switch'],
}

/** How a complaint names a value. */
export const flagOf = (path: string): string => `--${Object.keys(paths).find((name) => paths[name]?.[0] === path)}`

/** What cannot be read stays as it is, for whoever asks for the value. */
function valueIn(kind: Kind, text: string, { boolean }: Kit): unknown {
  if (kind === 'number') return /^\d+$/.test(text) ? Number(text) : text
  if (kind === 'text') return text
  try {
    const on = boolean(text)
    return kind === 'switch' ? on : on ? 'dualstack' : 'ipv4'
  } catch {
    return text
  }
}

const lists: ReadonlyMap<Kind, string> = new Map([
  ['list', ''],
  ['tcp', 'tcp:'],
  ['udp', 'udp:'],
])

/** A switch has its value behind =, and the older one for IPv6 is also written with a blank. */
function textOf(kind: Kind, value: string | undefined, next: string): string {
  if (value !== undefined) return value
  if (kind === 'switch' || (kind === 'family' && !/^(true|false)$/.test(next))) return 'true'
  return next
}

/** It prints its help, and writes no rules. */
export const wantsHelp = ({ args }: Container): boolean => args.some((word) => word === '-h' || word === '--help')

const namesFile = (word: string): boolean => /^--?config(?:-file)?(?:=|$)/.test(word)

/** The list at the path, which is new where there was none. */
function listAt(tree: Map<string, unknown>, path: string): unknown[] {
  const before = tree.get(path)
  const list: unknown[] = Array.isArray(before) ? before : []
  tree.set(path, list)
  return list
}

/** undefined: Kuma gave it a file instead, or it has no arguments at all and nobody knows. `old`: flags of Kuma 2.8 and before count; else they are told to `warn`. */
export function treeOfFlags({ args }: Container, kit: Kit, old: boolean, warn: (message: string) => void): Tree | undefined {
  const tree = new Map<string, unknown>()
  const ignored = new Set<string>()
  for (const [index, word] of args.entries()) {
    const [, name = '', value] = /^--?([a-z0-9-]+)(?:=(.*))?$/s.exec(word) ?? []
    const known = Object.hasOwn(paths, name) ? paths[name] : undefined
    if (known === undefined) continue
    const [path, kind] = known
    const text = textOf(kind, value, args[index + 1] ?? '')
    const prefix = lists.get(kind)
    if ((kind === 'tcp' || kind === 'udp') && !old) ignored.add(name)
    else if (prefix === undefined) tree.set(path, valueIn(kind, text, kit))
    else listAt(tree, path).push(`${prefix}${text}`)
  }
  for (const name of ignored) warn(`container kuma-init: --${name}: it is ignored: ${removed}`)
  return tree.size === 0 && (args.length === 0 || args.some(namesFile)) ? undefined : tree
}
