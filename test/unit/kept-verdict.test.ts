/** What the agents of the tests hand on to each other: a verdict that passed, and nothing else. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { copyPassed } from '../lab/verdict.ts'

test('a verdict that passed is handed on; one that failed, or is no verdict, leaves the last good one', async (context) => {
  const directory = mkdtempSync(join(tmpdir(), 'merbridge-test-'))
  context.after(() => rmSync(directory, { recursive: true }))
  const [found, kept] = [join(directory, 'found.json'), join(directory, 'kept', 'selftest.json')]
  const verdict = (...problems: string[]) => JSON.stringify({ of: 'x', at: 'y', ms: 1, checks: [{ name: 'TCP', problems }] })

  await copyPassed(found, kept)
  for (const text of [verdict('a byte was lost'), '{"of":"x","at":"y","ms":1,"checks":[]}', '{}', 'null', '{"of']) {
    writeFileSync(found, text)
    await copyPassed(found, kept)
    assert.equal(existsSync(kept), false, text)
  }
  writeFileSync(found, verdict())
  await copyPassed(found, kept)
  writeFileSync(found, verdict('a byte was lost'))
  await copyPassed(found, kept)
  assert.equal(readFileSync(kept, 'utf8'), verdict())
  assert.deepEqual(readdirSync(join(directory, 'kept')), ['selftest.json'])
})
