/** Random pods of Istio, the packets that its rules are about, and what its tables say to each. */
import fc from 'fast-check'
import { type AnyPlugin, describe } from '../../core/describe.ts'
import { plugins } from '../../core/plugins.ts'
import type { IstioRuleOptions } from '../lab/istio-iptables.ts'
import { readPod } from '../lab/istio-options.ts'
import { edges } from '../parity/networks.ts'
import { destinations, identities, inboundPorts, outboundPorts } from '../parity/random/connections.ts'
import { anyFamilies, type Families } from '../parity/random/families.ts'
import { type PodSet, podSets } from '../parity/random/pods.ts'
import { address } from '../parity/shape.ts'
import { outputTable, preroutingTable } from '../parity/tables.ts'
import type { Packet } from './decide.ts'
import type { Mesh, Sample } from './mutants.ts'

type Rules = Required<IstioRuleOptions>

/** Sets, and packets of each direction in a set: enough that what survives is equivalent, few enough for a unit test. */
const COUNT = { sets: 1500, outbound: 150, inbound: 40 }

const istio = plugins.istio as AnyPlugin

const own6 = 'fd00:77::20'
const own: readonly string[] = [address.POD, address.POD2ND, address.PODNET2, address.ANYIP, '::1', '::6', own6]

function deviceOf(to: string): string {
  if (to.startsWith('127.') || own.includes(to)) return 'lo'
  return to.startsWith('10.88.0.') ? 'net2' : 'eth0'
}

/** The same numbers in each run (Numerical Recipes' generator). */
function numbers(seed: number): <T>(list: readonly T[]) => T {
  let state = seed >>> 0
  return (list) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return list[Math.floor((state / 2 ** 32) * list.length)] as never
  }
}

const protocols = ['tcp', 'tcp', 'tcp', 'udp'] as const
const bounds = {
  ipv4: [undefined, undefined, undefined, '127.0.0.6', '127.0.0.1', address.POD],
  ipv6: [undefined, undefined, undefined, '::6', '::1', own6],
} as const

function destinations6({ outboundRangesInclude, outboundRangesExclude, nameservers }: Rules): readonly string[] {
  const ranges = [...(outboundRangesInclude === '*' ? [] : outboundRangesInclude.slice(0, 4)), ...outboundRangesExclude.slice(0, 4), ...nameservers]
  const found = ranges.filter((range) => range.includes(':')).flatMap(edges)
  return ['fd00:96::10', 'fd00:96::10', '2001:db8::9', '::', '::1', '::1', own6, own6, ...found]
}

function packetsOf(rules: Rules, salt: number): Packet[] {
  const pick = numbers(salt)
  const who = identities(rules).map(({ as, creator }) => creator ?? as)
  const ids = [...rules.proxyUids, 1000].flatMap((uid) => [...rules.proxyGids, 1000].map((gid) => ({ uid, gid })))
  const where = [destinations(rules), [...destinations(rules), ...rules.nameservers.filter((server) => !server.includes(':'))], destinations6(rules)]
  const ports = [...outboundPorts(rules), 53]
  const outbound = Array.from({ length: COUNT.outbound }, (): Packet => {
    const asked = pick(pick(where))
    const six = asked.includes(':')
    const bound = pick(six ? bounds.ipv6 : bounds.ipv4)
    const to = asked === '0.0.0.0' ? (bound ?? '127.0.0.1') : asked === '::' ? '::1' : asked
    const { uid, gid } = pick([...who, ...ids])
    const device = deviceOf(to)
    return { direction: 'outbound', proto: pick(protocols), to, port: pick(ports), uid, gid, device, ...(bound && { bound }) }
  })
  const inbound = Array.from({ length: COUNT.inbound }, (): Packet => {
    const [to, device] = [pick([address.POD, address.PODNET2, own6]), pick(['eth0', 'net2'])]
    return { direction: 'inbound', proto: pick(protocols), to, port: pick(inboundPorts(rules)), uid: 0, gid: 0, device }
  })
  return [...outbound, ...inbound]
}

const podAddresses = { ipv4: [address.POD, address.POD2ND, address.PODNET2], ipv6: [own6] }

/** The pod and its options, with what decides on IPv6 and DNS. */
function completed({ pod, options, ...rest }: PodSet, { families, env, nameservers, options: more }: Families): PodSet {
  const containers = pod.containers.map((each) => (each.name === 'istio-proxy' ? { ...each, env: { ...each.env, ...env } } : each))
  const addresses = families.flatMap((family) => podAddresses[family])
  return { ...rest, options: { ...options, ...more }, pod: { ...pod, containers, addresses, ...(nameservers && { nameservers }) } }
}

function sampleOf({ pod, options, salt }: PodSet): Sample | undefined {
  const about = JSON.stringify({ pod, options })
  const reading = readPod(pod, options)
  const facts = {
    name: 'pod',
    namespace: { name: 'default', labels: {}, annotations: {} },
    labels: {},
    annotations: { 'sidecar.istio.io/status': '{}', ...pod.annotations },
    containers: pod.containers.map((container) => ({ args: [], env: {}, ports: [], ...container })),
    addresses: pod.addresses ?? [],
    ...(pod.nameservers && { nameservers: pod.nameservers }),
  }
  const answer = describe(istio, facts, istio.options.parse(options))
  if ('rules' in reading && 'interception' in answer) {
    const { rules } = reading
    const expect = (packet: Packet) => (packet.direction === 'outbound' ? outputTable(rules, packet) : preroutingTable(rules, packet))
    return { interception: answer.interception, packets: packetsOf(rules, salt).map((packet) => ({ packet, expected: expect(packet) })), about }
  }
  const reroutes = 'rules' in reading && reading.rules.rerouteInterfaces.length > 0
  if ('interception' in answer || ('rules' in reading && !reroutes))
    throw new Error(`${about}\nIstio: ${JSON.stringify(reading)}\nthe plugin: ${JSON.stringify(answer)}`)
  return undefined
}

export const istioMesh: Mesh = {
  name: 'istio',
  *samples() {
    for (const [set, families] of fc.sample(fc.tuple(podSets(['nft']), anyFamilies), { numRuns: COUNT.sets, seed: 20_260_801 })) {
      const sample = sampleOf(completed(set, families))
      if (sample !== undefined) yield sample
    }
  },
}
