import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { root, textOf } from './files.ts'

/** The only programs that the installed command line finds in PATH: no compiler, no npm, no bpftool. */
const tools = ['sh', 'readlink', 'dirname']

const yamlFiles = (directory: string) => readdirSync(join(directory, 'config')).flatMap((name) => (name.endsWith('.yaml') ? [`config/${name}`] : []))

describe('the package, unpacked on a machine without compiler and without development dependencies', () => {
  let directory: string
  let installed: string

  /** Packages that are needed at run time, as the lockfile knows them. */
  function linkDependencies(modules: string): void {
    const { packages } = JSON.parse(textOf('package-lock.json')) as { packages: Record<string, { dev?: boolean }> }
    for (const [path, { dev }] of Object.entries(packages)) {
      const name = path.slice('node_modules/'.length)
      if (name === '' || dev || name.includes('/node_modules/') || !existsSync(join(root, path))) continue
      mkdirSync(dirname(join(modules, name)), { recursive: true })
      symlinkSync(join(root, path), join(modules, name))
    }
  }

  function merbridge(...args: readonly string[]) {
    const env = { PATH: join(directory, 'bin') }
    return spawnSync(join(installed, 'bin/merbridge'), args, { cwd: '/', env, encoding: 'utf8', timeout: 30_000 })
  }

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'merbridge-package-'))
    const output = execFileSync(process.execPath, [join(root, 'scripts/package.ts')], { encoding: 'utf8' })
    const tarball = output.trim().split('\n').at(-1) ?? ''
    installed = join(directory, 'node_modules/merbridge')
    mkdirSync(installed, { recursive: true })
    execFileSync('tar', ['-xzf', tarball, '-C', installed, '--strip-components=1'])
    linkDependencies(join(directory, 'node_modules'))
    mkdirSync(join(directory, 'bin'))
    for (const tool of tools) symlinkSync(execFileSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim(), join(directory, 'bin', tool))
    symlinkSync(process.execPath, join(directory, 'bin/node'))
  })

  after(() => rmSync(directory, { recursive: true, force: true }))

  test('has the programs, the addon, the program of the self-test, the licences and the plugin types, and no source', () => {
    const native = ['merbridge.node', 'exchanges'].map((file) => `prebuilds/linux-${process.arch}/${file}`)
    const licences = ['LICENSE', 'bpf/LICENSE', 'bpf/LICENSES/GPL-2.0-only.txt', 'bpf/LICENSES/BSD-2-Clause.txt']
    for (const path of ['dist/bpf/merbridge.bpf.o', 'dist/core/plugin.d.ts', 'bin/merbridge', ...native, ...licences]) {
      assert.ok(existsSync(join(installed, path)), path)
    }
    for (const path of ['core', 'scripts', 'test', 'node_modules']) assert.ok(!existsSync(join(installed, path)), path)
    assert.equal(readFileSync(join(installed, 'dist/bpf/merbridge.bpf.o')).subarray(1, 4).toString(), 'ELF')
  })

  test('has every page and example that its texts point to', () => {
    const texts = ['README.md', 'CHANGELOG.md', ...readdirSync(join(installed, 'docs')).map((name) => `docs/${name}`), ...yamlFiles(installed)]
    const pages = texts.flatMap((file) => [...readFileSync(join(installed, file), 'utf8').matchAll(/\b(?:docs|config)\/[\w.-]+\.(?:md|yaml)\b/g)])
    const named = [...new Set(pages.map(([page]) => page))]
    assert.ok(named.length > 15, named.join())
    assert.deepEqual(
      named.filter((page) => !existsSync(join(installed, page))),
      [],
    )
  })

  test('--version prints the version of the package', () => {
    const { version } = JSON.parse(textOf('package.json')) as { version: string }
    const { status, stdout, stderr } = merbridge('--version')
    assert.equal(stdout.trim(), version, stderr)
    assert.equal(status, 0)
  })

  test('schema prints the JSON Schema of the configuration', () => {
    const { status, stdout, stderr } = merbridge('schema')
    assert.equal(status, 0, stderr)
    assert.equal((JSON.parse(stdout) as { type: string }).type, 'object')
  })

  test('validate accepts the shipped configuration and refuses a wrong one', () => {
    const good = merbridge('validate', join(installed, 'config/merbridge.yaml'))
    assert.equal(good.status, 0, good.stderr)
    const file = join(directory, 'wrong.yaml')
    writeFileSync(file, 'version: 1\nmesh: istio\nworklods: {}\n')
    const wrong = merbridge('validate', file)
    assert.equal(wrong.status, 2)
    assert.match(wrong.stderr + wrong.stdout, /worklods/)
  })

  const guide = () => [...textOf('docs/plugins.md').matchAll(/^```ts (\S+)\n(.*?)^```$/gms)].map(([, name = '', text = '']) => ({ name, text }))

  test('a plugin is loaded by path, in a process of its own', () => {
    const plugins = join(directory, 'plugins')
    mkdirSync(plugins, { mode: 0o755 })
    for (const { name, text } of guide()) writeFileSync(join(plugins, name), text, { mode: 0o644 })
    const load =
      `const { pluginSource } = await import(${JSON.stringify(join(installed, 'dist/core/plugins.js'))});` +
      `const plugin = await pluginSource([${JSON.stringify(plugins)}]).load({ path: ${JSON.stringify(join(plugins, 'acme.ts'))} });` +
      'console.log(plugin.name, JSON.stringify(plugin.options.parse({})))'
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', load], { cwd: '/', encoding: 'utf8' })
    assert.equal(status, 0, stderr)
    assert.equal(stdout, 'acme {"outboundPort":9901,"inboundPort":9902,"proxyUid":4200}\n')
    assert.equal(stderr, '', 'no warning')
  })

  test('authors of plugins have its types and its contract', () => {
    const home = join(directory, 'author')
    mkdirSync(home)
    for (const { name, text } of guide()) writeFileSync(join(home, name), text)
    writeFileSync(join(home, 'package.json'), '{ "type": "module" }')
    const { NODE_TEST_CONTEXT: _, ...env } = process.env // or the inner runner would report to the outer one
    const tests = spawnSync(process.execPath, ['--test', 'acme.test.ts'], { cwd: home, env, encoding: 'utf8', timeout: 60_000 })
    assert.equal(tests.status, 0, tests.stdout)
    const options = ['--noEmit', '--strict', '--target', 'es2024', '--module', 'nodenext', '--skipLibCheck', '--allowImportingTsExtensions']
    const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types')]
    const tsc = spawnSync(join(root, 'node_modules/.bin/tsc'), [...options, ...types, 'acme.ts', 'acme.test.ts'], { cwd: home, encoding: 'utf8' })
    assert.equal(tsc.status, 0, tsc.stdout)
  })

  test('the addon loads', () => {
    const load = `const { native } = await import(${JSON.stringify(join(installed, 'dist/core/native/index.js'))}); console.log(native.libbpf)`
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', load], { cwd: '/', encoding: 'utf8' })
    assert.equal(status, 0, stderr)
    assert.match(stdout, /^\d+\.\d+/)
  })
})
