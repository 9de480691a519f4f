/** The verdict of the self-test of acceleration, which need not run for every agent of the tests: the last one on this kernel and this build that passed is kept. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { passed, type Verdict } from '../../core/selftest/verdict.ts'
import type { StatusView } from '../../core/views.ts'
import type { Agent } from './agent.ts'

const kept = resolve(import.meta.dirname, '../../.cache/selftest.json')
const file = (stateDir: string) => join(stateDir, 'selftest.json')
/** Milliseconds, on a busy machine */
const patience = 90_000

/** A copy that passed, and nothing else; whole, also when others read and write it at the same time. */
export async function copyPassed(from: string, to: string): Promise<void> {
  try {
    const text = await readFile(from, 'utf8')
    if (!passed(JSON.parse(text) as Verdict)) return
    const temporary = `${to}.${process.pid}`
    await mkdir(dirname(to), { recursive: true })
    await writeFile(temporary, text, { mode: 0o600 })
    await rename(temporary, to)
  } catch {
    // There is none, or it cannot be read: the next agent finds its own.
  }
}

export const giveVerdict = (stateDir: string): Promise<void> => copyPassed(kept, file(stateDir))
export const keepVerdict = (stateDir: string): Promise<void> => copyPassed(file(stateDir), kept)

/** The agent has the verdict, and it is a good one: from now on only its operator, its config and memory decide. */
export function selfTested(agent: Agent): Promise<StatusView> {
  return agent.waitFor('the self-test has passed', patience, ({ selfTest }) => {
    if (selfTest?.state === 'failed') throw new Error(`the self-test failed: ${JSON.stringify(selfTest.failed)}`)
    return selfTest?.state === 'passed'
  })
}
