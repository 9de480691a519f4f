import assert from 'node:assert/strict'
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { leftovers, RUN_VARIABLE, snapshot } from '../../scripts/leftovers.ts'
import { root } from './files.ts'

/** Runs the unit ring in a directory that has only these files. */
async function unitRing(context: TestContext, files: Readonly<Record<string, string>>): Promise<SpawnSyncReturns<string>> {
  const directory = await mkdtemp(join(tmpdir(), 'rings-'))
  context.after(() => rm(directory, { recursive: true }))
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, path)), { recursive: true })
    await writeFile(join(directory, path), text)
  }
  const { NODE_TEST_CONTEXT: _, ...env } = process.env // or the inner runner would report to the outer one
  const own = { ...env, [RUN_VARIABLE]: `rings-test-${process.pid}`, TMPDIR: directory }
  return spawnSync(process.execPath, [join(root, 'scripts/rings.ts'), 'unit'], { cwd: directory, env: own, encoding: 'utf8', timeout: 60_000 })
}

const passing = "import { test } from 'node:test'\ntest('works', () => {})\ntest('cannot', { skip: 'needs a unicorn' }, () => {})\n"
const failing = "import { test } from 'node:test'\ntest('breaks', () => { throw new Error('no') })\n"
const leaving = `import { spawn } from 'node:child_process'
import { test } from 'node:test'
test('forgets', () => spawn('sleep', ['21.5'], { detached: true, stdio: 'ignore' }).unref())
`

describe('npm test cannot be green by accident', () => {
  test('tests that pass: exit 0, a table, the reason of each skip', async (context) => {
    const { status, stdout } = await unitRing(context, { 'test/unit/a.test.ts': passing })
    assert.match(stdout, /^unit +2 +1 +\d+\.\d\d {2}passed$/m)
    assert.match(stdout, /skipped 1: needs a unicorn/)
    assert.equal(status, 0, stdout)
  })

  test('one test that fails: exit 1 and its name', async (context) => {
    const { status, stdout } = await unitRing(context, { 'test/unit/a.test.ts': passing, 'test/unit/b.test.ts': failing })
    assert.equal(status, 1)
    assert.match(stdout, /^unit .*FAILED$/m)
    assert.match(stdout, /failed: breaks/)
  })

  test('a file that does not even load: exit 1', async (context) => {
    const { status } = await unitRing(context, { 'test/unit/a.test.ts': "import './missing.ts'\n" })
    assert.equal(status, 1)
  })

  test('no tests at all: exit 1', async (context) => {
    const { status, stdout } = await unitRing(context, {})
    assert.equal(status, 1)
    assert.match(stdout, /no tests/)
  })

  test('a process left behind: exit 1 and its command line', async (context) => {
    const { status, stdout } = await unitRing(context, { 'test/unit/a.test.ts': leaving })
    assert.match(stdout, /LEFT BEHIND:\n {2}process \d+ sleep 21\.5/)
    assert.equal(status, 1)
    process.kill(Number(/process (\d+) sleep/.exec(stdout)?.[1]), 'SIGKILL')
  })
})

describe('the search for leftovers', () => {
  test('names a temporary directory of ours, and nothing after it is gone', async () => {
    const before = await snapshot(false)
    const directory = await mkdtemp(join(tmpdir(), 'merbridge-left-'))
    const found = await leftovers(before)
    await rm(directory, { recursive: true })
    assert.ok(found.includes(`temporary ${directory}`), found.join('\n'))
  })

  test('ignores a process that carries the mark of another run', async () => {
    const before = await snapshot(false)
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 30_000)'], { env: { [RUN_VARIABLE]: 'another' }, stdio: 'ignore' })
    const found = await leftovers(before)
    child.kill('SIGKILL')
    assert.ok(!found.some((line) => line.startsWith(`process ${child.pid} `)), found.join('\n'))
  })
})
