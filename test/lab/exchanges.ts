/** The program of the exchanges (core/selftest/exchanges/), as tests run it, and what it says. */
import { join } from 'node:path'
import { type LabPod, must, type Result, run } from './net.ts'

export const exchanges = join(import.meta.dirname, `../../build/native/linux-${process.arch}/exchanges`)

/** One line of `exchanges list --json`. */
export interface Exchange {
  readonly name: string
  readonly title: string
  readonly fast: boolean
  readonly slow: boolean
  readonly blocking: boolean
  readonly ownStart: boolean
  /** The named difference that acceleration may make; '' for none */
  readonly differs: string
}

/** What one half of an exchange says at its end. */
export interface Half {
  readonly name: string
  readonly side: 'client' | 'server'
  readonly transcript: readonly string[]
  readonly failures: readonly string[]
  /** Why this kernel cannot do it; empty where it can. */
  readonly skipped: readonly string[]
  readonly pass: boolean
  readonly ms: number
}

export async function listExchanges(): Promise<readonly Exchange[]> {
  return JSON.parse(await must([exchanges, 'list', '--json'])) as Exchange[]
}

export function halves({ code, stdout, stderr }: Result): readonly Half[] {
  if (code !== 0 && code !== 1) throw new Error(`exchanges: status ${code}: ${stderr}`)
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Half)
}

/** Both halves in one place. */
export async function runBoth(pod: LabPod, names: string, options: readonly string[] = [], timeoutMs = 120_000): Promise<readonly Half[]> {
  return halves(await pod.exec([exchanges, 'run', names, '--role', 'both', ...options], { timeoutMs }))
}

export interface Between {
  readonly client: LabPod
  readonly server: LabPod
  /** Where the server listens, and where the client connects to; the same, unless something redirects. */
  readonly listen: string
  readonly connect?: string
  /** Path of the socket through which the halves meet */
  readonly control: string
}

/** The halves in two pods; each with its own user, if wanted. */
export async function runBetween(between: Between, names: string, options: readonly string[] = [], timeoutMs = 120_000): Promise<readonly Half[]> {
  const common = ['--control', between.control, ...options]
  const results = await Promise.all([
    run(between.server.command([exchanges, 'run', names, '--role', 'server', '--listen', between.listen, ...common]), { timeoutMs }),
    run(between.client.command([exchanges, 'run', names, '--role', 'client', '--connect', between.connect ?? between.listen, ...common]), {
      timeoutMs,
    }),
  ])
  return results.flatMap(halves)
}

/** Transcripts by half, without the lines of named differences. */
export function comparable(all: readonly Half[]): Readonly<Record<string, readonly string[]>> {
  return Object.fromEntries(all.map((half) => [`${half.name} ${half.side}`, half.transcript.filter((line) => !/(^|: )difference /.test(line))]))
}

/** "ping-pong client: what failed" for each half that did not pass. */
export function failed(all: readonly Half[]): readonly string[] {
  return all.filter((half) => !half.pass).map((half) => `${half.name} ${half.side}: ${half.failures.join('; ')}`)
}
