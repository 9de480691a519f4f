/** Kuma as the differential suite sees it. */
import type { Interest, MeshUnderTest, Who } from '../../parity/mesh.ts'
import { kumaMeasured } from './measured.ts'
import { kumaSets } from './random.ts'
import { readPod } from './reading.ts'
import { type KumaRules, kumaTables } from './rules.ts'
import { kumaSetups } from './setups.ts'
import { outputTable, preroutingTable } from './tables.ts'

const named = (uid: number, gid = uid): Who => ({ name: gid === uid ? `user ${uid}` : `user ${uid} of group ${gid}`, as: { uid, gid } })

/** First and last of each range, and those next to them. */
function users({ uid, outbound }: KumaRules): readonly number[] {
  const ends = outbound.users.flatMap(({ uids }) => uids.split(':').map(Number))
  const near = ends.slice(0, 8).flatMap((each) => [each, each - 1, each + 1])
  return [...new Set([uid, ...near])].filter((each) => each >= 0 && each <= 65535)
}

const portsOf = (rules: KumaRules) => rules.outbound.users.flatMap(({ ports }) => ports.split(/[,:]/).map(Number)).filter((port) => port > 0)

function interest(rules: KumaRules): Interest {
  const { uid, outbound, inbound, dns } = rules
  const ports = [...outbound.include, ...outbound.exclude, ...portsOf(rules)]
  const servers = typeof dns.servers === 'object' ? dns.servers : []
  return {
    // A group of the sidecar's number makes no sidecar.
    who: [...users(rules).map((each) => named(each)), named(1000, uid), named(uid, 1000)],
    networks: outbound.ips,
    sources: inbound.ips,
    outboundPorts: [...new Set([53, ...ports])],
    ruled: { outboundPorts: ports },
    inboundPorts: [...new Set([9001, 9902, 15001, 15006, ...inbound.include, ...inbound.exclude])],
    nameservers: servers,
    ipv6: rules.ipv6,
    // The zones of conntrack find the answers by the user of the DNS proxy and its port.
    udp: dns.servers === 'none' || (uid === kumaMesh.layout.proxy.uid && dns.port === 15053),
  }
}

export const kumaMesh: MeshUnderTest<KumaRules> = {
  name: 'kuma',
  layout: {
    proxy: { uid: 5678, gid: 5678 },
    outboundPort: 15001,
    inboundPort: 15006,
    moreProxyPorts: [16001, 16006, 15010],
    dns: { port: 15053 },
    ownPorts: [9001, 9902],
  },
  sets: kumaSets,
  setups: kumaSetups,
  measured: kumaMeasured,
  read: readPod,
  tables: kumaTables,
  output: outputTable,
  prerouting: preroutingTable,
  interest,
  ports: ({ outbound, inbound }) => ({ outbound: outbound.port, inbound: inbound.port }),
}
