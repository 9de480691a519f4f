// What the differential suite makes of a mesh: what it tries, how it reads rules and warnings. No kernel is asked.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, it } from 'node:test'
import type { Interception } from '../../core/plugin.ts'
import { meshes, meshesNamed } from '../meshes/index.ts'
import { matches, type Packet, verdict } from '../mutants/decide.ts'
import { packetsOf } from '../mutants/packets.ts'
import { settledDifferences } from '../parity/columns.ts'
import { rowFor } from '../parity/compare.ts'
import { istioLayout } from '../parity/listeners.ts'
import type { Interest, Layout } from '../parity/mesh.ts'
import { choose, connectionsFor } from '../parity/random/connections.ts'
import { tooFew } from '../parity/random/run.ts'
import { datagramsFor } from '../parity/random/sixes.ts'
import { unnamed, wrongWarnings } from '../parity/random/told.ts'
import { destinations, destinations6, everybody, inboundPorts, outboundPorts, type Subject } from '../parity/random/worth.ts'
import { rowsOf } from '../parity/rows.ts'

const nothing: Interest = { who: [], networks: [], sources: [], outboundPorts: [], inboundPorts: [], nameservers: [], ipv6: true, udp: true }
const marked: Layout = { proxy: { uid: 2102, gid: 2102 }, mark: 0x539, outboundPort: 4140, inboundPort: 4143, ownPorts: [4191] }

function subject(interest: Partial<Interest> = {}, layout: Layout = marked): Subject {
  return { layout, interest: { ...nothing, ...interest }, ports: { outbound: layout.outboundPort, inbound: layout.inboundPort } }
}

const has = <T>(list: readonly T[], ...wanted: readonly T[]) =>
  assert.deepEqual(
    wanted.filter((each) => !list.includes(each)),
    [],
  )

describe('what is worth trying', () => {
  it('the proxy with its ids and its mark, and without the mark; nobody twice', () => {
    const app = { name: 'app', as: { uid: 7, gid: 7 } }
    const all = everybody(subject({ who: [app, { name: 'uid 5', as: { uid: 5, gid: 1000 } }] }))
    assert.deepEqual(
      all.find(({ name }) => name === 'proxy'),
      { name: 'proxy', as: { uid: 2102, gid: 2102 }, mark: 0x539 },
    )
    assert.equal(all.find(({ name }) => name === 'proxy without a mark')?.mark, undefined)
    has(
      all.map(({ name }) => name),
      'uid 5',
      'almost proxy',
    )
    assert.equal(new Set(all.map(({ name }) => name)).size, all.length)
  })

  it('edges of the networks and what is next to them, but no neighbour that does not exist', () => {
    const interest = { networks: ['10.96.0.0/30', '10.77.0.0/24', 'fd00:96::/126'] }
    has(destinations(subject(interest)), '10.95.255.255', '10.96.0.0', '10.96.0.3', '10.96.0.4', '10.77.0.255')
    assert(!destinations(subject(interest)).includes('10.77.0.0'))
    has(destinations6(subject(interest)), 'fd00:96::', 'fd00:96::3', 'fd00:96::4')
  })

  it('ports and their neighbours; port 0 only where it is named', () => {
    has(outboundPorts(subject({ outboundPorts: [443, 1, 65535] })), 442, 443, 444, 1, 2, 65534, 65535, 4191)
    assert(!outboundPorts(subject({ outboundPorts: [1] })).includes(0))
    assert(outboundPorts(subject({ outboundPorts: [0] })).includes(0))
    assert(!outboundPorts(subject({ outboundPorts: [65535] })).includes(65536))
    has(inboundPorts(subject({ inboundPorts: [25] })), 24, 25, 26, 4140, 4143, 4191)
  })

  it('inbound from each source where rules look at it, and else from the usual one alone', () => {
    const ids = (interest: Partial<Interest>) => connectionsFor(subject(interest), 'dual', 1).fromPeer.map(({ id }) => id)
    const bound = ids({ sources: ['10.96.0.0/12'] }).filter((id) => / from (?:VIP|SRC2ND|PEER)6?$/.test(id))
    assert(bound.length > 5, String(bound))
    assert(
      bound.every((id) => /6:\d+ from/.test(id) === id.endsWith('6')),
      String(bound),
    )
    assert.deepEqual(
      ids({}).filter((id) => id.includes(' from ')),
      [],
    )
  })

  it('marks reach the connections and the datagrams; no datagrams where they have no way back', () => {
    const { outbound } = connectionsFor(subject(), 'v4', 3)
    assert(outbound.some(({ id, mark }) => id.startsWith('proxy -> ') && mark === 0x539))
    assert(datagramsFor(subject(), 'v4', 3).some(({ mark }) => mark === 0x539))
    assert.deepEqual(datagramsFor(subject({ udp: false }), 'v4', 3), [])
  })

  it('the same salt keeps the same cases when there are fewer', () => {
    const all = Array.from({ length: 200 }, (_, index) => ({ id: `case ${index}` }))
    const chosen = choose(all, 20, 5)
    assert.deepEqual(choose(chosen, 20, 5), chosen)
    assert.notDeepEqual(choose(all, 20, 6), chosen)
    assert.deepEqual(
      choose(all.slice(0, 100), 20, 5).filter((each) => chosen.includes(each)),
      chosen.filter((each) => all.indexOf(each) < 100),
    )
  })

  it('packets of each user with each mark, to the edges of every network, and in from each source', () => {
    const who = [{ name: 'a', as: { uid: 5, gid: 6 }, mark: 0x10 }]
    const all = packetsOf(subject({ who, networks: ['172.20.0.0/16'], sources: ['192.0.2.0/24'] }), 11)
    assert(all.some(({ direction, bound }) => direction === 'inbound' && bound === '192.0.3.0'))
    assert(all.some(({ to }) => to === '172.21.0.0'))
    assert(all.some(({ uid, mark }) => uid === 1000 && mark === 0x10))
    assert(all.some(({ uid, mark }) => uid === 2102 && mark === undefined))
  })
})

