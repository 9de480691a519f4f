/** The program of the exchanges (core/selftest/exchanges/), as tests run it, and what it says. */
import { type Exchange, exchangesPath, type Half, listExchanges } from '../../core/selftest/program.ts'
import { type LabPod, type Result, run } from './net.ts'

export { type Exchange, type Half, listExchanges }

export const exchanges = exchangesPath()

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
