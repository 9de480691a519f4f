/** Runs an exchange between two pods: its halves are processes of their own. */

import { chmodSync, copyFileSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Asks, programCodec, programKeyCodec, Splices } from '../../core/contract.ts'
import type { BpfMap } from '../../core/native/api.ts'
import { kernelDevice } from '../../core/selftest/instance.ts'
import { exchangesPath, type Half, readHalves } from '../../core/selftest/program.ts'
import { type Lab, run } from '../lab/net.ts'
import type { Ends } from './places.ts'

/** Beyond the program's own limit for an exchange. */
const mostMs = 60_000

/** Copies of the program that everybody may run. What is known of a program goes by its file. */
export interface Programs {
  /** Receives with recv() and the like only, and is known for it. */
  readonly usual: string
  /** Looked at by the agent, which finds that it can splice. */
  readonly splicing: string
  readonly directory: string
}

export function copyPrograms(lab: Lab): Programs {
  const directory = join(lab.directory, 'exchanges')
  mkdirSync(directory)
  chmodSync(directory, 0o777)
  const [usual, splicing] = ['usual', 'splicing'].map((name) => {
    const path = join(directory, name)
    copyFileSync(exchangesPath(), path)
    chmodSync(path, 0o755)
    return path
  }) as [string, string]
  return { usual, splicing, directory }
}

/** Nobody has to find out what it may read with. */
export function vouchFor(programs: BpfMap, path: string, splices: Splices = Splices.NEVER): void {
  const { ino, dev } = statSync(path, { bigint: true })
  const value = programCodec.encode({ splices, asks: Asks.NEVER, pid: 0, started: 0n })
  programs.update(programKeyCodec.encode({ inode: ino, device: kernelDevice(dev) }), value)
}

let runs = 0

export interface Running {
  readonly program: string
  readonly directory: string
  readonly options?: readonly string[]
}

export interface Done {
  readonly halves: readonly Half[]
  /** Rounds of the connection before the exchange began. */
  readonly warm: bigint
}

export async function runExchange(name: string, { client, server }: Ends, { program, directory, options = [] }: Running): Promise<Done> {
  const control = join(directory, `c${runs++}`)
  const half = (role: 'client' | 'server', end: Ends['client']) =>
    run(end.pod.command([program, 'run', name, '--role', role, '--control', control, ...end.options, ...options], { uid: end.uid }), {
      timeoutMs: mostMs,
    })
  const listening = half('server', server)
  const results = await Promise.all([listening, half('client', client)])
  const halves = results.flatMap(({ stdout }) => readHalves(stdout))
  const warm = /^warm (\d+)/m.exec(results[1]?.stderr ?? '')?.[1]
  if (halves.length >= 2) return { halves, warm: BigInt(warm ?? 0) }
  throw new Error(`${name}: ${results.map(({ code, stderr }) => `status ${code}: ${stderr.split('\n', 1)[0]}`).join('; ')}`)
}
