/**
 * The fixed matrix of a mesh: every set-up in a pod with the mesh's own iptables rules and in one with the agent, connection by connection.
 * docs/parity.md names the differences that are meant; the suite reads it, and fails for one that is not named as for one that no longer occurs.
 */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { essential, type Named, show } from './compare.ts'
import type { MeshUnderTest } from './mesh.ts'
import type { Kind } from './shape.ts'
import { kindsOf, labelOf, type Ran, Twins } from './twins.ts'
import { columnOf, wrongIn } from './verdicts.ts'

/** Pods of one kind: one set-up after the other. */
function kindSuite<Rules>(mesh: MeshUnderTest<Rules>, kind: Kind, done: (ran: Ran, of: Twins<Rules>) => void): void {
  describe(`${kind} pods`, { concurrency: 1 }, () => {
    let twins: Twins<Rules> | undefined

    before(async () => {
      twins = await Twins.create(mesh, kind)
    })

    after(async () => {
      await twins?.[Symbol.asyncDispose]()
    })

    for (const setup of mesh.setups.filter((each) => each.kind === kind)) {
      test(`${setup.name}: alike, but for the named differences`, async (context) => {
        if (twins === undefined) throw new Error('there are no pods')
        const ran = await twins.run(setup)
        done(ran, twins)
        const { merbridge, differences, unnamed, wrong, repeated } = ran
        context.diagnostic(`${merbridge.size} connections, ${differences.length} named differences; ${repeated} made again under iptables`)
        const shown = show(essential(unnamed).slice(0, 60))
        assert.equal(unnamed.length, 0, `${unnamed.length} of ${differences.length} differences are not named:\n${shown}`)
        assert.equal(wrong, undefined)
      })
    }
  })
}

/** Each has a directory of its own. */
const meshNames = readdirSync(new URL('../meshes/', import.meta.url), { withFileTypes: true }).flatMap((each) =>
  each.isDirectory() ? [each.name] : [],
)

export function meshSuite<Rules>(mesh: MeshUnderTest<Rules>): void {
  describe(`${mesh.name}: as with its iptables rules`, { timeout: 280_000 }, () => {
    const all = new Map<string, Ran>()
    let [rows, complete]: [readonly Named[], boolean] = [[], true]

    // Most of their time they wait for what does not come.
    describe('every set-up', { concurrency: true }, () => {
      for (const kind of kindsOf(mesh))
        kindSuite(mesh, kind, (ran, twins) => {
          all.set(ran.trial.name, ran)
          rows = twins.rows
          complete &&= twins.complete
        })
    })

    test('the iptables rules do what was measured elsewhere', () => {
      const { measured = [] } = mesh
      assert(measured.length > 0, 'nothing was measured')
      for (const [connection, field, value] of measured) {
        const name = labelOf(mesh.name, connection)
        const [label = ''] = name.split(': ')
        assert.equal(all.get(label)?.iptables.get(name)?.get(field), value, `${connection}, ${field}`)
      }
    })

    test('every difference that is named occurs', () => {
      const used = new Set([...all.values()].flatMap((ran) => ran.used).map((row) => JSON.stringify(row)))
      assert.equal(all.size, mesh.setups.length, 'a set-up has no result')
      const gone = rows.filter((row) => !used.has(JSON.stringify(row)))
      assert.equal(gone.length, 0, `named in docs/parity.md, but did not occur:\n${gone.map((row) => JSON.stringify(row)).join('\n')}`)
    })

    test('README.md and docs/meshes.md say what was found', (context) => {
      if (!complete) return context.skip('this kernel lacks a feature: its table would be another one')
      assert.equal(all.size, mesh.setups.length, 'a set-up has no result')
      const wrong = wrongIn(mesh.name, columnOf([...all.values()].map(({ evidence }) => evidence)), meshNames)
      assert.equal(wrong.length, 0, `${wrong.join('\n')}\nto write it: npm run test:parity-table -- --mesh ${mesh.name} --write`)
    })
  })
}
