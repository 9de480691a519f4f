// What the fixed matrix makes of a mesh, and how its result becomes a table. No kernel is asked.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { meshes } from '../meshes/index.ts'
import { clientsOf } from '../parity/clients.ts'
import { type Difference, differences, judge } from '../parity/compare.ts'
import { datagramCases } from '../parity/datagrams.ts'
import { type Evidence, features, type Verdict, verdictOf } from '../parity/features.ts'
import { istioLayout, proxyListeners } from '../parity/listeners.ts'
import type { Interest, Layout } from '../parity/mesh.ts'
import { casesFor, datagramsFor } from '../parity/ports.ts'
import { rowsOf, rowsOfPod } from '../parity/rows.ts'
import { type About, casesOf, type Trial } from '../parity/setups.ts'
import { columnOf, tableIn, withColumns, wrongInDocument } from '../parity/verdicts.ts'

const nothing: Interest = { who: [], networks: [], sources: [], outboundPorts: [], inboundPorts: [], nameservers: [], ipv6: true, udp: true }
const other: Layout = { proxy: { uid: 2102, gid: 7 }, mark: 0x539, outboundPort: 4140, inboundPort: 4143, ownPorts: [4191] }
const ports = { outbound: 4140, inbound: 4143, dns: undefined }
const about = (interest: Partial<Interest> = {}, layout = other): About => ({ layout, interest: { ...nothing, ...interest }, ports })
const trial: Trial = { name: 'v4 pod', kind: 'v4', tcp: 'plain' }

const idsOf = (...given: Parameters<typeof casesOf>) => casesOf(...given).map(({ id }) => id)
const has = (ids: readonly string[], ...wanted: readonly string[]) =>
  assert.deepEqual(
    wanted.filter((id) => !ids.includes(id)),
    [],
  )

describe('what is tried with a mesh', () => {
  it("its proxy's ids, its mark and the mark's neighbours; a mark that means nothing where it has none", () => {
    const clients = clientsOf(other)
    assert.deepEqual(clients.proxy, { as: { uid: 2102, gid: 7 }, mark: 0x539 })
    assert.deepEqual(clients.proxyGid?.as, { uid: 0, gid: 7 })
    assert.equal(clients.almostMarked?.mark, 0x53a)
    assert.equal(clients.proxyWithoutMark?.mark, undefined)
    assert.deepEqual(
      Object.keys(clientsOf(istioLayout)).filter((name) => /mark/i.test(name)),
      ['markedApp'],
    )
  })

  it("the mesh's ports where cases say Istio's, and each case once", () => {
    const ids = idsOf(trial, about(), 'pod')
    has(ids, 'app -> POD:4140', 'proxy -> 127.0.0.1:4143', 'app -> POD:4191')
    assert.deepEqual(
      ids.filter((id) => /1500[16]/.test(id)),
      [],
    )
    assert.equal(new Set(ids).size, ids.length)
  })

  it('ports, networks and clients that the rules name, and what is next to them', () => {
    const uid5 = { name: 'uid 5', as: { uid: 5, gid: 1000 } }
    const ids = idsOf(trial, about({ outboundPorts: [443], networks: ['192.0.2.0/30'], who: [uid5] }), 'pod')
    has(ids, 'app -> VIP:443', 'app -> VIP:444', 'uid 5 -> mapped VIP:443', 'uid 5 -> VIP:80', 'app -> 192.0.2.3:80', 'proxy -> 192.0.2.4:80')
    has(idsOf(trial, about({ inboundPorts: [25] }), 'node'), 'node => POD:25', 'node => POD:26', 'node => POD:4191')
  })

  it('inbound from each address of the peer, in each family of the pod', () => {
    has(idsOf(trial, about(), 'peer'), 'peer => POD:8080 from VIP', 'peer => POD:8080 from SRC2ND')
    has(idsOf({ ...trial, kind: 'dual' }, about(), 'peer'), 'peer => POD:8080 from PEER', 'peer => POD6:8080 from VIP6')
  })

  it('no plain IPv4 where another test does it', () => {
    has(idsOf(trial, about(), 'pod'), 'app -> PROHIBIT:80')
    assert(!idsOf({ ...trial, ipv4: 'elsewhere' }, about(), 'pod').includes('app -> PROHIBIT:80'))
  })

  it('no datagram that several may answer', () => {
    const ids = datagramCases({ flavours: ['v4'], ports: 1 }, { clients: clientsOf(other) }).map(({ id }) => id)
    assert.deepEqual(
      ids.filter((id) => id.includes('MULTICAST') && !id.endsWith(' connected')),
      [],
    )
  })

  it('a proxy that listens outbound on loopback and inbound everywhere', () => {
    const where = proxyListeners(other, 'split', '::').map(({ name, address, mark }) => `${name} ${address} ${mark}`)
    assert.deepEqual(where, [
      'proxy:4140 127.0.0.1 1337',
      'proxy:4140 ::1 1337',
      'proxy:4143 0.0.0.0 1337',
      'proxy:4143 :: 1337',
      'proxy:4191 :: 1337',
    ])
  })
})

