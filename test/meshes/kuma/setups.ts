/** The fixed set-ups of Kuma: what its annotations and its injector's configuration make of pods of every kind, with proxies that listen as Envoy may. */
import { stringify } from 'yaml'
import type { MeshSet, MeshSetup } from '../../parity/mesh.ts'
import type { Written } from './config.ts'
import { traffic } from './reading.ts'

const set = (annotations: Readonly<Record<string, string>> = {}, options: MeshSet['options'] = {}, nameservers?: readonly string[]): MeshSet => ({
  pod: { annotations, containers: [{ name: 'app' }, { name: 'kuma-sidecar', uid: 5678, gid: 5678 }], ...(nameservers && { nameservers }) },
  options,
})

const injected = (written: Written) => set({ [traffic('transparent-proxy-config')]: stringify(written) })

const noDns = { 'kuma.io/builtin-dns': 'disabled' }
/** TCP where DNS is what matters: port 53, and one connection that shows the rest is as before. */
const queries = /:53$|(app|proxy) -> (VIP6|mapped VIP|VIP):80$/

const excluded = {
  [traffic('exclude-outbound-ports')]: '8080, 22',
  [traffic('exclude-inbound-ports')]: '8080',
  [traffic('exclude-outbound-ips')]: '10.97.0.10,10.88.0.0/24,fd00:97::/64',
  [traffic('exclude-inbound-ips')]: '10.77.0.30,fd00:77::30',
  [traffic('exclude-outbound-ports-for-uids')]: 'tcp:80,31000-31999:1000;udp:53:0-10',
}

export const kumaSetups: readonly MeshSetup[] = [
  { name: 'IPv4 pod, two listeners', kind: 'v4', mode: 'both', ...set(noDns), tcp: 'thorough' },
  { name: 'IPv4 pod, DNS', kind: 'v4', mode: 'both', ...set(), tcp: queries, udp: { flavours: ['v4', 'mapped'], ports: 16_000 } },
  { name: 'dual pod, two listeners', kind: 'dual', mode: 'both', ...set(noDns), tcp: 'thorough' },
  { name: 'dual pod, DNS', kind: 'dual', mode: 'both', ...set(), tcp: queries, udp: { flavours: ['v4', 'v6', 'mapped'], ports: 17_000 } },
  {
    name: 'dual pod, DNS of servers',
    kind: 'dual',
    mode: 'both',
    ...set({}, { captureDns: 'servers' }, ['10.96.0.10']),
    tcp: queries,
    udp: { flavours: ['v4', 'v6'], ports: 18_000 },
  },
  { name: 'v6 pod, DNS', kind: 'v6', mode: 'both', ...set(), tcp: queries, udp: { flavours: ['v6', 'mapped'], ports: 19_000 } },
  {
    name: 'v4 rules, dual pod',
    kind: 'dual',
    mode: 'both',
    ...set({ 'kuma.io/transparent-proxying-ip-family-mode': 'ipv4', ...noDns }),
    tcp: 'plain',
  },
  { name: 'dual pod, exclusions', kind: 'dual', mode: 'both', ...set(excluded), tcp: 'plain' },
  { name: 'gateway', kind: 'dual', mode: 'both', ...set({ 'kuma.io/gateway': 'enabled', ...noDns }), tcp: 'plain' },
  {
    name: 'injected',
    kind: 'dual',
    mode: 'both',
    ...injected({
      kumaDPUser: '5678',
      redirect: {
        dns: { enabled: true, captureAll: true },
        inbound: { excludePorts: [9001, 9902] },
        outbound: { includePorts: [80, 53], insertRedirectInsteadOfAppend: true },
      },
    }),
    tcp: 'plain',
  },
  { name: 'version 2.9, DNS', kind: 'dual', mode: 'both', ...set({}, { version: '2.9' }), tcp: queries },
  { name: 'version 2.7, inbound of IPv6', kind: 'dual', mode: 'both', ...set(noDns, { version: '2.7' }), tcp: 'plain' },
]
