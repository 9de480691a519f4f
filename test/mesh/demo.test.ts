/** The demo: two real Envoys. It checks each of its expectations itself, and ends with 1 when one does not hold. */
import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { execute } from '../lab/agent.ts'

const demo = resolve(import.meta.dirname, '../demo/demo.ts')

test('the demo ends well: through both sidecars, the agent killed, everything removed', { timeout: 120_000 }, async () => {
  const { code, stdout, stderr } = await execute(process.execPath, [demo])
  assert.equal(code, 0, stdout + stderr)
  assert.match(stdout, /All 35 expectations hold/)
  assert.match(stdout, /the server's sidecar saw as source: the client pod: 10\.77\.0\.10/)
})
