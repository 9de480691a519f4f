/** The demo: real sidecars in the layouts of four meshes. It checks each of its expectations itself, and ends with 1 when one does not hold. */
import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { describe, test } from 'node:test'
import { execute } from '../lab/agent.ts'

const demo = resolve(import.meta.dirname, '../demo/demo.ts')

/** How many expectations there are, and one that only this mesh has. */
const meshes: Readonly<Record<string, readonly [expectations: number, own: RegExp]>> = {
  istio: [35, /the server's app saw as source: its sidecar: 127\.0\.0\.6/],
  kuma: [44, /the server's app saw as source: its sidecar: ::6/],
  osm: [35, /the server's app saw as source: its sidecar: 127\.0\.0\.1/],
  linkerd: [36, /the server's app saw as source: its own pod, .*: 10\.77\.0\.11/],
}

/** They claim one directory, so one after the other. */
describe('the demo', { concurrency: false, timeout: 600_000 }, () => {
  for (const [mesh, [expectations, own]] of Object.entries(meshes)) {
    test(`of ${mesh} ends well: through both sidecars, the agent killed, everything removed`, { timeout: 180_000 }, async () => {
      const { code, stdout, stderr } = await execute(process.execPath, [demo, ...(mesh === 'istio' ? [] : ['--mesh', mesh])], 150_000)
      assert.equal(code, 0, stdout + stderr)
      assert.match(stdout, new RegExp(`All ${expectations} expectations hold`))
      assert.match(stdout, new RegExp(`\\| mesh: ${mesh}\\n`))
      assert.match(stdout, /the server's sidecar saw as source: the client pod: 10\.77\.0\.10/)
      assert.match(stdout, own)
    })
  }

  test('of a mesh that it does not know says which there are', async () => {
    const { code, stdout, stderr } = await execute(process.execPath, [demo, '--mesh', 'kumma'])
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, /demo: there is no demo of the mesh 'kumma'; there are: istio, kuma, osm, linkerd$/m)
  })
})
