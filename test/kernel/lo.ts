/** What is at the lo of a pod, as `ip` and `tc` tell it, and a plugin whose pods have something there. */
import { z } from 'zod'
import { currentLayout } from '../../core/datapath/layout.ts'
import { native } from '../../core/native/index.ts'
import type { AnyPlugin, Interception } from '../../core/plugin.ts'
import { using } from '../../core/scope.ts'
import { type LabPod, must } from '../lab/net.ts'

export const ids = 'fd6d:6572:6272:6964::/96'

export interface Options {
  readonly udp?: boolean
  readonly addresses?: readonly string[]
  /** describe throws */
  readonly broken?: boolean
}

export const plugin: AnyPlugin = {
  api: 1,
  name: 'lo',
  options: z.any(),
  selects: () => true,
  describe: (_, { udp = true, addresses = ['::6'], broken = false }: Options): Interception => {
    if (broken) throw new Error('broken')
    return {
      sets: { dns: { ports: [53] } },
      targets: { out: { port: 15001 }, names: { port: 15053 } },
      outbound: [
        ...(udp ? [{ name: 'names', when: { proto: 'udp', port: 'dns' }, then: 'names' } as const] : []),
        { name: 'all', when: { proto: 'tcp' }, then: 'out' },
      ],
      inbound: [],
      loopbackAddresses: addresses,
    }
  },
} as AnyPlugin

/** Lines of ip and tc in the pod that are about IPv6 addresses and local routes of lo. */
export async function lo(pod: LabPod) {
  const [addresses, routes] = await Promise.all([
    must(pod.command(['ip', '-6', '-o', 'address', 'show', 'dev', 'lo'])),
    must(pod.command(['ip', '-6', 'route', 'show', 'table', 'local', 'dev', 'lo'])),
  ])
  return {
    addresses: [...addresses.matchAll(/inet6 (\S+)/g)].map(([, address]) => address).filter((address) => address !== '::1/128'),
    route: routes.includes(`${ids} `),
    filter: (await native.loopback.filter({ path: pod.netns, inode: (await native.namespaces.inodes([pod.netns]))[0] ?? 0 })) !== undefined,
  }
}

export const qdisc = async (pod: LabPod): Promise<boolean> => (await must(pod.command(['tc', 'qdisc', 'show', 'dev', 'lo']))).includes('clsact')

/** A link with the program is at the lo of some pod of this datapath. */
export function isLinked(bpffs: string): boolean {
  const layout = currentLayout(bpffs)
  return layout.loopbacks().some((netns) => using(native.pinnedLink(layout.loopback(netns)), ({ info }) => info.ifindex === 1))
}
