/** The small proxy of small-proxy.py as a sidecar in Linkerd's port layout. Linkerd's own proxy cannot be had from a package registry. */
import { closeSync, openSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from './agent.ts'
import type { Sidecar } from './envoy.ts'
import type { LabPod } from './net.ts'
import { kill } from './process.ts'

export const LINKERD_UID = 2102
export const LINKERD_ADMIN = 4191

/** Its counters: `request_total{direction="inbound"}`; `dropped_total`: connections without an original destination; `refused_total`: those with one that it does not dial */
async function metrics(pod: LabPod): Promise<Record<string, number>> {
  const { code, stdout, stderr } = await admin(pod, '/metrics')
  if (code !== 0) throw new Error(`the admin port of ${pod.name}'s proxy does not answer: ${stderr}`)
  const lines = stdout.split('\n').filter((line) => line !== '')
  return Object.fromEntries(lines.map((line) => [line.split(' ')[0], Number(line.split(' ')[1])]))
}

function admin(pod: LabPod, path: string) {
  return pod.exec(['curl', '--silent', '--show-error', '--max-time', '5', `http://127.0.0.1:${LINKERD_ADMIN}${path}`], { timeoutMs: 8_000 })
}

/** Resolves when it is ready; `name` shows in the headers that it adds. */
export async function startSmallProxy(pod: LabPod, name: string): Promise<Sidecar> {
  const text = await readFile(join(import.meta.dirname, 'small-proxy.py'))
  const log = join(pod.directory, 'proxy.log')
  const output = openSync(log, 'a')
  const who = { uid: LINKERD_UID, gid: LINKERD_UID }
  // The text is handed over: the checkout may be below a directory that its user may not search.
  const child = pod.spawn(['/usr/bin/python3', '-I', '-S', '-', name, pod.address], { ...who, stdio: ['pipe', output, output] })
  closeSync(output)
  child.stdin?.end(text)
  const stop = () => kill(child, 'SIGTERM')
  try {
    await until(`the proxy of ${pod.name} is ready`, 10_000, async () => {
      if (child.exitCode !== null) throw new Error('it has ended')
      return (await admin(pod, '/ready')).stdout === 'ready\n' ? true : undefined
    })
  } catch (cause) {
    const said = readFileSync(log, 'utf8').slice(-2000)
    await stop()
    throw new Error(`the proxy of ${pod.name} did not become ready: ${said}`, { cause })
  }
  return { pid: child.pid ?? 0, stats: () => metrics(pod), stop, [Symbol.asyncDispose]: stop }
}
