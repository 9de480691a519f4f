/** Istio's ambient mode, as the differential suite wants to know a mesh. */
import type { MeshUnderTest, Who } from '../../parity/mesh.ts'
import { measured } from './measured.ts'
import { ambientSets } from './random.ts'
import { readPod } from './reading.ts'
import { type AmbientRules, ambientTables } from './rules.ts'
import { setups } from './setups.ts'
import { outputTable, preroutingTable } from './tables.ts'

const app = { uid: 1000, gid: 1000 }
const hex = (mark: number) => `0x${mark.toString(16)}`

/** ztunnel's mark and that of the way back, under their mask and beside it; the suite has ztunnel's own, the next one and one beyond the mask. */
const marks = [0xfffff539, 0x538, 0x111, 0xa111, 0x112, 0xffffffff]
const marked: readonly Who[] = marks.map((mark) => ({ name: `app with mark ${hex(mark)}`, as: app, mark }))

export const ambientMesh: MeshUnderTest<AmbientRules> = {
  name: 'ambient',
  layout: {
    proxy: { uid: 0, gid: 1337 },
    mark: 0x539,
    outboundPort: 15001,
    inboundPort: 15006,
    dns: { port: 15053 },
    ownPorts: [15008],
  },
  sets: ambientSets,
  setups,
  measured,
  read: readPod,
  tables: ambientTables,
  output: outputTable,
  prerouting: preroutingTable,
  interest: ({ probe, probe6, ipv6 }) => ({
    who: [...marked, { name: 'ids of ztunnel without its mark', as: { uid: 0, gid: 1337 } }, { name: 'user 1337', as: { uid: 1337, gid: 1337 } }],
    networks: [probe, probe6],
    sources: [probe, probe6],
    outboundPorts: [53, 15008, 15053],
    ruled: { outboundPorts: [] },
    inboundPorts: [15008, 53],
    nameservers: [],
    ipv6,
    udp: true,
  }),
  ports: () => ({ outbound: 15001, inbound: 15006 }),
}
