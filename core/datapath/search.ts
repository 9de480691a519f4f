/** Finds the proxies that listened before their pod was enrolled, and registers them: by the iterator, or in /proc where the kernel has none. */
import { proxyPortCodec } from '../contract.ts'
import type { Entry } from '../native/api.ts'
import type { Place } from './apply.ts'
import type { Datapath } from './datapath.ts'
import { processesOnce, registerListeners, type Unregistered } from './listeners.ts'

export interface ListenerSearch extends Disposable {
  /** Listeners of the pod that are there and could not be registered. Throws when the namespace cannot be looked into. */
  find(netns: bigint, place: Place): Promise<readonly Unregistered[]>
}

/** `proxyPorts`: entries of the map proxy_ports, which the pods are to have. */
export function listenerSearch(datapath: Datapath, proxyPorts: Iterable<Entry>): ListenerSearch {
  const { native, maps } = datapath
  const iterator = datapath.iterator()
  if (iterator !== undefined) {
    return {
      async find(_, { path }) {
        await native.namespaces.iterate(path, iterator)
        return []
      },
      [Symbol.dispose]: () => iterator.close(),
    }
  }
  const ports = new Map<bigint, Set<number>>()
  for (const { key } of proxyPorts) {
    const { netns, port } = proxyPortCodec.decode(key)
    const known = ports.get(netns)
    if (known === undefined) ports.set(netns, new Set([port]))
    else known.add(port)
  }
  const processes = processesOnce()
  return {
    async find(netns, { path, inode }) {
      const place = { netns, path, inode, ports: ports.get(netns) ?? new Set<number>() }
      return (await registerListeners(native, maps.listeners, place, processes)).missing
    },
    [Symbol.dispose]() {},
  }
}
