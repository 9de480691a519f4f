/** The demo: real sidecars in the layouts of four meshes. It checks each of its expectations itself, and ends with 1 when one does not hold. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, test } from 'node:test'
import { execute } from '../lab/agent.ts'
import { inFull } from '../lab/long.ts'

const demo = resolve(import.meta.dirname, '../demo/demo.ts')

/** How many expectations there are without those about acceleration, and one that only this mesh has. */
const meshes: Readonly<Record<string, readonly [expectations: number, own: RegExp]>> = {
  istio: [35, /the server's app saw as source: its sidecar: 127\.0\.0\.6/],
  kuma: [44, /the server's app saw as source: its sidecar: ::6/],
  osm: [35, /the server's app saw as source: its sidecar: 127\.0\.0\.1/],
  linkerd: [36, /the server's app saw as source: its own pod, .*: 10\.77\.0\.11/],
}

/** Expectations about acceleration, of two modes */
const ACCELERATION = 8

/** Percent of the messages: in mode proxies the two of six that go to an app take TCP, and so do a few while a connection changes over. */
const LEAST = [
  ['proxies', 60],
  ['all', 90],
] as const

/** A kernel that cannot is no failure; a kernel that can, and did not pass its self-test, is one. */
function accelerated(stdout: string): boolean {
  const refused = /not accelerated on this machine: (.*)/.exec(stdout)?.[1]
  if (refused === undefined) return true
  assert.doesNotMatch(refused, /self-test/, stdout)
  return false
}

/** In the summary, with acceleration on. */
function shareOf(stdout: string, mode: string): number {
  const figures = stdout.slice(stdout.indexOf('Measured:'))
  const share = new RegExp(`Mode ${mode}[^]*?messages accelerated +0\\.0 % +([\\d.]+) %`).exec(figures)?.[1]
  assert.ok(share !== undefined, stdout)
  return Number(share)
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
  const [, signal] = (await once(child, 'close', { signal: AbortSignal.timeout(170_000) })) as [number | null, string | null]
  return { signal, stdout, stderr }
}

/** They claim one directory, so one after the other. */
describe('the demo', { concurrency: false, timeout: 1_200_000 }, () => {
  for (const [mesh, [expectations, own]] of Object.entries(meshes)) {
    test(`of ${mesh} ends well: through both sidecars, the agent killed, everything removed`, {
      timeout: 270_000,
      skip: mesh === 'istio' ? false : inFull,
    }, async () => {
      const { code, stdout, stderr } = await execute(process.execPath, [demo, ...(mesh === 'istio' ? [] : ['--mesh', mesh])], 240_000)
      assert.equal(code, 0, stdout + stderr)
      const accelerates = accelerated(stdout)
      assert.match(stdout, new RegExp(`All ${expectations + (accelerates ? ACCELERATION : 0)} expectations hold`))
      if (accelerates) for (const [mode, least] of LEAST) assert.ok(shareOf(stdout, mode) >= least, stdout)
      assert.match(stdout, new RegExp(`\\| mesh: ${mesh}\\n`))
      assert.match(stdout, /the server's sidecar saw as source: the client pod: 10\.77\.0\.10/)
      assert.match(stdout, own)
    })
  }

  /** As Ctrl-C does: the signal comes to everything that the demo has started. */
  for (const [until, skip] of [
    [/1\. Two pods/, false],
    [/2\. Without the agent/, inFull],
    [/3\. The agent starts/, inFull],
    [/Between sockets of this node/, inFull],
    [/mode proxies: rounds/, false],
    [/The agent is killed/, inFull],
  ] as const) {
    test(`interrupted after "${until.source}" says so, and nothing else; everything is removed`, { timeout: 180_000, skip }, async () => {
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
