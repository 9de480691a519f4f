/** The self-test says yes to the programs as they are, and no to each of those with a rule taken out. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { acceleration } from '../../core/datapath/hooks.ts'
import { objectPath } from '../../core/root.ts'
import { sweepCgroups } from '../../core/selftest/place.ts'
import { passed, runSelfTest } from '../../core/selftest/selftest.ts'
import { program, until } from '../lab/agent.ts'
import { kill } from '../lab/process.ts'
import { MutantBuilder, mutants } from '../mutants/acceleration/build.ts'
import { complaint, exchangesOf } from '../mutants/acceleration/judge.ts'
import { cgroup, kernel, native } from './fixture.ts'

const verdictOn = (object: string) => runSelfTest({ native, kernel, object, cgroup }, new AbortController().signal)
const problemsOf = (verdict: Awaited<ReturnType<typeof verdictOn>>) => verdict.checks.flatMap(({ problems }) => problems)
const own = () => readdirSync(cgroup).filter((name) => name.startsWith('merbridge-selftest-'))
const processesOf = (name: string) =>
  readFileSync(join(cgroup, name, 'cgroup.procs'), 'utf8')
    .split('\n')
    .filter((pid) => pid !== '')

describe('the self-test of acceleration', { timeout: 240_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  test('passes on this kernel, two at once, and leaves nothing behind', async (t) => {
    const before = own()
    const verdicts = await Promise.all([1, 2].map(() => verdictOn(objectPath('merbridge.bpf.o'))))
    for (const verdict of verdicts) {
      assert.deepEqual(problemsOf(verdict), [])
      assert(passed(verdict))
      t.diagnostic(`${verdict.ms} ms`)
    }
    assert.deepEqual(own(), before)
  })

  test('killed in the middle: its processes end, and the next one removes its cgroup with what is still there', async () => {
    const before = own()
    const child = spawn(program, ['selftest'], { stdio: 'ignore' })
    const stays = spawn('/usr/bin/sleep', ['60'], { stdio: 'ignore' })
    const added = () => own().find((name) => !before.includes(name))
    try {
      await until('it has begun', 20_000, () => (added() !== undefined && processesOf(added() as string).length > 4 ? true : undefined))
      const name = added()
      assert(name !== undefined)
      writeFileSync(join(cgroup, name, 'cgroup.procs'), String(stays.pid))
      await kill(child)
      await until('its processes are gone', 20_000, () => (processesOf(name).length === 1 ? true : undefined))
      await until('it is swept', 20_000, () => {
        sweepCgroups(cgroup)
        return existsSync(join(cgroup, name)) ? undefined : true
      })
      assert.deepEqual(own(), before)
    } finally {
      await kill(child)
      await kill(stays)
    }
  })
})

describe('the self-test refuses what breaks a rule', { timeout: 240_000, concurrency: 3, skip: kernel.skip.get(acceleration.stub) }, () => {
  const builder = new MutantBuilder()
  after(() => builder[Symbol.dispose]())

  for (const mutant of mutants)
    test(mutant.name, async (t) => {
      const verdict = await verdictOn(await builder.build(mutant))
      assert.equal(complaint(mutant, verdict), undefined)
      t.diagnostic(`${verdict.ms} ms: ${exchangesOf(verdict).join(', ')}`)
    })
})
