/** Clients and listeners of both families (ends.py): what each end of a connection sees. */
import { type LabPod, must } from '../lab/net.ts'
import { endsProgram, type Listener, serve } from './serving.ts'

export { serve as serveEnds }

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
  return JSON.parse(await must(pod.command(['/usr/bin/python3', '-I', '-B', endsProgram, 'connect', JSON.stringify(cases)], { uid }))) as Got[]
}

export const both = (name: string, port: number): Listener => ({ name, address: '::', port })
export const mapped = (address: string) => `::ffff:${address}`
export const withoutPort = (address: string) => address.replace(/:\d+$/, '')
