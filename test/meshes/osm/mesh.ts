/** The sidecars of OSM, osm-edge and FSM for the differential suite. */
import type { Interest, MeshUnderTest } from '../../parity/mesh.ts'
import { few } from '../../parity/random/worth.ts'
import { osmMeasured } from './measured.ts'
import { osmSets } from './random.ts'
import { readPod } from './reading.ts'
import { type OsmRules, osmTables } from './rules.ts'
import { osmSetups } from './setups.ts'
import { osmOutput, osmPrerouting } from './tables.ts'

const dnsServer = '127.0.0.153'

function interest({ uid, dns, rangeExclusions, rangeInclusions, ...rules }: OsmRules): Interest {
  return {
    who: [
      { name: `uid ${uid}`, as: { uid, gid: 1000 } },
      { name: 'almost sidecar', as: { uid: uid + 1, gid: uid } },
    ],
    networks: [...few(rangeExclusions, 4), ...few(rangeInclusions, 4), ...(dns ? [`${dnsServer}/32`] : [])],
    sources: [],
    outboundPorts: [15000, ...few(rules.outboundPortExclusions, 6)], // the mesh has a rule about 15000 that decides nothing
    inboundPorts: [...few(rules.inboundPortExclusions, 6), ...few(rules.ownPorts)],
    nameservers: dns ? [dnsServer] : [],
    ipv6: false,
    udp: true,
  }
}

export const osmMesh: MeshUnderTest<OsmRules> = {
  name: 'osm',
  layout: {
    proxy: { uid: 1500, gid: 1500 },
    outboundPort: 15001,
    inboundPort: 15003,
    moreProxyPorts: [15101, 15103],
    dns: { port: 5300, address: dnsServer },
    ownPorts: [15000, 15010, 15901, 15904],
  },
  sets: osmSets,
  setups: osmSetups,
  measured: osmMeasured,
  read: readPod,
  tables: osmTables,
  output: osmOutput,
  prerouting: osmPrerouting,
  interest,
  ports: ({ outboundPort, inboundPort }) => ({ outbound: outboundPort, inbound: inboundPort }),
}
