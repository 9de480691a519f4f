/** The HTTP server and the client of web.py. */
import { once } from 'node:events'
import { resolve } from 'node:path'
import { bounded } from './cleanup.ts'
import type { LabPod } from './net.ts'
import { must } from './process.ts'

const program = ['/usr/bin/python3', '-I', '-S', '-B', resolve(import.meta.dirname, 'web.py')]

/** Serves on IPv4 and IPv6 until the pod is removed. */
export async function startWeb(pod: LabPod, port: number): Promise<void> {
  const child = pod.spawn([...program, 'serve', String(port)])
  const ready = child.stdout === null ? Promise.resolve() : once(child.stdout, 'data')
  if (!(await bounded(ready, 10_000)) || child.exitCode !== null) throw new Error(`the web server of ${pod.name} did not start`)
}

export interface Fetched {
  readonly error?: string
  readonly status?: number
  /** 'ADDRESS/PORT' */
  readonly peer?: string
  readonly local?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** In the order of the hosts. */
export async function fetchAll(pod: LabPod, hosts: readonly string[], port: number): Promise<readonly Fetched[]> {
  return JSON.parse(await must(pod.command([...program, 'get', JSON.stringify(hosts.map((host) => [host, port]))]))) as readonly Fetched[]
}
