/** The flags of the container kuma-init, which Kuma's injector has made from annotations and from its own configuration. */
import type { Container, Kit } from '../../core/plugin.ts'
import type { Tree } from './tree.ts'

type Kind = 'switch' | 'number' | 'text' | 'list'

/** Flags that decide on rules, by what they are in Kuma's configuration. */
const paths: Readonly<Record<string, readonly [path: string, kind: Kind]>> = {
  'kuma-dp-user': ['kumaDPUser', 'text'],
  'kuma-dp-uid': ['kumaDPUser', 'text'],
  'ip-family-mode': ['ipFamilyMode', 'text'],
  'redirect-outbound-port': ['redirect.outbound.port', 'number'],
  'redirect-inbound': ['redirect.inbound.enabled', 'switch'],
  'redirect-inbound-port': ['redirect.inbound.port', 'number'],
  'redirect-inbound-port-v6': ['redirect.inbound.portIPv6', 'number'],
  'exclude-inbound-ports': ['redirect.inbound.excludePorts', 'text'],
  'exclude-outbound-ports': ['redirect.outbound.excludePorts', 'text'],
  'exclude-inbound-ips': ['redirect.inbound.excludePortsForIPs', 'list'],
  'exclude-outbound-ips': ['redirect.outbound.excludePortsForIPs', 'list'],
  'exclude-outbound-ports-for-uids': ['redirect.outbound.excludePortsForUIDs', 'list'],
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
  if (kind !== 'switch') return text
  try {
    return boolean(text)
  } catch {
    return text
  }
}

/** undefined: it has no flag that decides on rules; then Kuma gave it a file. */
export function treeOfFlags({ args }: Container, kit: Kit): Tree | undefined {
  const tree = new Map<string, unknown>()
  for (const [index, word] of args.entries()) {
    const [, name = '', value] = /^--?([a-z0-9-]+)(?:=(.*))?$/s.exec(word) ?? []
    const known = Object.hasOwn(paths, name) ? paths[name] : undefined
    if (known === undefined) continue
    const [path, kind] = known
    const text = value ?? (kind === 'switch' ? 'true' : (args[index + 1] ?? ''))
    const before = tree.get(path)
    tree.set(path, kind === 'list' ? [...(Array.isArray(before) ? before : []), text] : valueIn(kind, text, kit))
  }
  return tree.size === 0 ? undefined : tree
}
