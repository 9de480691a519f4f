/** Linkerd's proxy for the differential suite. */
import type { Interest, MeshUnderTest } from '../../parity/mesh.ts'
import { few } from '../../parity/random/worth.ts'
import { linkerdMeasured } from './measured.ts'
import { linkerdSets } from './random.ts'
import { readPod } from './reading.ts'
import { type LinkerdRules, linkerdTables } from './rules.ts'
import { linkerdSetups } from './setups.ts'
import { outputTable, preroutingTable } from './tables.ts'

/** Both ends of ranges. */
const ends = (ranges: readonly string[]): readonly number[] => [...new Set(ranges.flatMap((range) => range.split('-').map(Number)))]

const appIds = { uid: 1000, gid: 1000 }
/** A rule leaves out 0 and less; somebody else than root is tried then. */
const known = (id: number) => (id > 0 ? id : 2102)

function interest({ proxyUid, proxyGid, ...rules }: LinkerdRules): Interest {
  const [uid, gid] = [known(proxyUid), known(proxyGid)]
  // No packet of IPv6 has an address of IPv4 in IPv6 form.
  const subnets = rules.subnets.filter((subnet) => !subnet.startsWith('::ffff:'))
  return {
    who: [
      { name: `uid ${uid}`, as: { ...appIds, uid } },
      { name: `gid ${gid}`, as: { ...appIds, gid } },
      { name: 'almost proxy', as: { uid: uid + 1, gid: gid + 1 } },
      { name: 'rootThenProxy', as: { uid, gid: appIds.gid }, creator: { uid: 0, gid: 0 } },
    ],
    networks: few(subnets),
    ruled: { networks: [] },
    sources: few(subnets, 4),
    outboundPorts: few(ends(rules.outboundIgnored), 6),
    inboundPorts: [...few(ends(rules.inboundIgnored), 6), ...few(rules.redirected)],
    nameservers: [],
    ipv6: rules.ipv6,
    udp: true,
  }
}

export const linkerdMesh: MeshUnderTest<LinkerdRules> = {
  name: 'linkerd',
  layout: {
    proxy: { uid: 2102, gid: 2102 },
    outboundPort: 4140,
    inboundPort: 4143,
    moreProxyPorts: [5140, 5143],
    ownPorts: [4190, 4191],
  },
  sets: linkerdSets,
  setups: linkerdSetups,
  measured: linkerdMeasured,
  read: readPod,
  tables: linkerdTables,
  output: outputTable,
  prerouting: preroutingTable,
  interest,
  ports: ({ outboundPort, inboundPort }) => ({ outbound: outboundPort, inbound: inboundPort }),
}
