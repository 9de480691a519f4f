/** Several meshes on one node: which entry takes a pod, what an operator is told of it, and plugins that cannot be loaded. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import { type AgentConfig, parseConfig } from '../../core/config/load.ts'
import { contradictions, mismatch } from '../../core/config/selector.ts'
import type { MerbridgeError } from '../../core/errors.ts'
import { chooseMesh } from '../../core/select.ts'
import { testPlugin, testSource } from './plugin-source.ts'
import { podFacts } from './pods.ts'

const acme = testPlugin('acme', { options: z.strictObject({ proxyPort: z.int().default(4140) }), selects: (pod) => pod.labels.acme === 'yes' })
const broken = testPlugin('broken', {
  selects: () => {
    throw new Error('out of order')
  },
})
const source = testSource(
  { istio: testPlugin('istio', { selects: (pod) => pod.labels.istio === 'yes' }), kuma: testPlugin('kuma') },
  { '/p/acme.ts': acme, '/p/broken.ts': broken, '@acme/mesh': acme },
)
const load = (text: string) => parseConfig(`version: 1\n${text}`, 'c.yaml', source)
const pod = (labels: Record<string, string>, namespace = 'default', namespaceLabels: Record<string, string> = {}) =>
  podFacts({ labels, namespace: { name: namespace, labels: namespaceLabels, annotations: {} } })

function taker({ meshes }: AgentConfig, facts = pod({})): string {
  const choice = chooseMesh(meshes, facts)
  return 'untaken' in choice ? choice.untaken : [choice.mesh.entry, choice.mesh.plugin.name, choice.why, ...choice.also, ...choice.warnings].join(' ')
}

async function issuesOf(text: string): Promise<readonly string[]> {
  const error = await load(text).then(
    () => assert.fail('accepted'),
    (reason: MerbridgeError) => reason,
  )
  return (error.found?.issues ?? []).map(({ line, column, path, message, hint }) => `${line}:${column} ${path}: ${message} | ${hint}`)
}

describe('which mesh a pod belongs to', () => {
  test('with one mesh and no match a listed pod belongs to it, whatever the plugin would select', async () => {
    assert.equal(taker(await load('mesh: istio\n')), 'mesh istio only')
    assert.equal(taker(await load('meshes: [{ mesh: istio }]\n')), 'meshes[0] istio only')
  })

  test('with one mesh and a match, the match decides', async () => {
    const config = await load('meshes: [{ mesh: istio, match: { podSelector: { matchLabels: { app: web } } } }]\n')
    assert.equal(taker(config, pod({ app: 'web' })), 'meshes[0] istio match')
    assert.equal(
      taker(config, pod({ app: 'api' })),
      'no entry of meshes takes it; meshes[0] (istio): podSelector wants "app In [web]", but the label is "api"',
    )
  })

  test('with several, the first that matches; without match, whom the plugin selects; the others are named', async () => {
    const config = await load(`meshes:
  - { mesh: istio }
  - { mesh: { path: /p/acme.ts }, match: { namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: shop } } } }
  - { mesh: { package: "@acme/mesh" } }
`)
    assert.equal(taker(config, pod({ istio: 'yes' })), 'meshes[0] istio selects')
    assert.equal(taker(config, pod({ istio: 'yes' }, 'shop')), 'meshes[0] istio selects meshes[1] (acme)')
    assert.equal(taker(config, pod({ istio: 'yes', acme: 'yes' }, 'shop')), 'meshes[0] istio selects meshes[1] (acme) meshes[2] (acme)')
    assert.equal(taker(config, pod({ acme: 'yes' }, 'shop')), 'meshes[1] acme match meshes[2] (acme)')
    assert.equal(taker(config, pod({ acme: 'yes' })), 'meshes[2] acme selects')
    assert.match(
      taker(config),
      /^no entry .*\(istio\): the plugin istio does not select it; .*but the label is "default"; .*acme does not select it$/,
    )
  })

  test('a plugin that fails costs a pod its mesh only when it is asked before anybody has taken the pod', async () => {
    const after = await load('meshes: [{ mesh: istio, match: {} }, { mesh: { path: /p/broken.ts } }]\n')
    assert.match(taker(after), /^meshes\[0\] istio match whether meshes\[1\] \(broken\) would take this pod as well is not known: .*out of order/)
    const before = await load('meshes: [{ mesh: { path: /p/broken.ts } }, { mesh: istio, match: {} }]\n')
    assert.throws(() => taker(before), { code: 'PLUGIN_FAILED' })
  })
})

describe('selectors', () => {
  const matches = async (match: string, labels: Record<string, string>) =>
    mismatch((await load(`meshes: [{ mesh: istio, match: { podSelector: ${match} } }]\n`)).config.meshes[0]?.match ?? {}, pod(labels)) === undefined

  test('have the semantics of Kubernetes', async () => {
    const one = (operator: string, values = '') => `{ matchExpressions: [{ key: a, operator: ${operator}${values} }] }`
    const table: readonly (readonly [match: string, none: boolean, x: boolean, z: boolean])[] = [
      ['{}', true, true, true],
      ['{ matchLabels: { a: x } }', false, true, false],
      [one('In', ', values: [x, y]'), false, true, false],
      [one('NotIn', ', values: [x, y]'), true, false, true],
      [one('Exists'), false, true, true],
      [one('DoesNotExist'), true, false, false],
    ]
    for (const [match, none, x, other] of table) {
      assert.deepEqual([await matches(match, {}), await matches(match, { a: 'x' }), await matches(match, { a: 'z' })], [none, x, other], match)
    }
    assert.equal(await matches('{ matchLabels: { toString: x } }', {}), false)
  })

  test('a contradiction is found exactly when no label can meet all conditions', () => {
    const values = ['p', 'q', 'r']
    const expression = fc.record({
      key: fc.constant('a'),
      operator: fc.constantFrom('In' as const, 'NotIn' as const, 'Exists' as const, 'DoesNotExist' as const),
      values: fc.subarray(values, { minLength: 1 }),
    })
    fc.assert(
      fc.property(fc.array(expression, { maxLength: 5 }), (matchExpressions) => {
        const selector = { matchLabels: {}, matchExpressions }
        const labels = [{}, ...[...values, 'another'].map((a) => ({ a }))]
        const possible = labels.some((each) => mismatch({ podSelector: selector }, pod(each)) === undefined)
        assert.equal(contradictions(selector).length === 0, possible)
      }),
      { numRuns: 500 },
    )
  })
})

describe('what a config with several meshes is told', () => {
  const pods = (...labels: string[]) =>
    `workloads:\n  static:\n${labels.map((app, index) => `    - { name: p${index}, netns: /n/${index}, labels: { app: ${app} } }\n`).join('')}`
  const entry = (mesh: string, match: string) => `  - mesh: ${mesh}\n    match: ${match}\n`
  const app = (name: string) => `{ podSelector: { matchLabels: { app: ${name} } } }`
  const warnings = async (text: string) => (await load(text)).warnings.map(({ line, path, message }) => `${line} ${path}: ${message}`)

  test('a match that takes no pod is a warning, and says why', async () => {
    const listed = pods('web', 'api')
    assert.deepEqual(await warnings(`meshes:\n${entry('istio', app('web'))}${entry('kuma', app('api'))}${listed}`), [])
    assert.deepEqual(await warnings(`meshes:\n${entry('istio', app('wbe'))}${entry('kuma', '{}')}${listed}`), [
      '4 meshes[0].match: matches no pod: this config lists 2, and none has such labels',
    ])
    assert.deepEqual(await warnings(`meshes:\n${entry('istio', '{}')}${entry('kuma', app('api'))}${listed}`), [
      '6 meshes[1].match: can never take a pod: meshes[0] before it takes every pod',
    ])
    assert.deepEqual(await warnings(`meshes:\n${entry('istio', app('web'))}${entry('kuma', app('web'))}${pods('web')}`), [
      '6 meshes[1].match: takes no pod: earlier entries take every pod that it matches',
    ])
    assert.deepEqual(await warnings(`meshes:\n${entry('istio', app('web'))}`), [], 'no pods are listed: nothing can be said')
  })

  test('a plugin that may not be loaded is an issue at its place, together with everything else that is wrong', async () => {
    const denied = await issuesOf('meshes:\n  - mesh: istio\n  - mesh: { path: /elsewhere.ts }\n    options: { a: 1 }\nlog: { levle: x }\n')
    assert.deepEqual(denied, [
      '4:19 meshes[1].mesh.path: /elsewhere.ts is not in a directory that is allowed | Start the agent with --plugin-dir DIRECTORY.',
      '6:8 log.levle: unknown key "levle" | Did you mean "level"? The keys here are level and format.',
    ])
    assert.match((await issuesOf('mesh: { package: nobody }\n')).join(), /^2:18 mesh\.package: nobody is not in a directory/)
  })

  test("each entry's options are checked with its own plugin's schema", async () => {
    const { meshes } = await load(
      'meshes: [{ mesh: { path: /p/acme.ts }, options: { proxyPort: 1 } }, { mesh: { path: /p/acme.ts } }, { mesh: istio }]\n',
    )
    assert.deepEqual(
      meshes.map(({ options }) => options),
      [{ proxyPort: 1 }, { proxyPort: 4140 }, {}],
    )
    assert.match(
      (await issuesOf('meshes: [{ mesh: { path: /p/acme.ts }, options: { proxyPrt: 1 } }]\n')).join(),
      /options\.proxyPrt: unknown key.*"proxyPort"/,
    )
    assert.match((await issuesOf('meshes: [{ mesh: istio }, { mesh: istio, options: 5 }]\n')).join(), /meshes\[1\]\.options: must be a map, but is 5/)
  })

  test("a schema that throws is an issue at the options, with the plugin's name", async () => {
    const throwing = z.unknown().transform((): unknown => {
      throw new TypeError('cannot read properties of undefined')
    })
    const sources = testSource({}, { '/p/x.ts': testPlugin('x', { options: throwing }) })
    await assert.rejects(parseConfig('version: 1\nmesh: { path: /p/x.ts }\noptions: { a: 1 }\n', 'c.yaml', sources), {
      message: 'c.yaml:3:10: options: the plugin x fails on these options: cannot read properties of undefined',
    })
  })

  test('a plugin is loaded once for each config that names it, and anew for the next', async () => {
    const counted = testSource({}, { '/p/acme.ts': acme })
    const text = 'version: 1\nmeshes: [{ mesh: { path: /p/acme.ts } }, { mesh: { path: /p/acme.ts }, match: {} }]\n'
    await parseConfig(text, 'c.yaml', counted)
    assert.equal(counted.loads.length, 1)
    await parseConfig(text, 'c.yaml', counted)
    assert.equal(counted.loads.length, 2)
  })

  test('annotations of more than Kubernetes allows are refused at their pod, within a second', async () => {
    const annotated = (annotations: Record<string, string>) =>
      `mesh: istio\nworkloads: { static: [{ name: a, netns: /n/a },\n { name: b, netns: /n/b, annotations: ${JSON.stringify(annotations)} }] }\n`
    const start = performance.now()
    const many = Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`key-${index}`, 'x'.repeat(90)]))
    for (const annotations of [{ one: 'x'.repeat(262_142) }, many]) {
      assert.match((await issuesOf(annotated(annotations))).join(), /^4:\d+ workloads\.static\[1\]\.annotations.*(have at most|has \d+ bytes)/)
    }
    await load(annotated({ one: 'x'.repeat(262_141) }))
    assert(performance.now() - start < 3000, `${Math.round(performance.now() - start)} ms for three of them`)
  })
})
