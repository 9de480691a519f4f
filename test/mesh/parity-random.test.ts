/** Pods as nobody wrote them by hand, beside the iptables rules of their mesh: another seed in each run. `npm run test:parity` runs as many as one likes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { meshes } from '../meshes/index.ts'
import { freshSeed, randomParity } from '../parity/random/run.ts'

const runs = 50

for (const mesh of meshes) {
  test(`${mesh.name}: ${runs} random pods connect as with the mesh's own iptables rules`, { timeout: 280_000 }, async (context) => {
    const { failure, summary } = await randomParity({ mesh, runs, seed: freshSeed() })
    context.diagnostic(summary)
    assert.equal(failure, undefined, `${summary}\n${failure}`)
  })
}
