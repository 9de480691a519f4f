/** The verdict of the self-test: which files are believed, and what the agent does about a bad one. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { selfTestText } from '../../core/cli/selftest.ts'
import { AccelQuirk, AccelStop } from '../../core/contract.ts'
import { SelfTestGate } from '../../core/selftest/gate.ts'
import type { SelfTest } from '../../core/selftest/selftest.ts'
import { readVerdict, saveVerdict, type Verdict } from '../../core/selftest/verdict.ts'

function directoryFor(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'merbridge-verdict-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

const good: Verdict = { of: 'x', at: '2026-01-01T00:00:00.000Z', ms: 5, checks: [{ name: 'order', problems: [], ms: 1 }], charged: true, quirks: 1 }
const bad: Verdict = { ...good, checks: [{ name: 'order', problems: ['wrong'], ms: 1 }] }

test('a kept verdict is believed only when every field is what it should be', async (t) => {
  const directory = directoryFor(t)
  await saveVerdict(directory, good)
  assert.deepEqual(await readVerdict(directory, 'x'), good)
  assert.equal(await readVerdict(directory, 'y'), undefined, 'of another kernel')
  const { charged, ...unseen } = good
  await saveVerdict(directory, unseen)
  assert.deepEqual(await readVerdict(directory, 'x'), unseen)
  const wrong = [
    { quirks: undefined },
    { quirks: '1' },
    { quirks: -1 },
    { quirks: 1.5 },
    { quirks: 2 ** 32 },
    { charged: 1 },
    { charged: null },
    { ms: 'x' },
    { at: 1 },
    { checks: {} },
    { checks: [null] },
    { checks: [{ name: 'order', problems: [1], ms: 1 }] },
  ]
  for (const change of wrong) {
    writeFileSync(join(directory, 'selftest.json'), JSON.stringify({ ...good, ...change }))
    assert.equal(await readVerdict(directory, 'x'), undefined, JSON.stringify(change))
  }
})

test('what is no small regular file is neither read nor waited for', { timeout: 20_000 }, async (t) => {
  const directory = directoryFor(t)
  const path = join(directory, 'selftest.json')
  execFileSync('mkfifo', [path])
  assert.equal(await readVerdict(directory, 'x'), undefined)
  rmSync(path)
  writeFileSync(join(directory, 'elsewhere'), JSON.stringify(good))
  symlinkSync(join(directory, 'elsewhere'), path)
  assert.equal(await readVerdict(directory, 'x'), undefined)
  rmSync(path)
  writeFileSync(path, JSON.stringify(good))
  truncateSync(path, 2 ** 40) // sparse
  assert.equal(await readVerdict(directory, 'x'), undefined)
  await saveVerdict(directory, good)
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), good, 'a new one takes its place')
})

interface Tried {
  readonly gate: SelfTestGate
  readonly said: string[]
  readonly stopped: () => number
  readonly quirks: () => number | undefined
}

/** `verdicts`: what each attempt comes to, an Error where it does not. */
function gateWith(t: TestContext, verdicts: readonly (Verdict | Error)[], pauses: readonly number[]): Tried {
  const left = [...verdicts]
  const said: string[] = []
  let [stopped, quirks]: [number, number | undefined] = [0, undefined]
  const acceleration = {
    unavailable: undefined,
    stop: (bits: number) => {
      stopped |= bits
    },
    resume: (bits: number) => {
      stopped &= ~bits
    },
    setCharged: async () => {},
    setQuirks: (bits: number) => {
      quirks = bits
    },
  }
  const run = async (): Promise<Verdict> => {
    const next = left.shift()
    if (next instanceof Error || next === undefined) throw next ?? new Error('too often')
    return next
  }
  const directory = directoryFor(t)
  const trying = { known: async () => undefined, run, pauses }
  const gate = new SelfTestGate({ cgroup: directory } as SelfTest, directory, acceleration, (level) => said.push(level), trying)
  return { gate, said, stopped: () => stopped, quirks: () => quirks }
}

test('a failed self-test is tried again, says so once, and opens when it passes', async (t) => {
  const { gate, said, stopped, quirks } = gateWith(t, [bad, new Error('busy'), good], [5, 5, 5])
  assert.equal(stopped(), AccelStop.KERNEL)
  await gate.settle(new AbortController().signal)
  assert.deepEqual([gate.view.state, gate.view.again, stopped(), quirks()], ['passed', undefined, 0, 1])
  assert.deepEqual(said, ['error', 'debug', 'info'])
})

test('attempts end, and a kernel of which the quirks are not known has them', async (t) => {
  const never = gateWith(t, [bad, bad, bad], [5, 5])
  await never.gate.settle(new AbortController().signal)
  assert.deepEqual([never.gate.view.state, never.gate.view.again, never.stopped()], ['failed', undefined, AccelStop.KERNEL])
  const { quirks: _, ...unknown } = good
  const opened = gateWith(t, [unknown], [])
  await opened.gate.settle(new AbortController().signal)
  assert.equal(opened.quirks(), AccelQuirk.FIONREAD)
})

test('the end of the agent ends the waiting', { timeout: 20_000 }, async (t) => {
  const { gate, stopped } = gateWith(t, [bad], [3_600_000])
  const ended = new AbortController()
  const settled = gate.settle(ended.signal)
  setTimeout(() => {
    assert.match(gate.view.again ?? '', /^\d{4}-/)
    ended.abort()
  }, 200)
  await settled
  assert.equal(stopped(), AccelStop.KERNEL)
})

test('what is not tried is no success, and says why', () => {
  const text = selfTestText({ passed: false, kernel: '6.1.0', at: '', ms: 0, checks: [], notTried: 'attach.without in the config' })
  assert.match(text, /^kernel 6\.1\.0: not tried: attach\.without in the config\nacceleration stays off/)
})
