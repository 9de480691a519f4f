/** docs/plugins.md works as it stands: its plugin is loaded as an operator would have it loaded, its tests pass, its configuration fits. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { parse } from 'yaml'
import { describe as ask } from '../../core/describe.ts'
import type { AnyPlugin, Container } from '../../core/plugin.ts'
import { pluginSource } from '../../core/plugins.ts'
import { packageRoot } from '../../core/root.ts'
import { decide } from '../../core/testing/decide.ts'
import { testPod } from '../../core/testing.ts'
import { type Guide, unpackGuide } from './guide.ts'

interface GuideConfig {
  readonly mesh: { readonly path: string }
  readonly options: object
  readonly workloads: {
    readonly static: readonly { readonly name: string; readonly annotations: Record<string, string>; readonly containers: Partial<Container>[] }[]
  }
}

describe('the guide for authors of plugins', () => {
  let guide: Guide
  let plugin: AnyPlugin
  before(async () => {
    guide = unpackGuide()
    plugin = await pluginSource([guide.directory]).load({ path: join(guide.directory, 'acme.ts') })
  })
  after(() => guide?.[Symbol.dispose]())

  const run = (file: string, ...args: string[]) => {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env // or the inner runner would report to the outer one
    return spawnSync(file, args, { cwd: guide.directory, env, encoding: 'utf8', timeout: 120_000 })
  }

  it('has a plugin of less than 60 lines, a test and a configuration', () => {
    assert.deepEqual([...guide.files.keys()], ['acme.ts', 'acme.test.ts', 'config.yaml'])
    assert.ok((guide.files.get('acme.ts') ?? '').split('\n').length < 60)
  })

  it('has a plugin with types that fit', () => {
    const options = ['--noEmit', '--strict', '--target', 'es2024', '--lib', 'es2024,esnext.disposable', '--module', 'nodenext', '--skipLibCheck']
    const types = ['--types', 'node', '--typeRoots', join(packageRoot(), 'node_modules/@types'), '--allowImportingTsExtensions']
    const { status, stdout } = run(join(packageRoot(), 'node_modules/.bin/tsc'), ...options, ...types, 'acme.ts', 'acme.test.ts')
    assert.equal(status, 0, stdout)
  })

  it('has tests that pass: the whole contract, and its own', () => {
    const { status, stdout, stderr } = run(process.execPath, '--test', '--test-reporter=tap', 'acme.test.ts')
    assert.equal(status, 0, stdout + stderr)
    assert.match(stdout, /^# pass 13$/m)
  })

  it('has tests that fail when the plugin is wrong', () => {
    const text = guide.files.get('acme.ts') ?? ''
    const wrong = text.replace("{ name: 'stays in the pod', when: { to: 'pod' }, then: 'pass' }", "{ name: 'stays in the pod', then: 'pass' }")
    assert.notEqual(wrong, text)
    writeFileSync(join(guide.directory, 'acme.ts'), wrong)
    const { status, stdout } = run(process.execPath, '--test', '--test-reporter=tap', 'acme.test.ts')
    writeFileSync(join(guide.directory, 'acme.ts'), text)
    assert.equal(status, 1)
    assert.match(stdout, /outbound rule 'skipped port': earlier rules take everything that it would take/)
    assert.match(stdout, /outbound rule 'everything else': earlier rules take everything/)
  })

  it('has a configuration whose pod gets the rules that the text promises', () => {
    const config = parse(guide.files.get('config.yaml') ?? '') as GuideConfig
    assert.equal(config.mesh.path, '/etc/merbridge/plugins/acme.ts')
    const [listed] = config.workloads.static
    const containers = (listed?.containers ?? []).map((each) => ({ name: '', args: [], env: {}, ports: [], ...each }))
    const pod = testPod({ name: listed?.name ?? '', annotations: listed?.annotations ?? {}, containers })
    assert.equal(plugin.selects({ ...pod, read: () => assert.fail(), parse: () => assert.fail(), warn: () => assert.fail() }), true)
    const answer = ask(plugin, pod, plugin.options.parse(config.options))
    assert.ok('interception' in answer)
    const { interception } = answer
    const then = (connection: object) => decide(interception, { to: '10.9.9.9', port: 80, uid: 1000, ...connection }, pod.addresses).then
    assert.deepEqual(interception.targets, { outbound: { port: 9901 }, inbound: { port: 9902 } })
    assert.deepEqual([{}, { port: 9090 }, { uid: 4200 }, { to: '10.0.0.2' }, { to: '127.0.0.1' }, { proto: 'udp' }].map(then), [
      'outbound',
      'pass',
      'pass',
      'pass',
      'pass',
      'pass',
    ])
    assert.deepEqual(
      [{}, { port: 9090 }].map((more) => then({ direction: 'inbound', ...more })),
      ['inbound', 'pass'],
    )
  })

  it('says what its plugin cannot do', () => {
    const pod = testPod({ annotations: { 'acme.example/mode': 'packets' } })
    assert.deepEqual(ask(plugin, pod, plugin.options.parse({})), { cannot: 'mode packets: Merbridge works at the socket', warnings: [] })
  })
})
