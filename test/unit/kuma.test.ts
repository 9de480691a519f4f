// The kuma plugin against Kuma's tables, as it is written and as it is compiled. The judge is test/meshes/kuma/.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import fc from 'fast-check'
import { describe, type PodFacts } from '../../core/describe.ts'
import type { Interception } from '../../core/plugin.ts'
import { decide } from '../../core/testing/decide.ts'
import { kumaSets } from '../meshes/kuma/random.ts'
import { readPod } from '../meshes/kuma/reading.ts'
import type { KumaRules } from '../meshes/kuma/rules.ts'
import { outputTable, preroutingTable } from '../meshes/kuma/tables.ts'
import type { MeshSet } from '../parity/mesh.ts'
import type { FirstPacket } from '../parity/tables.ts'
import { interceptionFor, kuma } from './kuma-pods.ts'
import { compileOne, container } from './pods.ts'
import { Reference } from './reference.ts'

const [own, own6] = ['10.77.0.20', 'fd00:77::20']

const locals = ['127.0.0.1', '127.0.0.5', '127.0.0.6', '127.0.0.53', own, '::1', '::6', own6]

const anyPacket: fc.Arbitrary<FirstPacket> = fc
  .record({
    proto: fc.constantFrom('tcp' as const, 'tcp' as const, 'udp' as const),
    to: fc.constantFrom(...locals, '10.96.0.10', '10.97.0.10', '10.97.0.12', '10.77.0.30', '192.0.2.7', '8.8.8.8', 'fd00:96::10', '2001:db8::1'),
    port: fc.constantFrom(22, 53, 53, 80, 443, 1024, 1025, 8080, 9001, 9902, 9999, 15001, 15006, 31000, 31999),
    source: fc.constantFrom('', '', 'passthrough', 'loopback', 'own'),
    uid: fc.constantFrom(0, 999, 1000, 1000, 1999, 2000, 3000, 5678, 5678),
    gid: fc.constantFrom(1000, 5678),
  })
  .map(({ source, ...rest }) => {
    const six = rest.to.includes(':')
    const bound = { '': undefined, passthrough: six ? '::6' : '127.0.0.6', loopback: six ? '::1' : '127.0.0.1', own: six ? own6 : own }[source]
    return { ...rest, device: locals.includes(rest.to) ? 'lo' : 'eth0', ...(bound && { bound }) }
  })

const sources = fc.constantFrom('10.77.0.30', '10.96.0.10', '10.9.9.9', '192.0.2.7', 'fd00:96::10', '2001:db8::1')

function factsOf({ pod }: MeshSet): PodFacts {
  return {
    name: 'pod',
    namespace: { name: 'default', labels: {}, annotations: {} },
    labels: {},
    annotations: pod.annotations ?? {},
    containers: (pod.containers ?? []).map((each) => ({ ...container(each.name), ...each, ports: [] })),
    addresses: [own, own6],
    ...(pod.nameservers && { nameservers: pod.nameservers }),
  }
}

/** 'pass', or the port of the proxy. */
function portOf({ targets = {} }: Interception, then: string): string {
  return then === 'pass' ? then : String(targets[then]?.port)
}

/** The same by the plugin and by the reading; undefined: both refuse the pod. */
function both(set: MeshSet): { readonly rules: KumaRules; readonly interception: Interception } | undefined {
  const reading = readPod({ ...set, addresses: [own, own6] })
  const answer = describe(kuma, factsOf(set), kuma.options.parse(set.options))
  if ('refused' in reading) {
    assert.ok('refused' in answer, JSON.stringify(answer))
    assert.ok(answer.refused.includes(reading.refused), `${answer.refused}\nhas no ${reading.refused}`)
    return undefined
  }
  assert.ok('rules' in reading && 'interception' in answer, JSON.stringify(answer))
  for (const name of reading.warned ?? [])
    assert.equal(answer.warnings.filter((each) => each.includes(name)).length, 1, `${name}: ${answer.warnings}`)
  return { rules: reading.rules, interception: answer.interception }
}