describe("Istio's ports in cases and rows", () => {
  it('become those of the mesh, all at once', () => {
    const swapped = { outbound: 15006, inbound: 15001, dns: 5300 }
    const [one] = casesFor(swapped, [{ id: 'app -> POD:15001', as: { uid: 1, gid: 1 }, to: [['10.77.0.20', 15001]] }])
    assert.deepEqual([one?.id, one?.to], ['app -> POD:15006', [['10.77.0.20', 15006]]])
    const [row] = rowsOfPod([{ name: 'r', case: '* 127.0.0.1:15001', field: 'f', iptables: 'POD:15006', merbridge: 'x:150010' }], swapped, true)
    assert.deepEqual(row, { name: 'r', case: '* 127.0.0.1:15006', field: 'f', iptables: 'POD:15001', merbridge: 'x:150010' })
    const [asked] = datagramsFor(swapped, [
      { id: 'udp app -> 127.0.0.1:15053', as: { uid: 1, gid: 1 }, family: 4, steps: [{ do: 'connect', to: ['127.0.0.1', 15053] }] },
    ])
    assert.deepEqual(asked?.steps, [{ do: 'connect', to: ['127.0.0.1', 5300] }])
  })

  it('rows of pods without rules for IPv6 hold where there are none', () => {
    const row = { name: 'r', case: 'v4*', field: 'f', iptables: 'a', merbridge: 'b' }
    assert.equal(rowsOfPod([row], ports, false)[0]?.case, '*')
    assert.equal(rowsOfPod([row], ports, true)[0]?.case, 'v4*')
  })
})

