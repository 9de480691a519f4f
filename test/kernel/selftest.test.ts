/** The self-test says yes to the programs as they are, and no to each of those with a rule taken out. */
import assert from 'node:assert/strict'
import { readdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { describe, test } from 'node:test'
import { objectPath } from '../../core/root.ts'
import { sweepCgroups } from '../../core/selftest/place.ts'
import { passed, runSelfTest } from '../../core/selftest/selftest.ts'
import { buildMutant, mutants } from '../mutants/acceleration/build.ts'
import { cgroup, kernel, native } from './fixture.ts'

const verdictOn = (object: string) => runSelfTest({ native, kernel, object, cgroup }, new AbortController().signal)

describe('the self-test of acceleration', { timeout: 300_000 }, () => {
  test('passes on this kernel, and leaves nothing behind', async () => {
    const verdict = await verdictOn(objectPath('merbridge.bpf.o'))
    assert.deepEqual(
      verdict.checks.flatMap(({ problems }) => problems),
      [],
    )
    assert(passed(verdict))
    sweepCgroups(cgroup)
    assert.deepEqual(
      readdirSync(cgroup).filter((name) => name.startsWith('merbridge-selftest-')),
      [],
    )
  })

  for (const mutant of mutants)
    test(`refuses ${mutant.name}`, async () => {
      const object = await buildMutant(mutant)
      try {
        const verdict = await verdictOn(object)
        const problems = verdict.checks.flatMap((check) => check.problems)
        assert(!passed(verdict))
        if (mutant.whole === undefined) return
        // Each problem begins with the exchange that has it.
        const failed = new Set(problems.map((problem) => problem.split(' ', 1)[0]))
        assert(failed.size >= 8, `only ${[...failed].join(', ')}`)
      } finally {
        rmSync(dirname(object), { recursive: true, force: true })
      }
    })
})
