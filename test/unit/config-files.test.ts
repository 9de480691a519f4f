/** Reading files: what is not a config is a clear error, nothing hangs, and nothing that lies around is run. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { lastGoodPath, readLastGood, removeLastGood, saveLastGood } from '../../core/config/lastgood.ts'
import { digest, loadConfig } from '../../core/config/load.ts'
import { readSource } from '../../core/config/source.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { testPlugin, testSource } from './plugin-source.ts'

const plugins = testSource({ istio: testPlugin('istio') })
const good = 'version: 1\nmesh: istio\n'
const root = mkdtempSync(join(tmpdir(), 'merbridge-config-'))
after(() => rmSync(root, { recursive: true, force: true }))

const at = (name: string, text?: string): string => {
  const path = join(root, name)
  if (text !== undefined) writeFileSync(path, text)
  return path
}

const unreadable = async (path: string, message: RegExp) =>
  assert.rejects(loadConfig(path, plugins), (error) => {
    assert(error instanceof MerbridgeError)
    assert.equal(error.code, 'CONFIG_UNREADABLE')
    assert.match(error.message, message)
    assert.notEqual(error.hint, '')
    return true
  })

test('what is not a readable file is named, and nothing waits', { timeout: 20_000 }, async () => {
  await unreadable(at('none.yaml'), /no such file/)
  symlinkSync('nowhere', at('dangling'))
  await unreadable(at('dangling'), /symbolic link to nothing/)
  symlinkSync('circle', at('circle'))
  await unreadable(at('circle'), /circle/)
  await unreadable(root, /is a directory/)
  await unreadable(join(at('file', good), 'x'), /not a directory/)
  execFileSync('mkfifo', [at('fifo')])
  await unreadable(at('fifo'), /not a regular file/)
  await unreadable('/dev/zero', /not a regular file/)
  const server = createServer().listen(at('socket'))
  await unreadable(at('socket'), /is a socket/)
  server.close()
  await unreadable(at('large.yaml', '#'.repeat(10 * 1024 * 1024)), /has 10485760 bytes; the limit is 1048576 \(1 MiB\)/)
})

test('a file without permission', { skip: process.getuid?.() !== 0 && 'needs root, to become somebody else' }, () => {
  const path = at('secret.yaml', good)
  chmodSync(path, 0o600)
  chmodSync(root, 0o755)
  const source = new URL('../../core/config/source.ts', import.meta.url).href
  const script = `process.setuid(65534); const { readSource } = await import('${source}'); await readSource('${path}').catch((error) => console.log(error.code, error.message))`
  // Modules are read before the change of user.
  const text = execFileSync(process.execPath, ['--input-type=module', '-e', `await import('${source}'); ${script}`], { encoding: 'utf8' })
  assert.match(text, /CONFIG_UNREADABLE .*permission denied/)
})

test('a file under any name is read as it is, its links followed, its byte order mark removed', async () => {
  for (const name of ['a.yaml', 'package.json', 'package', 'x.mjs', 'config.ts', '.rc']) {
    const { meshes, text, sha256, path } = await loadConfig(at(name, `\ufeff${good}`), plugins)
    assert.deepEqual([meshes[0]?.plugin.name, text, sha256, path], ['istio', good, digest(good), at(name)])
  }
  symlinkSync('a.yaml', at('link'))
  assert.equal((await loadConfig(at('link'), plugins)).text, good)
})

test('a hostile working directory runs nothing and changes nothing', () => {
  const hostile = join(root, 'hostile')
  mkdirSync(join(hostile, '.config'), { recursive: true })
  const witness = join(root, 'witness')
  const attack = `import('node:fs').then((fs) => fs.writeFileSync(${JSON.stringify(witness)}, 'ran')); require?.('node:fs').writeFileSync(${JSON.stringify(witness)}, 'ran')`
  for (const name of ['config.mjs', 'config.cjs', 'config.js', 'config.ts', 'merbridgerc.mjs']) {
    writeFileSync(join(hostile, '.config', name), name.endsWith('.mjs') ? (attack.split(';')[0] ?? '') : attack)
  }
  writeFileSync(
    join(hostile, 'package.json'),
    JSON.stringify({ cosmiconfig: { searchPlaces: ['evil.cjs'], loaders: {} }, merbridge: { mesh: 'evil' } }),
  )
  writeFileSync(join(hostile, 'evil.cjs'), attack)
  writeFileSync(join(hostile, 'imported.yaml'), good)
  writeFileSync(join(hostile, 'c.yaml'), `$import: [./imported.yaml, ./evil.cjs, ./.config/config.cjs]\n${good}`)
  const launcher = join(import.meta.dirname, '../../bin/merbridge')
  const load = new URL('../../core/config/load.ts', import.meta.url).href
  const validate = () => execFileSync(launcher, ['validate', 'c.yaml'], { cwd: hostile, encoding: 'utf8', stdio: 'pipe' })
  assert.throws(validate, (error: { readonly status?: number; readonly stderr?: string }) => {
    assert.equal(error.status, 2)
    assert.match(error.stderr ?? '', /c\.yaml:1:1: \$import: unknown key "\$import"/)
    return true
  })
  // Also without the command line, which changes its directory.
  const script = `const { loadConfig } = await import('${load}'); await loadConfig('c.yaml', { builtIn: {}, load: async () => undefined }).catch((error) => console.log(error.code, process.cwd()))`
  const library = execFileSync(process.execPath, ['--input-type=module', '-e', script], { cwd: hostile, encoding: 'utf8' })
  assert.match(library, new RegExp(`^CONFIG_INVALID ${hostile}$`, 'm'))
  assert.throws(() => statSync(witness), /ENOENT/)
})

test('the last good config: private, whole, one for each config path', async () => {
  const state = join(root, 'state')
  assert.equal(await readLastGood(state, '/etc/a.yaml'), undefined)
  await saveLastGood(state, '/etc/a.yaml', good)
  await saveLastGood(state, '/etc/b.yaml', 'other')
  await saveLastGood(state, '/etc/a.yaml', `${good}# again\n`)
  assert.equal(await readLastGood(state, '/etc/a.yaml'), `${good}# again\n`)
  assert.equal(await readLastGood(state, '/etc/b.yaml'), 'other')
  const path = lastGoodPath(state, '/etc/a.yaml')
  assert.match(path, /\/state\/[0-9a-f]{16}\.yaml$/)
  assert.equal(statSync(state).mode & 0o777, 0o700)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.equal(readdirSync(state).length, 2, 'no temporary file is left')
  await removeLastGood(state, '/etc/a.yaml')
  await removeLastGood(state, '/etc/a.yaml')
  assert.equal(await readLastGood(state, '/etc/a.yaml'), undefined)
  assert.equal(readFileSync(lastGoodPath(state, '/etc/b.yaml'), 'utf8'), 'other')
})

test('reading leaves no descriptor open', async () => {
  const path = at('many.yaml', good)
  await readSource(path)
  const count = () => readdirSync('/proc/self/fd').length
  const before = count()
  for (let round = 0; round < 50; round++) {
    await readSource(path)
    await readSource(root).catch(() => {})
  }
  assert(count() <= before + 2, `${before} before, ${count()} after`)
})
