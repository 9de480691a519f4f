/** Istio's sidecar for the differential suite. What Istio reads is in test/lab/istio-options.ts, what it writes in test/lab/istio-iptables.ts. */
import { type IstioRuleOptions, istioTables } from '../../lab/istio-iptables.ts'
import { type MeshOptions, readPod } from '../../lab/istio-options.ts'
import { istioLayout } from '../../parity/listeners.ts'
import type { Facts, Interest, MeshUnderTest, Reading, Who } from '../../parity/mesh.ts'
import { few } from '../../parity/random/worth.ts'
import { outputTable, preroutingTable } from '../../parity/tables.ts'
import { istioMeasured } from './measured.ts'
import { istioSets } from './random.ts'
import { istioSetups } from './setups.ts'

type Rules = Required<IstioRuleOptions>

/** Go's strconv.ParseBool knows these; what else is said counts as false. */
const isTruth = (text: string) => /^(?:[01tTfF]|true|TRUE|True|false|FALSE|False)$/.test(text)

/** Variables of the sidecar that Istio reads and cannot make anything of. */
function unreadable({ pod, options }: Facts, { dns }: Rules): readonly string[] {
  const env = pod.containers?.find(({ name }) => name === 'istio-proxy')?.env ?? {}
  const init = options.setup === 'init' ? ['DUAL_STACK', 'REDIRECT_DNS', ...(dns === false ? [] : ['CAPTURE_ALL_DNS'])] : []
  return ['INVALID_DROP', 'ISTIO_DUAL_STACK', 'ISTIO_META_DNS_CAPTURE', ...init].filter((name) => !isTruth(env[name] ?? 'false'))
}

/** What the mesh does as it was told, and what comes to nothing here or for want of something. */
function withoutEffect({ pod }: Facts, { dns, dropInvalid, ipv6, nameservers }: Rules): readonly string[] {
  const env = pod.containers?.find(({ name }) => name === 'istio-proxy')?.env ?? {}
  const drop = /^(?:[1tT]|true|TRUE|True)$/.test(env.INVALID_DROP ?? '') ? 'INVALID_DROP' : 'dropInvalid'
  const asked = nameservers.some((server) => ipv6 || !server.includes(':'))
  return [...(dropInvalid ? [drop] : []), ...(dns === 'servers' && !asked ? ['DNS is not captured'] : [])]
}

function read(facts: Facts): Reading<Rules> {
  const { pod, options, addresses } = facts
  const reading = readPod({ ...pod, annotations: pod.annotations ?? {}, containers: pod.containers ?? [], addresses }, options as MeshOptions)
  if (!('rules' in reading)) return reading
  const { rules } = reading
  // Packets of a virtual machine are forwarded by the pod: none of its sockets sees them.
  const [machine] = rules.rerouteInterfaces
  return machine === undefined ? { rules, warned: [...unreadable(facts, rules), ...withoutEffect(facts, rules)] } : { unsupported: machine }
}

const appIds = { uid: 1000, gid: 1000 }

function who({ proxyUids, proxyGids, ownerGroupsInclude, ownerGroupsExclude }: Rules): readonly Who[] {
  const sidecar = { uid: proxyUids[0] ?? 0, gid: proxyGids[0] ?? 0 }
  const groups = [...(ownerGroupsInclude === '*' ? [] : ownerGroupsInclude), ...ownerGroupsExclude]
  return [
    { name: 'sidecar', as: sidecar },
    { name: 'rootThenSidecar', as: sidecar, creator: { uid: 0, gid: 0 } },
    ...few(proxyUids).map((uid) => ({ name: `uid ${uid}`, as: { ...appIds, uid } })),
    ...few(proxyGids).map((gid) => ({ name: `gid ${gid}`, as: { ...appIds, gid } })),
    ...few(groups).map((gid) => ({ name: `group ${gid}`, as: { ...appIds, gid } })),
    { name: 'almost sidecar', as: { uid: sidecar.uid + 1, gid: sidecar.gid + 1 } },
  ]
}

/** iptables knows the answers of the DNS proxy by its ids: another one's would not come from the server that was asked. */
const knowsProxy = ({ dns, proxyUids, proxyGids }: Rules) =>
  !dns || proxyUids.includes(istioLayout.proxy.uid) || proxyGids.includes(istioLayout.proxy.gid)

const listOf = <T>(list: '*' | readonly T[]): readonly T[] => (list === '*' ? [] : list)

function interest(rules: Rules): Interest {
  const { outboundRangesInclude, outboundRangesExclude, loopbackCidr, nameservers } = rules
  const networks = [...few(listOf(outboundRangesInclude), 4), ...few(outboundRangesExclude, 4)]
  return {
    who: who(rules),
    networks: [loopbackCidr, ...networks],
    ruled: { networks },
    sources: [],
    outboundPorts: [...few(rules.outboundPortsInclude), ...few(rules.outboundPortsExclude)],
    inboundPorts: [...few(listOf(rules.inboundPortsInclude)), ...few(rules.inboundPortsExclude)],
    nameservers,
    ipv6: rules.ipv6,
    udp: knowsProxy(rules),
  }
}

export const istioMesh: MeshUnderTest<Rules> = {
  name: 'istio',
  layout: istioLayout,
  sets: istioSets,
  setups: istioSetups,
  measured: istioMeasured,
  read,
  tables: istioTables,
  output: outputTable,
  prerouting: preroutingTable,
  interest,
  ports: ({ outboundPort, inboundPort }) => ({ outbound: outboundPort, inbound: inboundPort }),
}
