// The linkerd plugin against a second reading of the mesh, for any pod: the same pods refused, the same warnings, the same verdict for each connection.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import fc from 'fast-check'
import type { PodFacts } from '../../core/describe.ts'
import { decide } from '../../core/testing/decide.ts'
import { linkerdSets } from '../meshes/linkerd/random.ts'
import { readPod } from '../meshes/linkerd/reading.ts'
import { type LinkerdRules, linkerdDefaults, linkerdTables } from '../meshes/linkerd/rules.ts'
import { outputTable, preroutingTable } from '../meshes/linkerd/tables.ts'
import type { MeshSet } from '../parity/mesh.ts'
import type { FirstPacket } from '../parity/tables.ts'
import { ask, rulesFor } from './linkerd-pods.ts'
import { compileOne, container } from './pods.ts'
import { type Connection, Reference } from './reference.ts'

const [own, own6] = ['10.9.0.2', 'fd09::2']

const factsOf = ({ pod }: MeshSet): Partial<PodFacts> => {
  const space = typeof pod.namespace === 'object' ? pod.namespace : { name: pod.namespace ?? 'default' }
  return {
    namespace: { labels: {}, annotations: {}, ...space },
    labels: pod.labels ?? {},
    annotations: pod.annotations ?? {},
    containers: (pod.containers ?? []).map(({ name, ...more }) => container(name, more as object)),
    addresses: [own, own6],
  }
}

const ofLo = (to: string) => to.startsWith('127.') || ['::1', own, own6].includes(to)

const anyPacket: fc.Arbitrary<FirstPacket> = fc
  .record({
    proto: fc.constantFrom('tcp' as const, 'tcp' as const, 'udp' as const),
    to: fc.constantFrom('10.96.0.10', '10.77.0.30', own, '127.0.0.1', '127.0.0.5', '2001:db8::9', own6, '::1'),
    port: fc.oneof(fc.constantFrom(22, 53, 80, 443, 8080, 9999, 4140, 4143, 4190, 4191, 4567, 4568, 0, 65535), fc.nat(65535)),
    uid: fc.constantFrom(0, 1000, 2102, 2000, 1000810000),
    gid: fc.constantFrom(0, 1000, 2102, 8),
  })
  .map((packet) => ({ ...packet, device: ofLo(packet.to) ? 'lo' : 'eth0' }))

const clients = {
  ipv4: ['10.77.0.30', '10.77.0.31', '10.97.0.11', '10.96.0.10', '127.255.255.254', '128.0.0.1', '192.168.0.1'],
  ipv6: ['fd00:77::30', 'fd00:78::1', '2001:db8::9'],
} as const
const clientOf = (to: string, salt: number) => {
  const list = to.includes(':') ? clients.ipv6 : clients.ipv4
  return list[salt % list.length] as string
}

/** A port that the rules are about, or one next to it. */
function aimed(packet: FirstPacket, rules: LinkerdRules, salt: number): FirstPacket {
  const ports = [...rules.inboundIgnored, ...rules.outboundIgnored].flatMap((range) => range.split('-').map(Number)).concat(rules.redirected)
  const port = ports[salt % (ports.length * 2 || 1)]
  return port === undefined ? packet : { ...packet, port: Math.max(0, Math.min(65535, port + ((salt % 3) - 1))) }
}