describe('rules as they are read without a kernel', () => {
  const outbound: Packet = { direction: 'outbound', proto: 'tcp', to: '10.0.0.1', port: 80, uid: 1, gid: 1, device: 'eth0' }
  const inbound: Packet = { ...outbound, direction: 'inbound', to: '10.77.0.20' }
  const rules: Interception = {
    sets: {
      marks: { mark: [{ value: 0x100, mask: 0xf00 }] },
      high: { mark: [{ value: 0x80000000, mask: 0x80000000 }] },
      sources: { cidrs: ['10.96.0.0/12'] },
      bridges: { interfaces: ['br+'] },
    },
    targets: { dns: { ipv4: '127.0.0.153', ipv6: 'fd00::1', port: 5300 }, same: { ipv4: '10.77.0.20' }, none: { ipv6: false, port: 1 } },
    outbound: [],
    inbound: [],
  }
  const from = (set: string, packet: Packet) => matches(rules, { name: 'x', when: { from: set }, then: 'pass' }, packet)

  it('marks under their mask, also the highest bit', () => {
    assert(from('marks', { ...outbound, mark: 0x1ff }))
    assert(!from('marks', { ...outbound, mark: 0x2ff }))
    assert(!from('marks', outbound))
    assert(from('high', { ...outbound, mark: 0x80000001 }))
    assert(!from('marks', { ...inbound, mark: 0x1ff }))
  })

  it('sources: outbound the bound address, inbound the peer', () => {
    for (const packet of [outbound, inbound]) {
      assert(from('sources', { ...packet, bound: '10.97.0.10' }))
      assert(!from('sources', { ...packet, bound: '10.77.0.30' }))
    }
    assert(!from('sources', outbound))
    assert(!from('passthrough', { ...inbound, bound: '127.0.0.6' }))
  })

  it('interfaces by the begin of their names', () => {
    assert(from('bridges', { ...inbound, device: 'br0' }))
    assert(!from('bridges', { ...inbound, device: 'eth0' }))
  })

  it('a target elsewhere is told with its address, and inbound by its port alone', () => {
    assert.equal(verdict(rules, 'dns', outbound), '127.0.0.153:5300')
    assert.equal(verdict(rules, 'dns', { ...outbound, to: 'fd00::5' }), '[fd00::1]:5300')
    assert.equal(verdict(rules, 'same', outbound), '10.77.0.20:80')
    assert.equal(verdict(rules, 'none', { ...outbound, to: 'fd00::5' }), 'refused')
    assert.equal(verdict(rules, 'dns', inbound), '5300')
  })
})

describe('what a pod says', () => {
  const warnings = ['annotation acme.io/ports-for-uids: ignored', 'annotation acme.io/ports: cut at 20.', 'variable A_B is no number']

  it('one warning for each name, by the whole name', () => {
    assert.equal(wrongWarnings({ warnings }, ['acme.io/ports', 'ports-for-uids', 'A_B']), undefined)
    assert.match(wrongWarnings({ warnings }, ['uids']) ?? '', /^0 warnings name uids, expected one/)
    assert.match(wrongWarnings({ warnings: [...warnings, 'ports again'] }, ['ports']) ?? '', /^2 warnings name ports/)
    assert.match(wrongWarnings({ warnings }, ['acme.io/ports', 'A_B']) ?? '', /^1 warnings name nothing that one is expected for/)
    assert.match(wrongWarnings({ warnings }) ?? '', /^3 warnings name nothing/)
    assert.equal(wrongWarnings({ warnings: [] }), undefined)
  })

  it('what is not enrolled names what is at fault, in its reason or in a warning', () => {
    assert.equal(unnamed({ reason: 'annotation ports: bad', warnings: [] }, 'acme.io/ports'), undefined)
    assert.equal(unnamed({ warnings }, 'A_B'), undefined)
    assert.match(unnamed({ warnings: [] }, 'acme.io/mode') ?? '', /names acme\.io\/mode/)
  })
})

