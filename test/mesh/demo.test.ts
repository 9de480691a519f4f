/** The demo: real sidecars in the layouts of four meshes. It checks each of its expectations itself, and ends with 1 when one does not hold. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
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

async function interrupted(until: RegExp) {
  const child = spawn(process.execPath, [demo], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const group = child.pid
  assert.ok(group !== undefined)
  let [stdout, stderr, sent] = ['', '', false]
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    if (sent || !until.test(stdout)) return
    sent = true
    setTimeout(() => process.kill(-group, 'SIGINT'), 150)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const [, signal] = (await once(child, 'close', { signal: AbortSignal.timeout(90_000) })) as [number | null, string | null]
  return { signal, stdout, stderr }
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

  /** As Ctrl-C does: the signal comes to everything that the demo has started. */
  for (const until of [/1\. Two pods/, /2\. Without the agent/, /3\. The agent starts/, /The agent is killed/]) {
    test(`interrupted after "${until.source}" says so, and nothing else; everything is removed`, { timeout: 120_000 }, async () => {
      const { signal, stdout, stderr } = await interrupted(until)
      assert.equal(signal, 'SIGINT', stdout + stderr)
      assert.match(stdout, until)
      assert.equal(stderr, '\ndemo: interrupted; removing all that it made\n')
      assert.deepEqual(
        ['/run/merbridge-demo', '/sys/fs/bpf/merbridge-demo'].filter((path) => existsSync(path)),
        [],
      )
    })
  }

  test('of a mesh that it does not know says which there are', async () => {
    const { code, stdout, stderr } = await execute(process.execPath, [demo, '--mesh', 'kumma'])
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, /demo: there is no demo of the mesh 'kumma'; there are: istio, kuma, osm, linkerd$/m)
  })
})
