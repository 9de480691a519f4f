// No rule of a built-in plugin can be lost, or exchanged with its neighbour, without a connection that goes elsewhere; docs/mutants.md has the exceptions.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import type { Interception } from '../../core/plugin.ts'
import { meshes } from '../meshes/index.ts'
import type { Packet } from '../mutants/decide.ts'
import { complaints, judgeMutants, listedSurvivors, type Sample } from '../mutants/mutants.ts'
import { judgeMesh } from '../mutants/samples.ts'
import { usual } from '../mutants/usual.ts'

const document = readFileSync(new URL('../../docs/mutants.md', import.meta.url), 'utf8')

for (const mesh of meshes) {
  it(`${mesh.name}: the plugin decides as the tables do, and no mutant of it`, () => {
    const judged = judgeMesh(mesh, usual)
    assert(judged.samples > usual.sets / 3, String(judged.samples))
    assert.deepEqual(complaints(judged, listedSurvivors(document, mesh.name)), { unlisted: [], idle: [] })
  })
}

describe('mutants of an invented mesh', () => {
  const interception: Interception = {
    sets: { web: { ports: [80, 81] }, odd: { ports: [81] } },
    targets: { proxy: { port: 15001 } },
    outbound: [
      { name: 'odd', when: { port: 'odd' }, then: 'pass' },
      { name: 'web', when: { port: 'web' }, then: 'proxy' },
      { name: 'rest', then: 'pass' },
    ],
    inbound: [],
  }
  const packet = (port: number): Packet => ({ direction: 'outbound', proto: 'tcp', to: '10.0.0.1', port, uid: 0, gid: 0, device: 'eth0' })
  const mesh = (expected: Readonly<Record<number, string>>): readonly Sample[] => [
    {
      interception,
      about: 'a set',
      packets: Object.entries(expected).map(([port, verdict]) => ({ packet: packet(Number(port)), expected: verdict })),
    },
  ]
  const right = { 79: 'pass', 80: '15001', 81: 'pass' }

  it('tells apart what decides a connection otherwise, and names what does not', () => {
    const { mutants } = judgeMutants(mesh(right))
    const survivors = [...mutants].flatMap(([name, { killedBy }]) => (killedBy === undefined ? [name] : []))
    assert.deepEqual(survivors, ["outbound: without 'rest'"])
    assert.equal(mutants.get("outbound: 'web' before 'odd'")?.killedBy, 'a set: outbound tcp to 10.0.0.1:81 by uid 0, gid 0, device eth0')
  })

  it('a survivor that is not listed and a row that is idle are both told', () => {
    const table =
      "## invented\n\n| Mutant | Why |\n|---|---|\n| `outbound: without 'web'` | because |\n\n## other\n\n| `outbound: without 'rest'` | no |\n"
    assert.deepEqual(complaints(judgeMutants(mesh(right)), listedSurvivors(table, 'invented')), {
      unlisted: ["outbound: without 'rest'"],
      idle: ["outbound: without 'web'"],
    })
  })

  it('a plugin that is wrong itself is an error', () => {
    assert.throws(() => judgeMutants(mesh({ ...right, 80: 'pass' })), /10\.0\.0\.1:80.*the plugin says 15001 \(the rule 'web'\), the mesh pass/)
  })
})
