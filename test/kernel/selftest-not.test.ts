/** `merbridge selftest` does not run what the agent would not: a kernel that crashes, or code that the config leaves out. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { SelfTestResult } from '../../core/cli/selftest.ts'
import { program } from '../lab/agent.ts'

test('attach.without: the self-test is not tried, says so, and keeps no verdict', { timeout: 60_000 }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'merbridge-untried-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const config = join(directory, 'config.yaml')
  writeFileSync(config, 'version: 1\nmesh: istio\nattach: { without: [acceleration] }\n')
  const selfTest = (output: string) =>
    new Promise<{ readonly code: unknown; readonly stdout: string }>((resolve) => {
      execFile(program, ['selftest', '--config', config, '--state-dir', directory, '--output', output], (error, stdout) =>
        resolve({ code: error?.code ?? 0, stdout }),
      )
    })
  const { code, stdout } = await selfTest('json')
  const result = JSON.parse(stdout) as SelfTestResult
  assert.deepEqual([code, result.passed, result.checks, result.notTried], [1, false, [], 'attach.without in the config'])
  const text = await selfTest('text')
  assert.equal(text.code, 1)
  assert.match(text.stdout, /: not tried: attach\.without in the config\nacceleration stays off/)
  assert.equal(existsSync(join(directory, 'selftest.json')), false)
})
