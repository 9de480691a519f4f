/** HAProxy as a sidecar in Istio's port layout: 15001 outbound, 15006 inbound. It finds the original destination by itself, where it can. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from './agent.ts'
import { INBOUND_PORT, OUTBOUND_PORT, PROXY_UID } from './envoy-config.ts'
import type { LabPod } from './net.ts'
import { kill } from './process.ts'

/** Of the app, where only the client knows the destination */
const APP_PORT = 8080

export type HaproxyListening = 'v4' | 'v6' | 'dual'

const bind = (listening: HaproxyListening, port: number) =>
  ({ v4: `bind 0.0.0.0:${port}`, v6: `bind :::${port} v6only`, dual: `bind :::${port} v4v6` })[listening]

/** The header in which a client may repeat the address that it connects to */
export const TO_HEADER = 'x-to'

/**
 * The address * stands for the destination that the client asked for, as far as HAProxy knows it: it asks the kernel on IPv4 sockets alone. Where it takes
 * itself for the destination, the client's header says where to go.
 */
function frontend(name: string, direction: 'outbound' | 'inbound', port: number, listening: HaproxyListening): string {
  const source = (address: string) => (direction === 'inbound' ? `  source ${address}\n` : '')
  return `
frontend ${direction}
  ${bind(listening, port)}
  http-request set-var(txn.destination) dst
  http-request set-var(txn.port) dst_port
  http-after-response set-header x-${direction}-sidecar ${name}
  http-after-response set-header x-${direction}-source %[src]
  http-after-response set-header x-${direction}-destination %[var(txn.destination)]:%[var(txn.port)]
  http-request set-dst req.hdr_ip(${TO_HEADER}) if { dst_port ${port} }
  http-request set-dst-port int(${APP_PORT}) if { dst_port ${port} }
  use_backend ${direction}6 if { dst fd77::/64 }
  use_backend ${direction}mapped if { dst -m beg ::ffff: }
  default_backend ${direction}4
backend ${direction}4
${source('127.0.0.6')}  server original *
backend ${direction}6
${source('[::6]')}  server original *
backend ${direction}mapped
${source('[::ffff:127.0.0.6]')}  server original *
`
}

const configuration = (name: string, listening: HaproxyListening) => `
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
${frontend(name, 'outbound', OUTBOUND_PORT, listening)}${frontend(name, 'inbound', INBOUND_PORT, listening)}`

/** Resolves when it listens. */
export async function startHaproxy(pod: LabPod, name: string, listening: HaproxyListening): Promise<AsyncDisposable> {
  const file = join(pod.directory, 'haproxy.cfg')
  await writeFile(file, configuration(name, listening))
  const child = pod.spawn(['/usr/sbin/haproxy', '-db', '-f', file], { uid: PROXY_UID, gid: PROXY_UID })
  let said = ''
  child.stderr?.on('data', (text: Buffer) => {
    said = `${said}${text}`.slice(-2000)
  })
  const stop = () => kill(child)
  try {
    await until(`HAProxy of ${pod.name} listens`, 10_000, async () => {
      if (child.exitCode !== null) throw new Error(`HAProxy of ${pod.name} has ended`)
      const { stdout } = await pod.exec(['ss', '-Hltn', `sport = :${INBOUND_PORT}`])
      return stdout.includes('LISTEN') ? true : undefined
    })
  } catch (cause) {
    await stop()
    throw new Error(`HAProxy: ${said}`, { cause })
  }
  return { [Symbol.asyncDispose]: stop }
}
