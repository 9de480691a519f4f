/** Pods with a proxy's listeners and an app's, for the tests of this directory. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LabPod } from '../lab/net.ts'
import { type ListenerSpec, serve } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'

export interface Listening extends AsyncDisposable {
  /** How many connections were accepted so far. */
  accepted(): Promise<number>
  stop(): Promise<void>
}

let records = 0

async function listening(pod: LabPod, as: typeof app, listeners: readonly ListenerSpec[]): Promise<Listening> {
  const record = join(pod.directory, `accepted-${pod.name}-${records++}`)
  const server = await serve(pod, as, listeners, record)
  const accepted = async () => (await readFile(record, 'utf8')).split('\n').length - 1
  return { accepted, stop: server.stop, [Symbol.asyncDispose]: server.stop }
}

/** The sidecar's listeners, called `${name}:15001` and `${name}:15006`. */
export function startProxy(
  pod: LabPod,
  { name = pod.name, ports = [15001, 15006], address = '0.0.0.0', reuseport = false } = {},
): Promise<Listening> {
  return listening(
    pod,
    proxy,
    ports.map((port) => ({ name: `${name}:${port}`, address, port, reuseport })),
  )
}

/** Unprivileged listeners, called `${name}:app`. */
export function startApp(pod: LabPod, ports: readonly number[] = [8080]): Promise<Listening> {
  return listening(
    pod,
    app,
    ports.map((port) => ({ name: `${pod.name}:app`, address: '0.0.0.0', port })),
  )
}
