/** What other network namespaces have. The addon's own thread enters them; nothing is changed there (loopback.ts does that) and no program is run. */

import { addon, type Descriptor, type NamespaceDump, type Watch } from './addon.ts'
import type { BpfMap, Handle, Listener, NamespaceState, Namespaces, NativeError } from './api.ts'
import { descriptorOf, nativeError } from './handles.ts'
import { LISTENER_REQUESTS, listeners, NETLINK_SOCK_DIAG } from './listeners.ts'
import { NAT_REQUESTS, NETLINK_NETFILTER, natRedirects } from './nftables.ts'
import { addresses, linkNames, NETLINK_ROUTE, routes, STATE_REQUESTS } from './rtnetlink.ts'
import { rules } from './rules.ts'
import { usersOf } from './users.ts'

/** What a kernel without nf_tables answers: no such netlink protocol, no such subsystem. */
const NO_NFTABLES = ['EPROTONOSUPPORT', 'EOPNOTSUPP', 'EINVAL']
const EBADF = 9
const ENOPROTOOPT = 92

function reply(dump: NamespaceDump, index: number): Buffer {
  return dump.replies[index] ?? Buffer.alloc(0)
}

/**
 * What was read last, by cookie. Namespaces are read again and again and hardly ever change: an answer with the same bytes is not decoded again, and
 * the same object is returned.
 */
const known = new Map<bigint, { readonly dump: NamespaceDump; readonly state: NamespaceState }>()
const MOST_KNOWN = 4096

async function stateOf(path: string, dump: NamespaceDump): Promise<NamespaceState> {
  const before = known.get(dump.cookie)
  const users = dump.users === 0 ? undefined : await usersOf(path, dump)
  if (before?.state.users === users && before?.dump.replies.every((bytes, index) => bytes.equals(reply(dump, index)))) return before.state
  const names = linkNames(reply(dump, 0))
  const state = {
    cookie: dump.cookie,
    inode: dump.inode,
    interfaces: Array.from(names, ([index, name]) => ({ index, name })),
    ...(users && { users }),
    addresses: addresses(reply(dump, 1), names),
    routes: routes(reply(dump, 2)),
    rules: rules(reply(dump, 3)),
  }
  if (known.size >= MOST_KNOWN) known.clear() // most are of namespaces that are gone
  known.set(dump.cookie, { dump, state })
  return state
}

async function ask(path: string, protocol: number, requests: readonly Uint8Array[]): Promise<NamespaceDump> {
  const [answer] = (await addon().namespaceDump([path], protocol, requests, undefined)) as [NamespaceDump | Error]
  if (answer instanceof Error) throw answer
  return answer
}

async function nftRedirects(path: string): Promise<number[]> {
  try {
    const dump = await ask(path, NETLINK_NETFILTER, NAT_REQUESTS)
    return natRedirects(reply(dump, 0), reply(dump, 1))
  } catch (error) {
    if (NO_NFTABLES.includes((error as NativeError).code)) return []
    throw error
  }
}

const noCookie = (path: string): NativeError => nativeError(`read network namespace ${path}`, ENOPROTOOPT, 'the kernel does not tell its cookie')

class WatchHandle implements Handle {
  readonly #watch: Watch

  constructor(socket: Descriptor, onChange: () => void) {
    this.#watch = addon().watchOpen(socket, onChange)
  }

  get fd(): number {
    const fd = addon().watchNumber(this.#watch)
    if (fd < 0) throw nativeError('use watch', EBADF, 'the handle is closed')
    return fd
  }

  get closed(): boolean {
    return addon().watchNumber(this.#watch) < 0
  }

  close(): void {
    addon().watchClose(this.#watch)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

export const namespaces: Namespaces = {
  async inodes(paths) {
    return (await addon().namespaceInodes(paths)).map((inode) => inode || undefined)
  },

  async inspect(paths: readonly string[], cookies?: BpfMap): Promise<(NamespaceState | NativeError)[]> {
    const answers = await addon().namespaceDump(paths, NETLINK_ROUTE, STATE_REQUESTS, cookies && descriptorOf(cookies))
    return Promise.all(
      answers.map((answer, index) => {
        const path = paths[index] ?? ''
        if (answer instanceof Error) return answer as NativeError
        return answer.cookie === 0n ? noCookie(path) : stateOf(path, answer)
      }),
    )
  },

  async listeners(path: string): Promise<Listener[]> {
    const dump = await ask(path, NETLINK_SOCK_DIAG, LISTENER_REQUESTS)
    return dump.replies.flatMap((answer) => listeners(answer, dump.inode))
  },

  async hasNatRules(path: string): Promise<boolean> {
    return (await namespaces.natPorts(path)) !== undefined
  },

  async natPorts(path: string): Promise<number[] | undefined> {
    const ports = [...(await addon().namespaceLegacyRules(path)), ...(await nftRedirects(path))]
    return ports.length === 0 ? undefined : [...new Set(ports)].filter((port) => port !== 0).sort((a, b) => a - b)
  },

  async iterate(path, iterator) {
    return addon().namespaceIterate(path, descriptorOf(iterator))
  },

  async watch(path, onChange) {
    if (typeof onChange !== 'function') throw new TypeError('onChange must be a function')
    const socket = await addon().namespaceSocket(path)
    try {
      return new WatchHandle(socket, onChange)
    } finally {
      addon().descriptorClose(socket) // the watch has taken it, or could not
    }
  },
}