describe('what a run may not hide', () => {
  it('pods that had no connections to compare', () => {
    assert.equal(tooFew(25, 50), undefined)
    assert.match(tooFew(24, 50) ?? '', /^only 24 of 50 sets/)
  })

  it('how many connections iptables was asked for once more', async () => {
    const column = (outcome: string) => new Map([['v4 pod: app -> VIP:80 (2)', new Map([['outcome', outcome]])]])
    const asked: string[][] = []
    const again = (answers: readonly string[]) => async (only: ReadonlySet<string>) => {
      asked.push([...only])
      return column(answers[asked.length - 1] ?? '')
    }
    const settled = await settledDifferences(column('TIMEOUT'), column('connected'), [], again(['TIMEOUT', 'connected']))
    assert.deepEqual(settled, { differences: [], repeated: 2 })
    assert.deepEqual(asked, [['v4 pod: app -> VIP:80'], ['v4 pod: app -> VIP:80']])
    assert.equal((await settledDifferences(column('connected'), column('connected'), [], again([]))).repeated, 0)
  })

  it('differences that look like those of docs/parity.md', () => {
    const rows = rowsOf('istio').random
    const meant = (each: string) => {
      const [name = '', field = '', iptables = '', merbridge = ''] = each.split(' | ')
      return rowFor({ case: `dual pod, no DNS proxy: ${name}`, field, iptables, merbridge }, rows)?.name
    }
    for (const [usual, other] of [
      ['udp app -> v4 several servers | 4 recv q2 source seen | POD:chosen | ID:eph', '127.0.0.9:eph'],
      ['udp app -> v4 from a port | 4 recv q1 source seen | POD:eph | 127.0.0.1:eph', '127.0.0.2:eph'],
      ['udp app -> v6 several servers | 4 recv q2 source seen | POD6:chosen | ID6:eph', '[fd00::1]:eph'],
      ['udp app -> v6 127.0.0.53:53 connected | 5 recv q1 answered by | app:53 | dns:15053', 'peer:53'],
      ['udp app -> v4 BROADCAST:53 connected | 2 connect | EACCES | ENETUNREACH', 'done'],
      ["udp app -> v6 connected later to another server | 9 recv q3 answer's source | nothing | VIP6:53", '[::1]:53'],
      ['udp app -> v6 several, with errors wanted | 7 errqueue | empty | ECONNREFUSED of PEER6, to PEER6:53', 'ECONNREFUSED of NODE6, to NODE6:53'],
      ['proxy -> ANYIP6:8080 | accepted by | app:8080 | proxy:15006', 'app:15020'],
      ['proxy -> ::6:8080 | address seen | asked | [::1]:15006', 'POD6:15006'],
      ['app -> PEERLINK:8080 | outcome | TIMEOUT | ECONNREFUSED', 'connected'],
      ['peer => POD:80 | address seen | POD:15006 | asked', 'PEER:80'],
    ] as const) {
      assert.notEqual(meant(usual), undefined, usual)
      const wrong = usual.replace(/[^|]+$/, ` ${other}`)
      assert.equal(meant(wrong), undefined, wrong)
    }
    for (const nobody of [
      'app -> ::6:8080 | accepted by | app:8080 | proxy:15006',
      'udp app -> v4 connected | 4 recv q1 source seen | POD:eph | 127.0.0.1:eph',
    ])
      assert.equal(meant(nobody), undefined, nobody)
  })
})

describe('the ring mesh', () => {
  for (const { name } of meshes) {
    for (const file of [`parity-${name}.test.ts`, `parity-random-${name}.test.ts`]) {
      it(`has test/mesh/${file}`, () => assert(existsSync(new URL(`../mesh/${file}`, import.meta.url))))
    }
  }
})

it('the command lines know the meshes by name', () => {
  assert.deepEqual(
    (meshesNamed('istio') as readonly { readonly name: string; readonly layout: Layout }[]).map(({ layout }) => layout),
    [istioLayout],
  )
  assert.match(String(meshesNamed('acme')), /^--mesh: expected istio.*, got 'acme'$/)
})
