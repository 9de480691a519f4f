/** What a run prints at its end. */
import type { Verdict } from './boot.ts'

export interface Result {
  readonly key: string
  readonly origin: string
  readonly verdict: Verdict
}

export const failed = ({ verdict }: Result): boolean =>
  verdict.problems.length > 0 || verdict.checks.length === 0 || verdict.checks.some(({ ok }) => !ok)

const cell = (result: Result, name: string): string => {
  const check = result.verdict.checks.find((each) => each.name === name)
  if (check === undefined) return '-'
  return check.ok ? 'ok' : check.detail.startsWith('not reached') ? 'not run' : 'FAILED'
}

/** kernel x check, then each kernel's seconds. */
export function printTable(results: readonly Result[]): string {
  const names = [...new Set(results.flatMap(({ verdict }) => verdict.checks.map(({ name }) => name)))]
  const first = Math.max(...names.map((name) => name.length), 10) + 2
  const widths = results.map(({ key }) => Math.max(key.length, 7) + 2)
  const line = (name: string, cells: readonly string[]) =>
    `${name.padEnd(first)}${cells.map((text, index) => text.padStart(widths[index] ?? 0)).join('')}\n`
  return [
    line(
      '',
      results.map(({ key }) => key),
    ),
    ...names.map((name) =>
      line(
        name,
        results.map((result) => cell(result, name)),
      ),
    ),
    line(
      'seconds',
      results.map(({ verdict }) => verdict.seconds.toFixed(0)),
    ),
  ].join('')
}

/** Why a kernel failed, in the words of its checks; a reason that several share is told once. */
export function explainFailure({ key, origin, verdict }: Result): string {
  const reasons = Map.groupBy(
    verdict.checks.filter(({ ok }) => !ok),
    ({ detail }) => detail.replace(/^not reached: /, ''),
  )
  const told = [...reasons].map(([detail, checks]) => `  ${checks.map(({ name }) => name).join(', ')}:\n    ${detail.replaceAll('\n', '\n    ')}`)
  return [`${key} (${origin}) failed; its console: ${verdict.consoleLog}`, ...verdict.problems.map((problem) => `  ${problem}`), ...told].join('\n')
}