group('the linkerd plugin', () => {
  it('agrees with the second reading: what is refused, what is warned of, and each connection', () => {
    const seen = { enrolled: 0, refused: 0, warned: 0 }
    fc.assert(
      fc.property(linkerdSets, fc.array(fc.tuple(anyPacket, fc.nat(1000)), { minLength: 40, maxLength: 40 }), (set, packets) => {
        const [reading, answer] = [readPod(set), ask(factsOf(set), set.options)]
        if ('refused' in reading) {
          seen.refused++
          assert.ok('refused' in answer, `${reading.refused}: ${JSON.stringify(answer)}`)
          assert.ok(answer.refused.includes(reading.refused), `${reading.refused}: ${answer.refused}`)
          return
        }
        assert.ok('rules' in reading && 'interception' in answer, JSON.stringify(answer))
        seen.enrolled++
        const { rules, warned = [] } = reading
        for (const name of warned)
          assert.equal(answer.warnings.filter((warning) => warning.includes(name)).length, 1, `${name}: ${answer.warnings.join()}`)
        assert.equal(answer.warnings.length, warned.length, answer.warnings.join())
        if (warned.length > 0) seen.warned++
        const { interception } = answer
        const reference = new Reference(compileOne(interception))
        for (const [drawn, salt] of packets) {
          const packet = aimed(drawn, rules, salt)
          const { device, bound: _, ...connection } = packet
          const six = packet.to.includes(':')
          const place = (then: string) => (interception.targets?.[then] === undefined ? then : String(interception.targets[then]?.port))
          const expected = outputTable(rules, packet)
          const text = JSON.stringify(packet)
          assert.equal(place(decide(interception, { ...connection, interface: device }, [own, own6]).then), expected, `outbound ${text}`)
          const at = (port: string) => (port === 'pass' ? port : `${six ? '[::1]' : '127.0.0.1'}:${port}`)
          const outbound: Connection = { netns: 1n, direction: 'outbound', ...connection }
          assert.equal(reference.decide(outbound).verdict, at(expected), `compiled outbound ${text}`)
          const from = clientOf(packet.to, salt)
          const inbound = preroutingTable(rules, { ...packet, device: 'eth0', bound: from })
          const { uid: _uid, gid: _gid, ...stranger } = connection
          assert.equal(
            place(decide(interception, { ...stranger, direction: 'inbound', from, interface: 'eth0' }, [own, own6]).then),
            inbound,
            `inbound ${text} from ${from}`,
          )
          assert.equal(reference.decide({ ...outbound, direction: 'inbound', from }).verdict, at(inbound), `compiled inbound ${text} from ${from}`)
        }
      }),
      { numRuns: 400, seed: 20_261_126 },
    )
    assert.ok(seen.enrolled > 150 && seen.refused > 10 && seen.warned > 50, JSON.stringify(seen))
  })

  it('decides as measured under the rules of linkerd-init', () => {
    const reference = new Reference(compileOne(rulesFor({}, { disableIPv6: false, proxyGid: 2102 })))
    const callers = { app: { uid: 1000, gid: 1000 }, proxy: { uid: 2102, gid: 1000 }, group: { uid: 0, gid: 2102 } }
    const [out, out6, pass] = ['127.0.0.1:4140', '[::1]:4140', 'pass']
    // destination, port, what the app gets, what the proxy and its group get
    const table: readonly (readonly [string, number, string, string])[] = [
      ['10.96.0.10', 9999, out, pass],
      ['2001:db8::9', 9999, out6, pass],
      ['10.96.0.10', 53, out, pass],
      ['1.1.1.1', 20001, out, pass],
      ['10.96.0.10', 4567, pass, pass],
      ['10.96.0.10', 4190, out, pass],
      [own, 8080, pass, pass],
      [own6, 8080, pass, pass],
      ['127.0.0.1', 8080, pass, pass],
      ['127.0.0.5', 8080, pass, pass],
    ]
    for (const [to, port, app, proxy] of table) {
      for (const [caller, as] of Object.entries(callers)) {
        const { verdict } = reference.decide({ netns: 1n, direction: 'outbound', proto: 'tcp', to, port, ...as })
        assert.equal(verdict, caller === 'app' ? app : proxy, `${caller} -> ${to}:${port}`)
      }
    }
    for (const [port, verdict] of [
      [8080, '127.0.0.1:4143'],
      [4143, '127.0.0.1:4143'],
      [4140, '127.0.0.1:4143'],
      [4190, pass],
      [4191, pass],
      [4568, pass],
    ] as const) {
      const inbound: Connection = { netns: 1n, direction: 'inbound', proto: 'tcp', to: own, from: '10.9.0.9', port, uid: 0, gid: 0 }
      assert.equal(reference.decide(inbound).verdict, verdict, `remote -> pod:${port}`)
    }
  })
})

group('the second reading of Linkerd', () => {
  it('puts ports into rules of fifteen, where a range is two', () => {
    const ports = (ranges: readonly string[]) =>
      [...linkerdTables({ ...linkerdDefaults, inboundIgnored: ranges }).v4.matchAll(/PROXY_INIT_REDIRECT -p tcp -m multiport --dports (\S+)/g)].map(
        ([, text]) => text,
      )
    const numbers = Array.from({ length: 16 }, (_, index) => String(index + 1))
    assert.deepEqual(ports(numbers), ['1,2,3,4,5,6,7,8,9,10,11,12,13,14,15', '16'])
    assert.deepEqual(ports([...numbers.slice(0, 14), '20-29', '30']), ['1,2,3,4,5,6,7,8,9,10,11,12,13,14', '20:29,30'])
    assert.deepEqual(ports([...numbers.slice(0, 13), '20-29', '30']), ['1,2,3,4,5,6,7,8,9,10,11,12,13,20:29', '30'])
    assert.deepEqual(ports(['7-7', '0']), ['7,0'])
  })

  it('writes the chains in the order of linkerd-init', () => {
    const { v4, v6 = '' } = linkerdTables({ ...linkerdDefaults, proxyGid: 2102, subnets: ['10.0.0.0/8', 'fd00::/8'], ipv6: true })
    const bare = (text: string) => text.replaceAll(/ -m comment --comment "[^"]*"/g, '').split('\n')
    assert.deepEqual(bare(v4), [
      '*nat',
      '-N PROXY_INIT_REDIRECT',
      '-N PROXY_INIT_OUTPUT',
      '-A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190,4191,4567,4568 -j RETURN',
      '-A PROXY_INIT_REDIRECT -p all -s 10.0.0.0/8 -j RETURN',
      '-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-ports 4143',
      '-A PREROUTING -j PROXY_INIT_REDIRECT',
      '-A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -j RETURN',
      '-A PROXY_INIT_OUTPUT -m owner --gid-owner 2102 -j RETURN',
      '-A PROXY_INIT_OUTPUT -o lo -j RETURN',
      '-A PROXY_INIT_OUTPUT -p tcp -m multiport --dports 4567,4568 -j RETURN',
      '-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-ports 4140',
      '-A OUTPUT -j PROXY_INIT_OUTPUT',
      'COMMIT',
      '',
    ])
    assert.ok(v6.includes('-s fd00::/8 ') && !v6.includes('10.0.0.0/8'))
  })
})