group('the kuma plugin', () => {
  it('decides as the rules of nat OUTPUT and PREROUTING, for any pods and options', () => {
    let refused = 0
    fc.assert(
      fc.property(kumaSets, fc.array(anyPacket, { minLength: 40, maxLength: 40 }), sources, (set, packets, from) => {
        const made = both(set)
        if (made === undefined) {
          refused += 1
          return
        }
        const { rules, interception } = made
        for (const packet of packets) {
          const { bound, device, ...connection } = packet
          const out = decide(interception, { ...connection, ...(bound && { from: bound }), direction: 'outbound', interface: device }, [own, own6])
          assert.equal(portOf(interception, out.then), outputTable(rules, packet), `outbound ${JSON.stringify(packet)}`)
          if (packet.proto === 'udp' || from.includes(':') !== packet.to.includes(':')) continue
          const into = decide(interception, { direction: 'inbound', to: packet.to, port: packet.port, from, interface: 'eth0' }, [own, own6])
          assert.equal(
            portOf(interception, into.then),
            preroutingTable(rules, { ...packet, bound: from }),
            `inbound ${JSON.stringify(packet)} from ${from}`,
          )
        }
      }),
      { numRuns: 200 },
    )
    assert.ok(refused > 5, `${refused} were refused`)
  })

  it('decides the same when it is compiled', () => {
    fc.assert(
      fc.property(kumaSets, fc.array(anyPacket, { minLength: 30, maxLength: 30 }), sources, (set, packets, from) => {
        const made = both(set)
        if (made === undefined) return
        const reference = new Reference(compileOne(made.interception))
        const port = (verdict: string) => /:(\d+)$/.exec(verdict)?.[1] ?? verdict
        // The routes of that pod are others: its own addresses are 10.9.0.2 and fd09::2.
        const there = (address: string) => (address === own ? '10.9.0.2' : address === own6 ? 'fd09::2' : address)
        for (const packet of packets.filter(({ to, bound }) => ![to, bound].some((each) => each === own || each === own6))) {
          const { bound, device: _, ...connection } = packet
          const out = reference.decide({ netns: 1n, direction: 'outbound', ...connection, to: there(packet.to), ...(bound && { from: bound }) })
          assert.equal(port(out.verdict), outputTable(made.rules, packet), `outbound ${JSON.stringify(packet)}`)
          if (packet.proto === 'udp' || from.includes(':') !== packet.to.includes(':')) continue
          const into = reference.decide({ netns: 1n, direction: 'inbound', proto: 'tcp', to: packet.to, port: packet.port, from })
          assert.equal(port(into.verdict), preroutingTable(made.rules, { ...packet, bound: from }), `inbound ${JSON.stringify(packet)}`)
        }
      }),
      { numRuns: 100 },
    )
  })

  it('has the rules of a cluster by default', () => {
    const { outbound, inbound, targets, sets, loopbackAddresses, proxy } = interceptionFor({})
    assert.deepEqual(
      outbound.map(({ name, then }) => `${name}: ${then}`),
      [
        ...['DNS of the sidecar: pass', 'DNS: dns', 'DNS over TCP goes out: pass', 'sidecar hands over to the app: pass'],
        ...['sidecar calls its own pod: inbound', 'stays in the pod: pass', 'sidecar goes out: pass', 'everything else: outbound'],
      ],
    )
    assert.deepEqual(
      inbound.map(({ name, then }) => `${name}: ${then}`),
      ['excluded port: pass', 'everything else: inbound'],
    )
    assert.deepEqual(targets, { outbound: { port: 15001 }, inbound: { port: 15006 }, dns: { port: 15053 } })
    assert.deepEqual([sets?.['excluded inbound ports'], sets?.sidecar], [{ ports: [9001] }, { uid: [5678] }])
    assert.deepEqual([loopbackAddresses, proxy], [['::6'], { uid: 5678, gid: 5678 }])
  })

  it("takes kuma-validation's connection, before any sidecar is there", () => {
    const interception = interceptionFor({})
    for (const [from, to] of [
      ['127.0.0.1', '127.0.0.6'],
      ['::1', '::6'],
    ] as const) {
      const { then } = decide(interception, { to, from, port: 40_000, uid: 5678, gid: 5678, interface: 'lo' }, [own, own6])
      assert.equal(then, 'inbound')
    }
  })
})
