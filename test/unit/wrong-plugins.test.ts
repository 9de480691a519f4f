/** Plugins with one mistake each, and the whole of what their authors read. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { describe as ask } from '../../core/describe.ts'
import { PluginDirectory, pluginText } from './plugin-files.ts'
import { podFacts } from './pods.ts'

interface Wrong {
  readonly what: string
  readonly text: string
  readonly file?: string
  readonly code: string
  readonly says: string
}

const file = '/etc/merbridge/plugins/acme.ts'
const guide = 'Correct the plugin; docs/plugins.md shows one from beginning to end.'
const forPod = 'Correct the plugin acme (/etc/merbridge/plugins/acme.ts), or its options, for the pod default/web.'
const imports = 'a plugin is one file that imports types only ("import type"); what it needs comes with the kit'
const pure = 'a plugin is a pure function of its pod and its options: it has no network, no files, no environment, no clock and no timers'

const invalid = (what: string, text: string, problem: string): Wrong => ({
  what,
  text,
  code: 'PLUGIN_INVALID',
  says: `${file}: ${problem}\n${guide}`,
})
const fails = (what: string, body: string, problem: string): Wrong => ({
  what,
  text: pluginText(body),
  code: 'PLUGIN_FAILED',
  says: `acme: ${problem}\n${forPod}`,
})
const rules = (more: string) =>
  `return { sets: { proxy: { uid: [1] }, web: { ports: [80] } }, targets: { out: { port: 9901 } }, inbound: [], ${more} }`

const wrong: readonly Wrong[] = [
  invalid('has a syntax error', `${pluginText()}\nconst x = = 3\n`, 'line 11, column 11: Expression expected'),
  invalid(
    'is cut off',
    pluginText().slice(0, -20),
    "line 8: Unexpected token '<eof>'. Expected identifier, string literal, numeric literal or [ for the computed key",
  ),
  invalid(
    'has an enum',
    `enum Mode { On }\n${pluginText()}`,
    'line 1, column 1: TypeScript enum is not supported in strip-only mode; only types that can be erased are supported: no enum, no namespace, no parameter property',
  ),
  {
    ...invalid('has types in JavaScript', pluginText(), ''),
    file: 'acme.js',
    says: `/etc/merbridge/plugins/acme.js: line 1, column 13: Unexpected token (types need a file that ends in .ts)\n${guide}`,
  },
  invalid('is nested too deeply', `export default ${'['.repeat(100_000)}`, 'its code is nested too deeply'),
  invalid('imports the network', `import { connect } from 'node:net'\n${pluginText()}`, `line 1, column 1: import of 'node:net': ${imports}`),
  invalid(
    'imports the kit as a value',
    pluginText().replace('import type', 'import'),
    `line 1, column 1: import of 'merbridge/plugin': write "import type", the package has nothing but types there`,
  ),
  invalid('imports later', pluginText("const net = import('node:net')"), `line 8, column 45: import(): ${imports}`),
  invalid('requires', pluginText("const net = require('node:net')"), `line 8, column 45: require(): ${imports}`),
  invalid('waits', `const answer = await 42\n${pluginText()}`, 'line 1, column 16: await: a plugin waits for nothing'),
  invalid(
    'has no default export',
    pluginText().replace('export default', 'export const make ='),
    'the file has no default export; write "export default (kit: Kit) => kit.definePlugin({ ... })"',
  ),
  invalid(
    'exports an object',
    'export default { api: 1 }',
    'the default export is an object; expected a function: write "export default (kit: Kit) => kit.definePlugin({ ... })"',
  ),
  invalid('has another interface', pluginText().replace('api: 1', 'api: 2'), 'api is 2; expected 1'),
  invalid(
    'has a name that is none',
    pluginText().replace("'acme'", "'Acme Mesh'"),
    'name is "Acme Mesh"; expected lower-case letters, digits and "-", at most 63 characters',
  ),
  invalid(
    'misspells a field',
    pluginText().replace('describe: (', 'descirbe: ('),
    'describe is missing; expected a function (pod, options) => rules; did you mean describe where it says descirbe?',
  ),
  invalid(
    'has a wrong schema of options',
    pluginText().replace(/options: kit.*/, 'options: { port: 1 },'),
    'options is an object; expected a schema such as kit.z.strictObject({})',
  ),
  invalid(
    'throws while it is loaded',
    'export default (kit) => kit.portlist.min(1)',
    "the exported function threw TypeError: Cannot read properties of undefined (reading 'min') (line 1, column 38)",
  ),
  invalid('never ends while it is loaded', `for (;;);\n${pluginText()}`, 'the file did not end within 1 s'),
  fails(
    'throws',
    "return pod.containers.find(({ name }) => name === 'acme-proxy').ports",
    "describe threw TypeError: Cannot read properties of undefined (reading 'ports') (line 8, column 96)",
  ),
  fails('throws what is no Error', "throw 'no'", 'describe threw "no"; expected an Error'),
  fails('returns nothing', '', 'describe returned nothing; expected rules: { outbound: [...], inbound: [...] }, or kit.cannot(reason)'),
  fails('returns nonsense', 'return 42', 'describe returned 42; expected rules: { outbound: [...], inbound: [...] }, or kit.cannot(reason)'),
  fails('never returns', 'for (;;);', 'describe did not end within 1 s'),
  fails('never stops in its promises', 'const spin = async () => { for (;;) await null }; spin()', 'describe did not end within 1 s'),
  {
    ...fails('is asynchronous', '', 'describe must not be async: it returned a promise; return the value itself'),
    text: pluginText('return 1').replace('(pod, options) =>', 'async (pod, options) =>'),
  },
  fails(
    'calls the network',
    "fetch('http://acme.example/rules')",
    `describe threw ReferenceError: fetch is not defined (line 8, column 33): ${pure}`,
  ),
  fails(
    'reads the environment',
    'return JSON.parse(process.env.RULES)',
    `describe threw ReferenceError: process is not defined (line 8, column 51): ${pure}`,
  ),
  fails('has a clock', 'return Date.now() % 2', `describe threw ReferenceError: Date is not defined (line 8, column 33): ${pure}`),
  fails('throws dice', 'return Math.random()', `describe threw Error: Math.random is not there: ${pure} (line 8, column 45)`),
  fails(
    'changes its pod',
    "pod.labels.seen = 'yes'",
    'describe threw TypeError: Cannot add property seen, object is not extensible (line 8, column 49)',
  ),
  fails(
    'returns a function',
    rules("outbound: [{ name: 'all', then: () => 'pass' }]"),
    'describe returned a function at outbound[0].then; expected plain data',
  ),
  fails(
    'returns what contains itself',
    `const x = { name: 'x' }; x.when = x; ${rules('outbound: [x]')}`,
    'describe returned an object that contains itself at outbound[0].when; expected plain data',
  ),
  fails(
    'returns far too many rules',
    rules("outbound: new Array(600000).fill({ name: 'all', then: 'pass' })"),
    'describe returned more than 500000 values; expected plain data',
  ),
  fails('forgets a direction', 'return { outbound: [] }', 'inbound: the list is missing; a direction without rules is an empty list'),
  fails(
    'misspells a key',
    rules("outbound: [{ name: 'all', wen: { proto: 'tcp' }, then: 'out' }]"),
    "outbound rule 0 'all': unknown key 'wen'; did you mean 'when'? (keys: name, when, unless, then)",
  ),
  fails(
    'names an unknown set',
    rules("outbound: [{ name: 'own', when: { from: 'prxy' }, then: 'pass' }]"),
    "outbound rule 0 'own': when.from: unknown set 'prxy'; did you mean 'proxy'? (sets: proxy, web)",
  ),
  fails(
    'uses a set of another kind',
    rules("outbound: [{ name: 'own', unless: { to: 'web' }, then: 'pass' }]"),
    "outbound rule 0 'own': unless.to: set 'web' has no cidrs and no interfaces",
  ),
  fails(
    'names an unknown target',
    rules("outbound: [{ name: 'all', then: 'otu' }]"),
    "outbound rule 0 'all': then: unknown target 'otu'; did you mean 'out'? (targets: out)",
  ),
  fails(
    'gives one name twice',
    rules("outbound: [{ name: 'all', then: 'pass' }, { name: 'all', then: 'drop' }]"),
    "outbound rule 1 'all': rule 0 has the same name",
  ),
  fails(
    "takes somebody's address for lo",
    rules("outbound: [], loopbackAddresses: ['::6', 'fd00::1']"),
    "loopbackAddresses[1]: expected an IPv6 address in ::/96, such as '::6', other than '::' and '::1'",
  ),
  {
    ...fails(
      'has an inbound rule for UDP',
      '',
      "inbound rule 0 'dns': when.proto: inbound rules see TCP only, so 'udp' never matches; leave the rule out",
    ),
    text: pluginText("return { outbound: [], inbound: [{ name: 'dns', when: { proto: 'udp' }, then: 'drop' }] }"),
  },
  fails('gives a reason that is none', "return { cannot: '' }", 'cannot: expected a reason'),
]