describe('rows of docs/parity.md', () => {
  const table = (title: string, name: string, meshes = '', pattern = name) =>
    `| ${title} | Cases | Field | iptables | Merbridge | Meshes |\n|---|---|---|---|---|---|\n| ${name} | \`${pattern}\` | \`f\` | \`a\` | \`b\` | ${meshes} |\n\n`
  const document = [
    '## First\n',
    table('Difference', 'all', 'kuma, osm'),
    '## Families\n',
    table('Difference of families', 'six', 'istio'),
    table('Rare difference', 'rare'),
    '## kuma\n',
    table('Difference of kuma', 'own'),
    table('Difference of osm', 'other'),
    table('Rare difference of kuma', 'own rare'),
  ].join('')
  const names = (rows: readonly { readonly name: string }[]) => rows.map(({ name }) => name)

  it('hold in the fixed matrix of the meshes that they name, and in random pods of all', () => {
    const kuma = rowsOf('kuma', document)
    assert.deepEqual(names(kuma.fixed), ['all', 'own'])
    assert.deepEqual(names(kuma.random), ['all', 'six', 'own', 'rare', 'own rare'])
    assert.deepEqual(names(rowsOf('istio', document).fixed), ['six'])
    assert.deepEqual(
      kuma.random.map(({ section }) => section),
      ['First', 'Families', 'kuma', 'Families', 'kuma'],
    )
  })

  it('are an error where one before leaves nothing for them', () => {
    const with2 = (one: string, two: string) => table('Difference', 'one', '', one) + table('Difference of families', 'two', '', two)
    for (const [one, two] of [
      ['x', 'x'],
      ['*: x -> *', '*: x -> y or v4: x -> z'],
      ['x or y*', 'y'],
    ] as const)
      assert.throws(() => rowsOf('osm', with2(one, two)), /a row before this one names all that it names.*"two"/)
    for (const [one, two] of [
      ['x', 'x*'],
      ['x*', 'x or y'],
    ] as const)
      assert.equal(rowsOf('osm', with2(one, two)).random.length, 2)
  })

  it('name meshes that there are, and each mesh has rows', () => {
    for (const { name } of meshes) {
      const { fixed, random } = rowsOf(name)
      assert(fixed.length > 5, name)
      assert.deepEqual(
        random.flatMap((row) => row.meshes ?? []).filter((each) => !meshes.some((mesh) => mesh.name === each)),
        [],
      )
    }
  })

  it('say who accepts where only Merbridge connects', () => {
    const seen = (fields: Readonly<Record<string, string>>) => new Map([['v4 pod: peer => POD:80', new Map(Object.entries(fields))]])
    const found = differences(seen({ outcome: 'ECONNREFUSED' }), seen({ outcome: 'connected', 'accepted by': 'app:80', getsockname: 'POD:eph' }))
    assert.deepEqual(
      found.map(({ field, iptables, merbridge }) => [field, iptables, merbridge]),
      [
        ['outcome', 'ECONNREFUSED', 'connected'],
        ['accepted by', 'nothing', 'app:80'],
      ],
    )
    const { fixed } = rowsOf('istio')
    const inbound = found.map((each) => ({ ...each, case: 'dual pod, loopback proxy: peer => POD:80' }))
    assert.deepEqual(judge(inbound, fixed).unnamed, inbound.slice(1))
  })
})

