/** Pods as nobody wrote them by hand, beside the iptables rules of their mesh: another seed in each run. `npm run test:parity` runs as many as one likes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inFull } from '../../lab/long.ts'
import type { MeshUnderTest } from '../mesh.ts'
import { freshSeed, randomParity } from './run.ts'

/** How many the ring `mesh` has of each mesh. */
const runs = 30

/** In a file for each mesh: test/mesh/parity-random-NAME.test.ts. `npm test` has those of Istio, the widest rules; `npm run test:full` all, and many more. */
export function randomSuite<Rules>(mesh: MeshUnderTest<Rules>): void {
  test(`${mesh.name}: ${runs} random pods connect as with the mesh's own iptables rules`, {
    timeout: 280_000,
    skip: mesh.name === 'istio' ? false : inFull,
  }, async (context) => {
    const { failure, summary } = await randomParity({ mesh: mesh as MeshUnderTest, runs, seed: freshSeed() })
    context.diagnostic(summary)
    assert.equal(failure, undefined, `${summary}\n${failure}`)
  })
}
