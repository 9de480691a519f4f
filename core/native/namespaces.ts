/** What other network namespaces have. The addon's own thread enters them; nothing is changed there and no program is run. */

import { addon, type NamespaceDump } from './addon.ts'
import type { Listener, NamespaceState, Namespaces, NativeError } from './api.ts'
import { descriptorOf } from './handles.ts'
import { LISTENER_REQUESTS, listeners, NETLINK_SOCK_DIAG } from './listeners.ts'
import { hasNatRule, NAT_REQUESTS, NETLINK_NETFILTER } from './nftables.ts'
import { addresses, linkNames, NETLINK_ROUTE, routes, STATE_REQUESTS } from './rtnetlink.ts'

/** What a kernel without nf_tables answers: no such netlink protocol, no such subsystem. */
const NO_NFTABLES = ['EPROTONOSUPPORT', 'EOPNOTSUPP', 'EINVAL']

function reply(dump: NamespaceDump, index: number): Buffer {
  return dump.replies[index] ?? Buffer.alloc(0)
}

/**
 * What was read last, by cookie. Namespaces are read every second and hardly ever change: an answer with the same bytes is not decoded again, and
 * the same object is returned.
 */
const known = new Map<bigint, { readonly dump: NamespaceDump; readonly state: NamespaceState }>()
const MOST_KNOWN = 4096

function stateOf(dump: NamespaceDump): NamespaceState {
  const before = known.get(dump.cookie)
  if (before?.dump.replies.every((bytes, index) => bytes.equals(reply(dump, index)))) return before.state
  const names = linkNames(reply(dump, 0))
  const state = { cookie: dump.cookie, inode: dump.inode, addresses: addresses(reply(dump, 1), names), routes: routes(reply(dump, 2)) }
  if (known.size >= MOST_KNOWN) known.clear() // most are of namespaces that are gone
  known.set(dump.cookie, { dump, state })
  return state
}

async function ask(path: string, protocol: number, requests: readonly Uint8Array[]): Promise<NamespaceDump> {
  const [answer] = (await addon().namespaceDump([path], protocol, requests)) as [NamespaceDump | Error]
  if (answer instanceof Error) throw answer
  return answer
}

async function hasNftRules(path: string): Promise<boolean> {
  try {
    const dump = await ask(path, NETLINK_NETFILTER, NAT_REQUESTS)
    return hasNatRule(reply(dump, 0), reply(dump, 1))
  } catch (error) {
    if (NO_NFTABLES.includes((error as NativeError).code)) return false
    throw error
  }
}

export const namespaces: Namespaces = {
  async inspect(paths: readonly string[]): Promise<(NamespaceState | NativeError)[]> {
    const answers = await addon().namespaceDump(paths, NETLINK_ROUTE, STATE_REQUESTS)
    return answers.map((answer) => (answer instanceof Error ? (answer as NativeError) : stateOf(answer)))
  },

  async listeners(path: string): Promise<Listener[]> {
    const dump = await ask(path, NETLINK_SOCK_DIAG, LISTENER_REQUESTS)
    return dump.replies.flatMap(listeners)
  },

  async hasNatRules(path: string): Promise<boolean> {
    return (await addon().namespaceLegacyRules(path)) > 0 || (await hasNftRules(path))
  },

  async iterate(path, iterator) {
    return addon().namespaceIterate(path, descriptorOf(iterator))
  },
}