describe('the table of features and verdicts', () => {
  const difference = (name: string, field: string, iptables = 'a', merbridge = 'b'): Difference => ({
    case: `v4 pod: ${name}`,
    field,
    iptables,
    merbridge,
  })
  const evidence = (mesh: About, tried: readonly string[], found: readonly (readonly [Difference, string])[] = []): Evidence => ({
    about: mesh,
    cases: tried.map((name) => difference(name, 'outcome', 'connected', 'connected')),
    differences: found.map(([each, row]) => ({ ...each, row: { ...each, name: row, section: 'Its rows' } })),
  })
  const verdict = (feature: string, ...all: readonly Evidence[]): Verdict | undefined => {
    const found = features.find(({ name }) => name === feature)
    return found && verdictOf(found, all)
  }

  const but = (...names: readonly string[]): Verdict => ({ kind: 'but', rows: names.map((name) => ({ section: 'Its rows', name })) })

  it('same, same but for rows, or none', () => {
    const tried = ['app -> VIP:80', 'app -> VIP:443', 'peer => POD:8080 from VIP']
    const all = evidence(about({ outboundPorts: [443] }), tried, [
      [difference('app -> VIP:443', 'accepted by'), 'one'],
      [difference('app -> VIP:443 from POD', 'getsockname'), 'two'],
    ])
    assert.deepEqual(verdict('app to outside', all), but('one'))
    assert.deepEqual(verdict('outbound ports', all), but('one'))
    assert.deepEqual(verdict('getpeername and getsockname', all), but('two'))
    assert.deepEqual(verdict('inbound', all), { kind: 'same' })
    assert.deepEqual(verdict('inbound sources', all), { kind: 'none' })
    assert.deepEqual(verdict('proxy to outside', all), { kind: 'none' })
    assert.deepEqual(verdict('DNS over UDP', evidence(about(), ['udp app -> v4 connected'])), { kind: 'none' })
    assert.deepEqual(
      verdict('errors (errno)', evidence(about(), ['app -> THROW:80'], [[difference('app -> THROW:80', 'outcome', 'TIMEOUT', 'ENETUNREACH'), 'x']])),
      but('x'),
    )
  })

  it('families by the name of the destination', () => {
    const six = evidence(about(), ['app -> VIP6:80', 'app -> mapped VIP:80'], [[difference('app -> 127.0.0.6:15002', 'accepted by'), 'four']])
    assert.deepEqual(verdict('IPv6', six), { kind: 'same' })
    assert.deepEqual(verdict('IPv4 on sockets of IPv6', six), { kind: 'same' })
    assert.deepEqual(verdict("app to its pod's addresses and loopback", six), but('four'))
  })

  it('none where nothing was tried, and where rules name nothing of what was', () => {
    const tried = ['app -> VIP:443', 'app -> 10.0.0.255:80', 'markedApp -> VIP:80']
    const networks = ['10.0.0.0/24']
    assert.deepEqual(verdict('outbound networks', evidence(about({ networks }), tried)), { kind: 'same' })
    assert.deepEqual(verdict('outbound networks', evidence(about({ networks, ruled: { networks: [] } }), tried)), { kind: 'none' })
    assert.deepEqual(verdict('outbound networks', evidence(about({ networks }), tried.slice(0, 1))), { kind: 'none' })
    assert.deepEqual(verdict('outbound ports', evidence(about({ outboundPorts: [443], ruled: { outboundPorts: [] } }), tried)), { kind: 'none' })
    assert.deepEqual(verdict('marked sockets', evidence(about({}, istioLayout), tried)), { kind: 'same' })
    assert.deepEqual(verdict('SO_ORIGINAL_DST', evidence(about(), tried)), { kind: 'none' })
  })

  it('leads to the sections where the rows stand', () => {
    const one = { case: 'v4 pod: app -> VIP:80', field: 'accepted by', iptables: 'a', merbridge: 'b' }
    const row = (section: string, name: string) => ({ ...one, row: { ...one, name, section } })
    const both = [row('IPv6, mapped addresses and DNS', 'x'), row('osm', 'y'), row('osm', 'z'), row('osm', 'z')]
    const column = columnOf([{ about: about(), cases: [], differences: both }])
    assert.equal(column.get('app to outside'), 'same, but [1 row](parity.md#ipv6-mapped-addresses-and-dns) and [2 rows](parity.md#osm)')
  })

  describe('as a text', () => {
    const empty = 'a\n<!-- verdicts: written by npm run test:parity-table -- --write -->\n<!-- end of verdicts -->\nb'
    const column = (verdict: string) => new Map(features.map(({ name }) => [name, verdict]))
    const found = column('same, but [2 rows](parity.md#kuma)')
    const once = withColumns(empty, new Map([['kuma', found]]), 'docs/parity.md')
    const twice = withColumns(once, new Map([['istio', column('same')]]), 'docs/parity.md')
    const wrong = (text: string) => wrongInDocument(text, 'docs/parity.md', 'kuma', found, ['istio', 'kuma'])

    it('is written between its marks, one mesh without the others, and read again', () => {
      assert.match(twice, /^a\n.*\n\| feature \| istio \| kuma \|\n/)
      assert.match(twice, /\| DNS over UDP \| same \| same, but \[2 rows\]\(docs\/parity\.md#kuma\) \|/)
      assert.deepEqual(
        tableIn(twice, 'docs/parity.md'),
        new Map([
          ['istio', column('same')],
          ['kuma', found],
        ]),
      )
      assert.throws(() => tableIn('nothing', 'parity.md'), /the table's place is missing/)
    })

    it('is wrong in a cell, a link, and in rows and columns that nothing writes', () => {
      assert.deepEqual(wrong(twice), [])
      assert.match(wrong(twice.replace('2 rows', '3 rows')).join(), /^app to outside: same, but \[3 rows\]/)
      assert.match(wrong(twice.replace('#kuma', '#osm')).join(), /^app to outside/)
      assert.match(wrong(twice.replace('| inbound |', '| teapots | same | same |\n| inbound |')).join(), /rows, columns/)
      assert.match(wrong(withColumns(twice, new Map([['acme', column('same')]]), 'docs/parity.md')).join(), /rows, columns/)
      assert.match(wrong(twice.replace('\n<!-- end', '\nand more\n<!-- end')).join(), /rows, columns/)
    })
  })
})
