/** Named checks and how they report. The harness outside (scripts/kernels/) reads one JSON line for each. */

export interface CheckResult {
  readonly name: string
  readonly ok: boolean
  /** What was seen; of a failed check, what was wrong. */
  readonly detail: string
  readonly seconds: number
}

/** What is checked, and how; what it returns is shown to people, what it throws is why it failed. */
export type Check = (name: string, work: () => Promise<string> | string) => Promise<void>

/** Checks that share what is expensive to set up. */
export interface Group {
  /** Each of them must be reported: a set-up that fails, fails them all. */
  readonly names: readonly string[]
  readonly run: (check: Check) => Promise<void>
}

/** Lines of the verifier's log worth showing: its end says what it did not like. */
const LOG_LINES = 8

/** The message, why, and the verifier's log if there is one. */
export function describeProblem(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : `\n${describeProblem(error.cause)}`
  const log = 'log' in error && typeof error.log === 'string' ? error.log : ''
  const lines = log
    .trimEnd()
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('mark_precise'))
  return [error.message.slice(0, 3000), ...lines.slice(-LOG_LINES)].join('\n').trim() + cause
}

export async function runGroup(group: Group, report: (result: CheckResult) => void): Promise<void> {
  const reported = new Set<string>()
  const tell = (name: string, ok: boolean, detail: string, start: number) => {
    reported.add(name)
    report({ name, ok, detail, seconds: (performance.now() - start) / 1000 })
  }
  const check: Check = async (name, work) => {
    if (!group.names.includes(name) || reported.has(name)) throw new Error(`"${name}" is not a check of this group, or ran twice`)
    const start = performance.now()
    try {
      tell(name, true, await work(), start)
    } catch (error) {
      tell(name, false, describeProblem(error), start)
    }
  }
  const start = performance.now()
  let reason = 'the group ended without it'
  try {
    await group.run(check)
  } catch (error) {
    reason = describeProblem(error)
  }
  for (const name of group.names) if (!reported.has(name)) tell(name, false, `not reached: ${reason}`, start)
}
