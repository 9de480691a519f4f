import { createLog, type LogStream } from '../log.ts'
import type { RunOptions } from '../run.ts'
import type { Outcome } from './outcome.ts'

/** Ends with the agent. It is loaded here and not before: no other command needs the addon for its work. */
export async function run(options: Omit<RunOptions, 'createLogger'>, stream: LogStream): Promise<Outcome> {
  const { runAgent } = await import('../run.ts')
  await runAgent({ ...options, createLogger: (settings) => createLog(settings, stream) })
  return { code: 0 }
}
