// The plugin's rules beside the mesh's tables as pseudo code, for every option and everything that a rule looks at; and the tables' text.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import fc from 'fast-check'
import { ambientMesh } from '../meshes/ambient/mesh.ts'
import { names } from '../meshes/ambient/reading.ts'
import type { AmbientRules } from '../meshes/ambient/rules.ts'
import type { FirstPacket } from '../parity/tables.ts'
import { ambientPod, ask } from './ambient-pods.ts'
import { compileOne } from './pods.ts'
import { Reference } from './reference.ts'

const [own, own6] = ['10.9.0.2', 'fd09::2']
const usual: AmbientRules = { dns: true, ingress: false, ipv6: true, probe: '169.254.7.127', probe6: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' }

/** The set that has these rules. */
const setOf = ({ dns, ingress, ipv6, probe, probe6 }: AmbientRules) => ({
  facts: { annotations: { [names.dns]: String(dns), [names.ingress]: String(ingress) } },
  options: { ipv6, probeAddress: probe, probeAddress6: probe6 },
})

function* allRules(): Generator<AmbientRules> {
  for (const dns of [true, false])
    for (const ingress of [true, false])
      for (const ipv6 of [true, false])
        for (const [probe, probe6] of [
          [usual.probe, usual.probe6],
          ['192.0.2.9', '2001:db8::9'],
          [own, own6],
          ['127.0.0.1', '::1'],
        ] as const)
          yield { dns, ingress, ipv6, probe, probe6 }
}

const addresses = ['192.0.2.9', own, '127.0.0.1', '127.0.0.9', '169.254.7.127', '169.254.7.126', '2001:db8::9', own6, '::1', usual.probe6]
const isOwn = (to: string) => to === own || to === own6 || to.startsWith('127.') || to === '::1'
const ports = [53, 80, 15001, 15006, 15008, 15020, 15053]
const marks = [0, 0x539, 0x1539, 0xfffff539, 0x538, 0x111, 0xf111, 0x112, 0xffffffff]
const owners = [
  { uid: 0, gid: 1337 },
  { uid: 1337, gid: 1337 },
  { uid: 1000, gid: 1000 },
]

function* outbound(): Generator<FirstPacket> {
  for (const to of addresses)
    for (const port of ports)
      for (const mark of marks)
        for (const proto of ['tcp', 'udp'] as const)
          for (const who of owners) yield { proto, to, port, mark, ...who, device: isOwn(to) ? 'lo' : 'eth0' }
}

function* inbound(): Generator<FirstPacket> {
  for (const [to, sources] of [
    [own, ['192.0.2.9', '169.254.7.127', own]],
    [own6, ['2001:db8::9', usual.probe6, own6]],
  ] as const)
    for (const port of [...ports, 22, 15090]) for (const bound of sources) yield { proto: 'tcp', to, port, bound, uid: 0, gid: 0, device: 'eth0' }
}

/** The port, of 127.0.0.1:15001 and [::1]:15001. */
const portOf = (verdict: string) => verdict.replace(/^(127\.0\.0\.1|\[::1\]):/, '')

group('the rules of ambient', () => {
  it('decide as the tables, whatever the options', () => {
    let count = 0
    for (const rules of allRules()) {
      const { facts, options } = setOf(rules)
      const answer = ask(facts, options)
      assert.ok('interception' in answer)
      const reference = new Reference(compileOne(answer.interception))
      for (const [direction, packets, judge] of [
        ['outbound', outbound(), ambientMesh.output],
        ['inbound', inbound(), ambientMesh.prerouting],
      ] as const) {
        for (const packet of packets) {
          const { bound, device: _, ...rest } = packet
          const { verdict, rule } = reference.decide({ netns: 1n, direction, ...rest, ...(bound === undefined ? {} : { from: bound }) })
          if (portOf(verdict) !== judge(rules, packet))
            assert.fail(`${JSON.stringify({ rules, packet })}: ${verdict} by ${rule}, the tables say ${judge(rules, packet)}`)
          count += 1
        }
      }
    }
    assert.ok(count > 100_000, String(count))
  })

  it('are read alike by the plugin and by the suite, for random pods', () => {
    const kinds = new Set<string>()
    fc.assert(
      fc.property(ambientMesh.sets, ({ pod, options }) => {
        const { annotations = {}, labels = {} } = pod
        const reading = ambientMesh.read({ pod, options, addresses: [] })
        const answer = ask(ambientPod({ annotations, labels }), options)
        kinds.add(Object.keys(reading)[0] ?? '')
        if (!('rules' in reading)) {
          const [fault] = Object.values(reading) as [string]
          const said = [...answer.warnings, 'cannot' in answer ? answer.cannot : '', 'refused' in answer ? answer.refused : '']
          assert.ok(!('interception' in answer) && said.some((text) => text.includes(fault)), JSON.stringify({ reading, answer }))
          return
        }
        const { facts, options: same } = setOf(reading.rules)
        const expected = ask(facts, same)
        assert.ok('interception' in answer && 'interception' in expected, JSON.stringify({ reading, answer }))
        assert.deepEqual(answer.interception, expected.interception)
        const { warned = [] } = reading
        assert.equal(answer.warnings.length, warned.length)
        for (const name of warned) assert.equal(answer.warnings.filter((text) => text.includes(name)).length, 1, name)
      }),
      { numRuns: 2000 },
    )
    assert.deepEqual([...kinds].sort(), ['refused', 'rules', 'unsupported'])
  })
})

const lines = (text: string) =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')

const chains = `
  -N ISTIO_OUTPUT
  -N ISTIO_PRERT`
const restore = '-A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff'

group('the text of the tables', () => {
  it('is what istio-cni writes with DNS capture', () => {
    assert.deepEqual(
      lines(ambientMesh.tables(usual).v4),
      lines(`*mangle ${chains}
      -A PREROUTING -j ISTIO_PRERT
      -A OUTPUT -j ISTIO_OUTPUT
      -A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
      ${restore}
      COMMIT
      *nat ${chains}
      -A OUTPUT -j ISTIO_OUTPUT
      -A PREROUTING -j ISTIO_PRERT
      -A ISTIO_PRERT -s 169.254.7.127 -p tcp -m tcp -j ACCEPT
      -A ISTIO_PRERT ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
      -A ISTIO_OUTPUT -d 169.254.7.127 -p tcp -m tcp -j ACCEPT
      -A ISTIO_OUTPUT ! -o lo -p udp -m mark ! --mark 0x539/0xfff -m udp --dport 53 -j REDIRECT --to-port 15053
      -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp --dport 53 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15053
      -A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
      -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -j ACCEPT
      -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
      COMMIT
      *raw ${chains}
      -A PREROUTING -j ISTIO_PRERT
      -A OUTPUT -j ISTIO_OUTPUT
      -A ISTIO_OUTPUT -p udp -m mark --mark 0x539/0xfff -m udp --dport 53 -j CT --zone 1
      -A ISTIO_PRERT -p udp -m mark ! --mark 0x539/0xfff -m udp --sport 53 -j CT --zone 1
      COMMIT`),
    )
  })

  it('is what istio-cni writes for a gateway without DNS capture, over IPv6', () => {
    const tables = ambientMesh.tables({ ...usual, dns: false, ingress: true, probe6: 'fd16::9' })
    assert.deepEqual(
      lines(tables.v6 ?? ''),
      lines(`*mangle ${chains}
      -A PREROUTING -j ISTIO_PRERT
      -A OUTPUT -j ISTIO_OUTPUT
      ${restore}
      COMMIT
      *nat ${chains}
      -A OUTPUT -j ISTIO_OUTPUT
      -A PREROUTING -j ISTIO_PRERT
      -A ISTIO_OUTPUT -d fd16::9 -p tcp -m tcp -j ACCEPT
      -A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
      -A ISTIO_OUTPUT ! -d ::1/128 -o lo -j ACCEPT
      -A ISTIO_OUTPUT ! -d ::1/128 -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
      COMMIT`),
    )
    assert.equal(ambientMesh.tables({ ...usual, ipv6: false }).v6, undefined)
  })
})
