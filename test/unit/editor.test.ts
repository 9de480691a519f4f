/** What an editor with a YAML language server offers for a config: tried with the server that VS Code, Neovim and others use. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { LanguageServer } from './language-server.ts'

const directory = join(import.meta.dirname, '../../config')

describe('a YAML language server with config/schema.json', { timeout: 120_000 }, () => {
  let server: LanguageServer

  before(async () => {
    server = await LanguageServer.start(join(directory, 'schema.json'))
  })
  after(() => server?.[Symbol.asyncDispose]())

  async function offers(marked: string, labels: readonly string[], never: readonly string[] = []): Promise<void> {
    const offered = (await server.complete(marked)).map(({ label }) => label)
    for (const label of labels) assert(offered.includes(label), `${label} is not offered, but ${offered.join(', ')}:\n${marked}`)
    for (const label of never) assert(!offered.includes(label), `${label} is offered:\n${marked}`)
  }

  test('offers the keys that are possible, and no others', async () => {
    await offers('|', ['version', 'mesh', 'meshes', 'options', 'workloads', 'attach', 'control', 'log'])
    await offers('version: 1\nmesh: istio\n|', ['workloads', 'options'], ['version', 'proxyPort', 'property'])
    await offers('version: 1\nmesh: istio\nattach:\n  |', ['cgroup', 'bpffs', 'identity', 'btf', 'without'], ['level'])
    await offers('version: 1\nmesh: istio\nworkloads:\n  static:\n    - |', ['name', 'netns', 'pid', 'annotations', 'containers'])
    await offers('version: 1\nmesh: { p| }', ['path', 'package'])
  })

  test('offers the options of the mesh that is named, here and in a list', async () => {
    const istio = ['proxyPort', 'inboundPort', 'excludeOutboundCidrs']
    await offers('version: 1\nmesh: istio\noptions:\n  |', istio, ['property'])
    await offers('version: 1\nmesh: { path: /etc/merbridge/plugins/acme.ts }\noptions:\n  |', [], istio)
    await offers('version: 1\nmeshes:\n  - mesh: istio\n    options:\n      |', istio)
    await offers('version: 1\nmeshes:\n  - mesh: { package: acme }\n    options:\n      |', [], istio)
  })

  test('offers what an entry of meshes has, and what a match has', async () => {
    await offers('version: 1\nmeshes:\n  - |', ['mesh', 'options', 'match'])
    await offers('version: 1\nmeshes:\n  - mesh: istio\n    match:\n      |', ['podSelector', 'namespaceSelector'])
    const selector = 'version: 1\nmeshes:\n  - mesh: istio\n    match:\n      podSelector:\n        '
    await offers(`${selector}|`, ['matchLabels', 'matchExpressions'])
    await offers(`${selector}matchExpressions:\n          - |`, ['key', 'operator', 'values'])
    await offers(`${selector}matchExpressions:\n          - key: app\n            operator: |`, ['In', 'NotIn', 'Exists', 'DoesNotExist'])
  })

  test('offers the values of an enumeration', async () => {
    await offers('version: 1\nmesh: |', ['istio'])
    await offers('version: 1\nmesh: istio\nattach:\n  identity: |', ['auto', 'netns'])
    await offers('version: 1\nmesh: istio\nlog:\n  level: |', ['trace', 'debug', 'info', 'warn', 'error'])
    await offers('version: 1\nmesh: istio\nattach:\n  without:\n    - |', ['set_retval', 'getpeername'])
  })

  test('explains a key', async () => {
    assert.match(await server.hover('version: 1\nme|sh: istio\n'), /mesh whose interception rules apply/)
    assert.match(await server.hover('version: 1\nmesh: istio\nattach:\n  bp|ffs: /a\n'), /Directory of the pinned datapath.*restart/)
    assert.match(await server.hover('version: 1\nmesh: istio\noptions:\n  proxy|Port: 1\n'), /where the sidecar takes outbound connections/)
    assert.match(await server.hover('version: 1\nmeshes:\n  - mesh: istio\n    ma|tch: {}\n'), /The pods that this entry takes/)
  })

  test('names what is wrong, on its line', async () => {
    const cases: readonly (readonly [text: string, line: number, message: RegExp])[] = [
      ['version: 1\nmesh: istio\noptoins: {}\n', 2, /optoins is not allowed/],
      ['version: 1\nmesh: istoi\n', 1, /istio/],
      ['version: 1\nmesh: istio\noptions: { proxyprot: 1 }\n', 2, /proxyprot is not allowed/],
      ['version: 1\nmeshes:\n  - mesh: istio\n    options: { proxyPort: 70000 }\n', 3, /65535/],
      ['version: 1\nmesh: istio\nmeshes: [{ mesh: istio }]\n', 0, /only one/],
      ['version: 1\n', 0, /Missing property/],
      ['version: 1\nmesh: { path: /a.ts, package: a }\n', 1, /more properties than/i],
      ['version: 1\nmesh: istio\nworkloads:\n  static:\n    - { name: a }\n', 4, /netns/],
    ]
    for (const [text, line, message] of cases) {
      const [first, ...others] = await server.diagnose(text)
      assert.deepEqual([first?.range.start.line, others.length], [line, 0], `${text}${JSON.stringify([first, ...others])}`)
      assert.match(first?.message ?? '', message, text)
    }
  })

  test('finds nothing wrong with the examples, by the schema that they name', async () => {
    const examples = readdirSync(directory).filter((name) => name.endsWith('.yaml'))
    for (const name of examples) assert.deepEqual(await server.diagnoseFile(join(directory, name)), [], name)
    assert(examples.length >= 4 && readFileSync(join(directory, 'istio.yaml'), 'utf8').startsWith('# yaml-language-server: $schema=./schema.json'))
  })
})
