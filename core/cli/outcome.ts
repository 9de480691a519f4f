/** What a command comes to: text to print and the exit code. Only core/main.ts prints and exits. */
import { stringify } from 'yaml'
import { printable } from '../config/printable.ts'
import { errorView } from '../control/api.ts'
import { type ErrorCode, MerbridgeError } from '../errors.ts'

export type Output = 'text' | 'json' | 'yaml'

export const outputs: readonly Output[] = ['text', 'json', 'yaml']

/** 0 well, 1 failed, 2 wrong use or invalid config, 3 agent not running */
export type ExitCode = 0 | 1 | 2 | 3

export interface Outcome {
  readonly code: ExitCode
  readonly stdout?: string
  readonly stderr?: string
}

const codes: Partial<Record<ErrorCode, ExitCode>> = {
  CONFIG_INVALID: 2,
  CONFIG_UNREADABLE: 2,
  CONFIG_RESTART: 2,
  PLUGIN_FAILED: 2,
  PLUGIN_DENIED: 2,
  PLUGIN_INVALID: 2,
  COMPILE_FAILED: 2,
  USAGE: 2,
  AGENT_NOT_RUNNING: 3,
}

export const exitCodeOf = (error: unknown): ExitCode => (error instanceof MerbridgeError ? (codes[error.code] ?? 1) : 1)

/** The text of a view; `text` is what a terminal gets. */
export function render(view: unknown, output: Output, text: () => string): string {
  if (output === 'json') return `${JSON.stringify(view, undefined, 2)}\n`
  return output === 'yaml' ? stringify(view, { aliasDuplicateObjects: false }) : text()
}

const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)

function errorText(error: MerbridgeError): string {
  if (error.found !== undefined) return error.found.detail
  return `merbridge: ${printable(error.message)}\n  ${sentence(printable(error.hint))}`
}

/** Something that no code of ours foresaw: a defect, or the kernel's answer to a system call. */
function unforeseen(error: unknown): MerbridgeError {
  const message = error instanceof Error ? error.message : String(error)
  return new MerbridgeError('AGENT_FAILED', message, 'If this is a defect, report it with the output of "merbridge status --output json".', error)
}

/** Never a stack trace. */
export function failure(error: unknown, output: Output): Outcome {
  const known = error instanceof MerbridgeError ? error : unforeseen(error)
  return { code: exitCodeOf(error), stderr: render(errorView(known), output, () => `${errorText(known)}\n`) }
}
