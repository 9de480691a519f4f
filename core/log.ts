/** The agent's log: JSON lines for machines, pretty lines for a terminal. Written in the calling thread, so that nothing is lost at an exit. */
import pino from 'pino'
import { prettyFactory } from 'pino-pretty'
import { printable } from './config/printable.ts'
import type { LogSettings } from './config/schema.ts'
import { MerbridgeError } from './errors.ts'

export interface LogStream {
  write(text: string): unknown
  readonly isTTY?: boolean
}

/** Fields with a meaning of their own: `pod` ("default/web"), `code` and `hint` (of a MerbridgeError), `err` (an Error). */
export type Log = pino.Logger & {
  /** Takes effect with the next message. */
  configure(settings: LogSettings): void
}

/** A MerbridgeError says what to do, so its stack would only hide it; that of anything else is a defect's address. */
function describeError(error: unknown): unknown {
  if (error instanceof MerbridgeError) {
    const { code, message, hint, found } = error
    return { code, message, hint, ...(found === undefined ? {} : { issues: found.issues }) }
  }
  return error instanceof Error ? pino.stdSerializers.err(error) : error
}

function prettyPrinter(colour: boolean): (line: string) => string {
  const print = prettyFactory({ colorize: colour, ignore: 'pid,hostname', translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l', singleLine: true })
  return (line) => {
    const fields = JSON.parse(line, (_key, value: unknown) => (typeof value === 'string' && !isStack(value) ? printable(value) : value))
    return print(fields) ?? line
  }
}

const isStack = (text: string) => /^\s+at /m.test(text)

/** "warn", not pino's 40: whoever greps knows no numbers. */
const named = (level: string) => ({ level })

export function createLog(settings: LogSettings, stream: LogStream): Log {
  const pretty = prettyPrinter(stream.isTTY === true)
  let format = settings.format
  const write = (line: string) => {
    const asPretty = format === 'pretty' || (format === 'auto' && stream.isTTY === true)
    stream.write(asPretty ? pretty(line) : line)
  }
  const shape = { base: null, timestamp: pino.stdTimeFunctions.isoTime, serializers: { err: describeError }, formatters: { level: named } }
  const logger = pino({ level: settings.level, ...shape }, { write })
  return Object.assign(logger, {
    configure(next: LogSettings) {
      format = next.format
      logger.level = next.level
    },
  })
}
