/** Clients and listeners of both families (ends.py): what each end of a connection sees. */
import { join } from 'node:path'
import { until } from '../lab/agent.ts'
import { kill, type LabPod, must } from '../lab/net.ts'

const program = join(import.meta.dirname, 'ends.py')

export interface Case {
  readonly family: 4 | 6
  readonly to: readonly [string, number]
  readonly bind?: readonly [string, number]
  readonly only6?: boolean
  readonly again?: readonly [string, number]
}
export interface Ends {
  readonly own: string
  readonly peer: string
  readonly original: Readonly<Record<'ip' | 'ipv6' | 'short ip' | 'short ipv6', string>>
}
export type Got = Ends & { readonly error?: string; readonly seen: Ends & { readonly listener: string } }

export async function connectAll(pod: LabPod, uid: number, ...cases: readonly Case[]): Promise<Got[]> {
  return JSON.parse(await must(pod.command(['/usr/bin/python3', '-I', '-B', program, 'connect', JSON.stringify(cases)], { uid }))) as Got[]
}

export interface Listener {
  readonly name: string
  readonly address: string
  readonly port: number
  readonly only6?: boolean
}

export async function serveEnds(pod: LabPod, listeners: readonly Listener[]): Promise<AsyncDisposable> {
  const child = pod.spawn(['/usr/bin/python3', '-I', '-B', program, 'serve', JSON.stringify(listeners), '1337'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let ready = false
  child.stdout?.on('data', () => (ready = true))
  await until('listeners are there', 5000, async () => (ready ? true : undefined))
  return { [Symbol.asyncDispose]: () => kill(child) }
}

export const both = (name: string, port: number): Listener => ({ name, address: '::', port })
export const mapped = (address: string) => `::ffff:${address}`
export const withoutPort = (address: string) => address.replace(/:\d+$/, '')
