// What the fixed matrix makes of a mesh, and how its result becomes a table. No kernel is asked.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { clientsOf } from '../parity/clients.ts'
import type { Difference } from '../parity/compare.ts'
import { type Evidence, features, type Verdict, verdictOf } from '../parity/features.ts'
import { istioLayout, proxyListeners } from '../parity/listeners.ts'
import type { Interest, Layout } from '../parity/mesh.ts'
import { casesFor, datagramsFor } from '../parity/ports.ts'
import { rowsOf, rowsOfPod } from '../parity/rows.ts'
import { type About, casesOf, type Trial } from '../parity/setups.ts'
import { tableIn, withColumns } from '../parity/verdicts.ts'

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
  const table = (title: string, name: string) =>
    `| ${title} | Cases | Field | iptables | Merbridge |\n|---|---|---|---|---|\n| ${name} | \`*\` | \`f\` | \`a\` | \`b\` |\n\n`
  const document = ['Difference', 'Difference of families', 'Rare difference', 'Difference of kuma', 'Difference of osm', 'Rare difference of kuma']
    .map((title) => table(title, title.toUpperCase()))
    .join('')
  const names = (rows: readonly { readonly name: string }[]) => rows.map(({ name }) => name)

  it('hold for every mesh or for one, and must occur where they are listed for it', () => {
    const kuma = rowsOf('kuma', document)
    assert.deepEqual(names(kuma.shared), ['DIFFERENCE', 'DIFFERENCE OF FAMILIES'])
    assert.deepEqual(names(kuma.own), ['DIFFERENCE OF KUMA'])
    assert.deepEqual(names(kuma.rare), ['RARE DIFFERENCE', 'RARE DIFFERENCE OF KUMA'])
    assert.deepEqual(names(rowsOf('istio', document).own), ['DIFFERENCE OF FAMILIES'])
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
    differences: found.map(([each, row]) => ({ ...each, row })),
  })
  const verdict = (feature: string, ...all: readonly Evidence[]): Verdict | undefined => {
    const found = features.find(({ name }) => name === feature)
    return found && verdictOf(found, all)
  }

  it('same, same but for rows, or none', () => {
    const tried = ['app -> VIP:80', 'app -> VIP:443', 'peer => POD:8080 from VIP']
    const all = evidence(about({ outboundPorts: [443] }), tried, [
      [difference('app -> VIP:443', 'accepted by'), 'one'],
      [difference('app -> VIP:443 from POD', 'getsockname'), 'two'],
    ])
    assert.deepEqual(verdict('app to outside', all), { kind: 'but', rows: ['one'] })
    assert.deepEqual(verdict('outbound ports', all), { kind: 'but', rows: ['one'] })
    assert.deepEqual(verdict('getpeername and getsockname', all), { kind: 'but', rows: ['two'] })
    assert.deepEqual(verdict('inbound', all), { kind: 'same' })
    assert.deepEqual(verdict('inbound sources', all), { kind: 'none' })
    assert.deepEqual(verdict('proxy to outside', all), { kind: 'none' })
    assert.deepEqual(verdict('DNS over UDP', evidence(about(), ['udp app -> v4 connected'])), { kind: 'none' })
    assert.deepEqual(
      verdict('errors (errno)', evidence(about(), ['app -> THROW:80'], [[difference('app -> THROW:80', 'outcome', 'TIMEOUT', 'ENETUNREACH'), 'x']])),
      {
        kind: 'but',
        rows: ['x'],
      },
    )
  })

  it('families by the name of the destination', () => {
    const six = evidence(about(), ['app -> VIP6:80', 'app -> mapped VIP:80'], [[difference('app -> 127.0.0.6:15002', 'accepted by'), 'four']])
    assert.deepEqual(verdict('IPv6', six), { kind: 'same' })
    assert.deepEqual(verdict('IPv4 on sockets of IPv6', six), { kind: 'same' })
    assert.deepEqual(verdict("app to its pod's addresses and loopback", six), { kind: 'but', rows: ['four'] })
  })

  it('is written between its marks, one mesh without the others, and read again', () => {
    const empty = 'a\n<!-- verdicts: written by npm run test:parity-table -- --write -->\n<!-- end of verdicts -->\nb'
    const column = (verdict: string) => new Map(features.map(({ name }) => [name, verdict]))
    const once = withColumns(empty, new Map([['kuma', column('same, but 2 rows')]]), 'docs/parity.md', '## Kuma\n')
    const twice = withColumns(once, new Map([['istio', column('same')]]), 'docs/parity.md', '## Kuma\n')
    assert.match(twice, /^a\n.*\n\| feature \| istio \| kuma \|\n/)
    assert.match(twice, /\| DNS over UDP \| same \| \[same, but 2 rows\]\(docs\/parity\.md#kuma\) \|/)
    assert.deepEqual(
      tableIn(twice),
      new Map([
        ['istio', column('same')],
        ['kuma', column('same, but 2 rows')],
      ]),
    )
    assert.throws(() => tableIn('nothing'), /the table's place is missing/)
  })
})
