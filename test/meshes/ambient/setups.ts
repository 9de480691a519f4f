/** The fixed set-ups of ambient: pods of every kind, ztunnels that listen in every way, DNS or not, a gateway, probes. */
import type { MeshSetup } from '../../parity/mesh.ts'
import { address } from '../../parity/shape.ts'
import { names } from './reading.ts'

const plain = { pod: {}, options: {} } as const
const gateway = { pod: { annotations: { [names.ingress]: 'true', [names.dns]: 'false' } }, options: {} } as const
/** Sources of probes that the test's network has. */
const probes = { pod: {}, options: { probeAddress: address.SRC2ND, probeAddress6: address.SRC2ND6 } } as const
/** TCP where DNS is what matters: port 53, and one connection that shows the rest is as before. */
const queries = /:53$|(app|proxy) -> (VIP6|mapped VIP|VIP):80$/

export const setups: readonly MeshSetup[] = [
  { name: 'ambient v4 pod', kind: 'v4', mode: 'dual', ...plain, tcp: 'thorough', udp: { flavours: ['v4', 'mapped'], ports: 16_000 } },
  { name: 'ambient dual pod', kind: 'dual', mode: 'dual', ...plain, tcp: 'thorough' },
  {
    name: 'ambient dual pod, two listeners',
    kind: 'dual',
    mode: 'both',
    ...plain,
    tcp: queries,
    udp: { flavours: ['v4', 'v6', 'mapped'], ports: 17_000 },
  },
  { name: 'ambient dual pod, loopback proxy', kind: 'dual', mode: 'loopbacks', ...plain, tcp: 'plain' },
  {
    name: 'ambient dual pod, no DNS proxy',
    kind: 'dual',
    mode: 'nodns',
    ...plain,
    tcp: queries,
    udp: { flavours: ['v4', 'v6'], ports: 18_000, unanswered: true },
  },
  { name: 'ambient dual pod, probes', kind: 'dual', mode: 'both', ...probes, tcp: 'plain' },
  { name: 'ambient dual pod, gateway', kind: 'dual', mode: 'both', ...gateway, tcp: 'plain', udp: { flavours: ['v4'], ports: 19_000 } },
  { name: 'ambient dual pod, IPv4 only', kind: 'dual', mode: 'both', pod: {}, options: { ipv6: false }, tcp: 'plain' },
  { name: 'ambient v6 pod', kind: 'v6', mode: 'v6only', ...plain, tcp: 'plain', udp: { flavours: ['v6'], ports: 20_000 } },
]
