/** What the self-test says of a mutant, and what it should say. */
import type { Verdict } from '../../../core/selftest/selftest.ts'
import { passed } from '../../../core/selftest/verdict.ts'
import type { Mutant } from './build.ts'

/** Those that told it apart. Each problem begins with the exchange that has it. */
export const exchangesOf = ({ checks }: Verdict): string[] => {
  const problems = checks.flatMap((check) => check.problems)
  return [...new Set(problems.flatMap((problem) => /^(\S+) \((?:client|server)\)/.exec(problem)?.[1] ?? []))].sort()
}

/** undefined: the self-test is as strict as it should be. */
export function complaint(mutant: Mutant, verdict: Verdict): string | undefined {
  if (passed(verdict)) return `the self-test says yes to the mutant '${mutant.name}'`
  const [load] = verdict.checks.filter(({ name, problems }) => name === 'loading the programs' && problems.length > 0)
  if (load !== undefined) return `the mutant '${mutant.name}' does not load, so nothing was tried: ${load.problems[0]}`
  return undefined
}
