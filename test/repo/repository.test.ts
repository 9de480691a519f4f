import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { dirname, join, matchesGlob } from 'node:path'
import { test } from 'node:test'
import { rings } from '../../scripts/ring-list.ts'
import { repositoryFiles, root, textOf } from './files.ts'

interface Lock {
  readonly packages: Readonly<
    Record<
      string,
      {
        readonly resolved?: string
        readonly integrity?: string
        readonly hasInstallScript?: boolean
        readonly dependencies?: Readonly<Record<string, string>>
        readonly optionalDependencies?: Readonly<Record<string, string>>
        readonly devDependencies?: object
      }
    >
  >
}

const lock = JSON.parse(textOf('package-lock.json')) as Lock
const manifest = JSON.parse(textOf('package.json')) as {
  readonly dependencies: Readonly<Record<string, string>>
  readonly devDependencies: Readonly<Record<string, string>>
  readonly scripts: Readonly<Record<string, string>>
}

test('the lockfile is the one of package.json, names no registry, and pins content', () => {
  const { '': own, ...others } = lock.packages
  assert.deepEqual(own?.dependencies, manifest.dependencies)
  assert.deepEqual(own?.devDependencies, manifest.devDependencies)
  assert.ok(Object.keys(others).length > 30)
  for (const [path, { resolved, integrity }] of Object.entries(others)) {
    assert.equal(resolved, undefined, path)
    assert.match(integrity ?? '', /^sha512-/, path)
  }
})

test('the lockfile has every platform package, or npm ci refuses it', () => {
  for (const [path, { optionalDependencies = {} }] of Object.entries(lock.packages)) {
    for (const name of Object.keys(optionalDependencies)) assert.ok(`node_modules/${name}` in lock.packages, `${name}, wanted by ${path}`)
  }
})

test('no dependency needs an install script', () => {
  const scripted = Object.entries(lock.packages).filter(([, { hasInstallScript }]) => hasInstallScript)
  assert.deepEqual(scripted, [])
})

test('every dependency is pinned to one version and has its line in docs/dependencies.md', () => {
  const text = textOf('docs/dependencies.md')
  for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
    assert.match(version, /^\d+\.\d+\.\d+$/, name)
    assert.ok(text.includes(`\`${name}\``), `${name} is not in docs/dependencies.md`)
  }
})

test('no machine path and no registry host in any file', () => {
  const hosts = ['registry.npmjs', 'registry.yarnpkg', 'files.pythonhosted', 'pypi', 'deb.debian', 'proxy.golang'].map((name) =>
    name.replace('.', '\\.'),
  )
  const forbidden = new RegExp(`(?:${hosts.join('|')})\\.(?:org|com)|/(?:work|Users)/\\w|/home/(?!\\$)\\w`, 'i')
  assert.match(`https://${['registry', 'npmjs', 'org'].join('.')}/`, forbidden)
  for (const path of repositoryFiles()) {
    const line = textOf(path)
      .split('\n')
      .findIndex((text) => forbidden.test(text))
    assert.equal(line, -1, `${path}:${line + 1}`)
  }
})

test('every test file belongs to exactly one ring', () => {
  const files = repositoryFiles().filter((path) => path.endsWith('.test.ts'))
  assert.ok(files.length > 5)
  for (const file of files) {
    const owners = Object.entries(rings).filter(([, ring]) => ring.tests?.some((directory) => matchesGlob(file, `${directory}/**/*.test.ts`)))
    assert.equal(owners.length, 1, `${file}: ${owners.map(([name]) => name).join(', ') || 'no ring'}`)
  }
})

test('every ring has its row in docs/testing.md and its script', () => {
  for (const ring of Object.keys(rings)) {
    assert.match(textOf('docs/testing.md'), new RegExp(`^\\| ${ring} \\|`, 'm'))
    const script = ring === 'check' ? 'check' : `test:${ring}`
    if (ring !== 'kernels-all') assert.match(manifest.scripts[script] ?? '', new RegExp(` ${ring}$`), script)
    const longer = ['kernels-all', 'parity', 'mutants'].includes(ring) // npm test has a part of each
    assert.match(longer ? textOf('scripts/full.sh') : (manifest.scripts.test ?? ''), new RegExp(` ${ring}\\b`))
  }
})

test('every file that package.json, README.md and docs/ point to exists', () => {
  for (const [name, command] of Object.entries(manifest.scripts)) {
    for (const [path] of command.matchAll(/\b(?:scripts|test|bench)\/\S+\.(?:ts|sh)\b/g)) assert.ok(existsSync(join(root, path)), `${name}: ${path}`)
  }
  const pages = repositoryFiles().filter((path) => path.endsWith('.md'))
  assert.ok(pages.includes('README.md'))
  for (const page of pages) {
    for (const [, target = ''] of textOf(page).matchAll(/\]\((?!https?:|#)([^)#\s]+)[^)]*\)/g)) {
      assert.ok(existsSync(join(root, dirname(page), target)), `${page} points to ${target}`)
    }
  }
})

test('Node 22 can run the sources: no `using` declaration, which its engine does not know', () => {
  const sources = repositoryFiles().filter((path) => /^(core|plugins)\/.*\.ts$/.test(path))
  assert.ok(sources.length > 50)
  assert.deepEqual(
    sources.filter((path) => /^\s*(await\s+)?using\s+\w+\s*=/m.test(textOf(path))),
    [],
  )
})
