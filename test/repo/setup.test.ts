import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { root } from './files.ts'

const shell = (script: string, env: NodeJS.ProcessEnv = process.env, cwd = root) =>
  spawnSync('sh', ['-c', script], { cwd, env, encoding: 'utf8', timeout: 60_000 })

describe('set-up', () => {
  test('of a checkout that is set up does nothing, in under two seconds', () => {
    shell('sh scripts/setup.sh') // whoever edits while the tests run has things to build
    const start = performance.now()
    const { status, stdout, stderr } = shell('sh scripts/setup.sh')
    assert.equal(status, 0, stderr)
    assert.equal(stdout + stderr, '')
    assert.ok(performance.now() - start < 2000)
  })

  test('says so when the registry does not answer', (context) => {
    const directory = mkdtempSync(join(tmpdir(), 'merbridge-setup-'))
    context.after(() => rmSync(directory, { recursive: true }))
    writeFileSync(join(directory, 'npm'), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
    const copy = `cp -r '${root}/scripts' . && cp '${root}/package-lock.json' '${root}/.npmrc' .`
    const env = { PATH: `${directory}:/usr/sbin:/usr/bin:/sbin:/bin`, MERBRIDGE_SKIP_PACKAGES: '1' }
    const { status, stderr } = shell(
      `${copy} && sed -i 's/^\\tfor pause in .*/\\tfor pause in 0; do/' scripts/lib.sh && sh scripts/setup.sh`,
      env,
      directory,
    )
    assert.equal(status, 1)
    assert.match(stderr, /npm could not fetch node-linux-/)
  })

  test('refuses an archive of Node that is not the expected one', (context) => {
    const directory = mkdtempSync(join(tmpdir(), 'merbridge-setup-'))
    context.after(() => rmSync(directory, { recursive: true }))
    const name = `node-linux-${process.arch}-${/node_version=(\S+)/.exec(readFileSync(join(root, 'scripts/node.sh'), 'utf8'))?.[1]}.tgz`
    writeFileSync(join(directory, 'npm'), `#!/bin/sh\necho forged >.cache/node.new/${name}\n`, { mode: 0o755 })
    const env = { PATH: `${directory}:/usr/sbin:/usr/bin:/sbin:/bin`, MERBRIDGE_SKIP_PACKAGES: '1' }
    const { status, stderr } = shell(`cp -r '${root}/scripts' . && sh scripts/setup.sh`, env, directory)
    assert.equal(status, 1)
    assert.match(stderr, /SHA-512 differs/)
  })
})