describe('a plugin that', () => {
  let directory: PluginDirectory
  before(() => {
    directory = new PluginDirectory()
  })
  after(() => directory?.[Symbol.dispose]())

  for (const each of wrong) {
    it(each.what, async () => {
      const said = await directory.refusal(async () => {
        const plugin = await directory.load(each.text, each.file)
        ask(plugin, podFacts(), plugin.options.parse({}))
      })
      assert.equal(said, `${each.code}: ${each.says}`)
    })
  }

  it('fills the memory of its process is killed with it, and this process lives', async () => {
    const said = await directory.refusal(async () => {
      const plugin = await directory.load(pluginText('const all = []; for (;;) all.push(1)'))
      ask(plugin, podFacts(), {})
    })
    assert.match(said, /^PLUGIN_FAILED: acme: describe (did not end within 1 s|needed more than 128 MiB of memory)\n/)
  })

  it('cannot be interrupted is killed', async () => {
    const said = await directory.refusal(async () => {
      const plugin = await directory.load(pluginText('new Array(2 ** 32 - 2).fill(0)'))
      ask(plugin, podFacts(), {})
    })
    assert.match(said, /^PLUGIN_FAILED: acme: describe (did not end within 1 s|needed more than 128 MiB of memory)\n/)
  })

  it('has a schema that throws, never ends or waits: its options are refused with that', async () => {
    const option = (check: string) => pluginText().replace(".describe('the port')", `.refine(${check})`)
    const refused = (check: string) => directory.refusal(async () => (await directory.load(option(check))).options.safeParse({}))
    const hint = 'Correct the schema of options in the plugin acme.'
    assert.equal(
      await refused("() => { throw new Error('no port') }"),
      `PLUGIN_FAILED: acme: the schema of options threw Error: no port (line 6, column 104)\n${hint}`,
    )
    assert.equal(await refused('() => { for (;;); }'), `PLUGIN_FAILED: acme: the schema of options did not end within 1 s\n${hint}`)
    assert.equal(await refused('async () => true'), `PLUGIN_FAILED: acme: the schema of options must not be async\n${hint}`)
  })
})
