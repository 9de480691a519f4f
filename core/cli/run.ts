import type { LogSettings } from '../config/schema.ts'
import { createLog, type Log, type LogStream } from '../log.ts'
import type { RunOptions } from '../run.ts'
import type { Outcome, Output } from './outcome.ts'

/** With --output json the log is JSON lines, whatever the config says. */
function logFor(stream: LogStream, output: Output, settings: LogSettings): Log {
  const asked = (wanted: LogSettings): LogSettings => (output === 'json' ? { ...wanted, format: 'json' } : wanted)
  const log = createLog(asked(settings), stream)
  const { configure } = log
  return Object.assign(log, { configure: (next: LogSettings) => configure(asked(next)) })
}

/** Ends with the agent. It is loaded here and not before: no other command needs the addon for its work. */
export async function run(options: Omit<RunOptions, 'createLogger'>, stream: LogStream, output: Output): Promise<Outcome> {
  const { runAgent } = await import('../run.ts')
  await runAgent({ ...options, createLogger: (settings) => logFor(stream, output, settings) })
  return { code: 0 }
}
