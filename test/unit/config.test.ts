/** What an operator gets for a config: a Config with its defaults, or every mistake with its place and the way out. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { parseConfig } from '../../core/config/load.ts'
import { type Issue, MerbridgeError } from '../../core/errors.ts'
import { testPlugin, testSource } from './plugin-source.ts'

const options = z.strictObject({
  outboundPort: z.int().min(1).max(65535).default(15001).describe('where the proxy takes outbound connections'),
  cidrs: z
    .array(z.string().refine((cidr) => cidr !== '10.1.2.3/8', 'has host bits set; the network is 10.0.0.0/8'))
    .default([])
    .describe('excluded destinations'),
})
const plugins = testSource({ istio: testPlugin('istio', { options }) })
const good = 'version: 1\nmesh: istio\n'

async function failure(text: string): Promise<MerbridgeError> {
  try {
    await parseConfig(text, 'c.yaml', plugins)
  } catch (error) {
    assert(error instanceof MerbridgeError)
    return error
  }
  return assert.fail(`accepted: ${text.slice(0, 80)}`)
}

const issues = async (text: string): Promise<readonly Issue[]> => (await failure(text)).found?.issues ?? []

/** "line:column message" of the only issue. */
async function only(text: string): Promise<string> {
  const all = await issues(text)
  assert.equal(all.length, 1, JSON.stringify(all))
  return `${all[0]?.line}:${all[0]?.column} ${all[0]?.message}`
}

const hintOf = async (text: string) => (await issues(text))[0]?.hint ?? ''

test('the shortest config has every default and is frozen', async () => {
  const { config, meshes } = await parseConfig(good, 'c.yaml', plugins)
  assert.deepEqual(config, {
    version: 1,
    meshes: [{ mesh: 'istio', options: {} }],
    pods: [],
    attach: { cgroup: 'auto', bpffs: '/sys/fs/bpf/merbridge', identity: 'auto', btf: 'auto', without: [] },
    control: { socket: '/run/merbridge/agent.sock' },
    acceleration: { mode: 'proxies', budget: 8_388_608 },
    log: { level: 'info', format: 'auto' },
  })
  const [mesh] = meshes
  assert.deepEqual([mesh?.plugin.name, mesh?.entry, mesh?.options], ['istio', 'mesh', { outboundPort: 15001, cidrs: [] }])
  assert(Object.isFrozen(config) && Object.isFrozen(config.attach) && Object.isFrozen(mesh?.options))
})

test('pods have what a plugin needs, however little is listed', async () => {
  const { pods } = (
    await parseConfig(
      `${good}workloads:
  static:
    - { name: a, pid: 12 }
    - name: b
      namespace: { name: shop, labels: { mesh: 'on' } }
      netns: /run/netns/b
      nameservers: [10.96.0.10, 'fd00::a']
      containers: [{ name: istio-proxy, uid: 1337, ports: [{ port: 80 }] }]
`,
      'c.yaml',
      plugins,
    )
  ).config
  assert.deepEqual(pods, [
    { name: 'a', namespace: { name: 'default', labels: {}, annotations: {} }, netns: '/proc/12/ns/net', labels: {}, annotations: {}, containers: [] },
    {
      name: 'b',
      namespace: { name: 'shop', labels: { mesh: 'on' }, annotations: {} },
      netns: '/run/netns/b',
      labels: {},
      annotations: {},
      nameservers: ['10.96.0.10', 'fd00::a'],
      containers: [{ name: 'istio-proxy', args: [], env: {}, uid: 1337, ports: [{ port: 80, protocol: 'tcp' }] }],
    },
  ])
})

test('an error has file, line, column, the line, a caret and the way out', async () => {
  assert.equal(
    (await failure(`${good}optoins: {}\n`)).found?.detail,
    `c.yaml:3:1: optoins: unknown key "optoins"
  3 | optoins: {}
    | ^^^^^^^
  Did you mean "options"? The keys here are version, mesh, options, meshes, workloads, attach, control, acceleration and log.`,
  )
})

test('positions and messages of single mistakes', async () => {
  const cases: readonly (readonly [string, string])[] = [
    [`${good}acceleration: { budget: .inf }\n`, '3:25 must be a number or text, but is infinite (.inf)'],
    [`${good}acceleration: { budget: -.inf }\n`, '3:25 must be a number or text, but is infinite (-.inf)'],
    [`${good}acceleration: { budget: .nan }\n`, '3:25 must be a number or text, but is not a number (.nan)'],
    [`${good}log: { level: 5 }\n`, '3:15 must be trace, debug, info, warn or error, but is 5'],
    [`${good}options:\n  outboundPort: 70000\n`, '4:17 must be at most 65535, but is 70000'],
    [`${good}options:\n  cidrs: [ 10.1.2.3/8 ]\n`, '4:12 has host bits set; the network is 10.0.0.0/8'],
    [`${good}options:\n  outbuondPort: 1\n`, '4:3 unknown key "outbuondPort"'],
    ['version: 1\nmesh: istoi\n', '2:7 must be istio, but is "istoi"'],
    ['version: 2\nmesh: istio\n', '1:10 must be 1, but is 2'],
    ['mesh: istio\n', '1:1 the key "version" is missing'],
    [`${good}workloads:\n  static:\n    - netns: /a\n`, '5:7 the key "name" is missing'],
    [`${good}workloads:\n  static: { a: 1 }\n`, '4:11 must be a list, but is a map'],
    [`${good}options:\n`, '3:1 must be a map, but is empty'],
    [`${good}workloads:\n  static:\n    - { name: a, netns: /a, annotations: { b: 9300 } }\n`, '5:47 must be text, but is 9300'],
    [`${good}workloads:\n  static:\n    - { name: a, netns: /a, pid: 3 }\n`, '5:7 needs exactly one of netns and pid'],
    [`${good}workloads:\n  static:\n    - { name: a }\n`, '5:7 needs exactly one of netns and pid'],
    [`${good}workloads:\n  static:\n    - { name: a, netns: a }\n`, '5:25 must be an absolute path, such as /run/netns/web'],
    [`${good}control: { socket: /${'x'.repeat(107)} }\n`, '3:20 must have at most 107 bytes, as the kernel limits socket paths'],
    [`${good}mesh: istio\n`, '3:1 the key "mesh" is there twice'],
    [`${good}log:\n\tlevel: info\n`, '4:1 not valid YAML: tabs are not allowed as indentation'],
    [`${good}---\na: 1\n`, '3:1 a second document starts here'],
    [`${good}log: { level: !!str info }\nattach: { cgroup: !secret auto }\n`, '4:19 not valid YAML: unresolved tag: !secret'],
    [`${good}log: *none\n`, '3:6 the alias *none has no anchor before it'],
    [`${good}log: &log { level: *log }\n`, '3:20 the alias *log contains itself'],
    [`${good}[a, b]: 1\n`, '3:1 a key must be text'],
    [`${good}log: { level: inf\0o }\n`, '3:18 a NUL byte: this is no text'],
    [`${good}log: { level: ${Buffer.from([0xff]).toString('utf8')} }\n`, '3:15 not valid UTF-8'],
    ['', '1:1 there is nothing in this file'],
    ['# nothing\n', '1:1 there is nothing in this file'],
    ['version: 1\nmesh: { pth: /a.ts }\n', '2:9 unknown key "pth"'],
    ['version: 1\nmesh: [istio]\n', '2:7 must be istio, but is a list'],
    ['version: 1\nmesh: { path: ../a.ts }\n', '2:15 must be an absolute path, such as /etc/merbridge/plugins/acme.ts'],
    ['version: 1\nmesh: { package: ../a }\n', '2:18 must be the name of an npm package, such as "@acme/mesh"'],
    ['version: 1\nmesh:\n', '2:1 must be istio, but is empty'],
    ['version: 1\nmeshes:\n', '2:1 must be a list, but is empty'],
    ['version: 1\nmeshes: [{ options: {} }]\n', '2:10 the key "mesh" is missing'],
    ['version: 1\nmeshes: [{ mesh: istio, match: { podSelector: { matchLabels: { "a b": c } } } }]\n', '2:64 the key is not the key of a label'],
    ['version: 1\nmeshes: [{ mesh: istio, match: { podSelector: { matchLabels: { a: b c } } } }]\n', '2:67 is not the value of a label'],
    ['- a\n', '1:1 must be a map, but is a list'],
    ['hello\n', '1:1 must be a map, but is "hello"'],
    [`${good}__proto__: { polluted: 1 }\n`, '3:1 unknown key "__proto__"'],
  ]
  for (const [text, expected] of cases) assert.equal(await only(text), expected, text)
  assert.equal(Reflect.get({}, 'polluted'), undefined)
})

test('the way out names the nearest word, the keys or the quotes that are missing', async () => {
  assert.match(await hintOf('version: 1\nmesh: itsio\n'), /Did you mean "istio"/)
  assert.match(await hintOf(`${good}log: { levle: info }\n`), /Did you mean "level"\? The keys here are level and format\./)
  assert.match(await hintOf(`${good}sampling: {}\n`), /The keys here are version, mesh, .* and log\./)
  assert.match(await hintOf(`${good}options: { outbuondPort: 1 }\n`), /Did you mean "outboundPort"/)
  assert.match(
    await hintOf(`${good}options: { outboundPort: 0 }\n`),
    /where the proxy takes outbound connections\. From 1 to 65535\. The default is 15001/,
  )
  assert.match(await hintOf(`${good}workloads: { static: [{ name: a, pid: 1, labels: { a: true } }] }\n`), /Write it in quotes: "true"/)
})

test('a misspelt key is one mistake, not a missing key as well', async () => {
  assert.equal(await only('versoin: 1\nmesh: istio\n'), '1:1 unknown key "versoin"')
})

test('two pods of one name, or in one network namespace: both lines are named', async () => {
  const list = (second: string) => `${good}workloads:\n  static:\n    - { name: a, netns: /run/netns/a }\n    - ${second}\n`
  assert.equal(await only(list('{ name: a, netns: /run/netns/b }')), '6:15 the pod default/a is listed twice, in lines 5 and 6')
  assert.equal(await only(list('{ name: b, netns: /run//netns/a }')), '6:25 the network namespace /run/netns/a is listed twice, in lines 5 and 6')
  await parseConfig(list('{ name: a, namespace: shop, netns: /run/netns/b }'), 'c.yaml', plugins)
})

test('all mistakes at once, in order of position, twenty at most', async () => {
  const text = `${good}log: { level: x, format: y }\nzzz: 1\n`
  assert.deepEqual(
    (await issues(text)).map(({ line, path }) => `${line} ${path}`),
    ['3 log.level', '3 log.format', '4 zzz'],
  )
  const many = await failure(good + Array.from({ length: 30 }, (_, index) => `k${index}: 1\n`).join(''))
  assert.equal(many.found?.issues.length, 20)
  assert.match(many.found?.detail ?? '', /and 10 more$/)
  assert.match(many.message, /^c\.yaml:3:1: .* \(and 29 more\)$/)
})

test('characters that would steer the terminal are shown as escapes', async () => {
  const { found, message } = await failure(`${good}"a\u001b[31m\u202eb": 1\nlog: { level: "\u009b2J" }\n`)
  const text = `${found?.detail}${message}${JSON.stringify(found?.issues.map((issue) => issue.message))}`
  assert.match(text, /a\\x1b\[31m\\u202eb/)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there
  assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
})

test('aliases serve many pods, but may not explode', async () => {
  const pods = Array.from(
    { length: 250 },
    (_, index) => `    - { name: p${index}, pid: ${index + 1}, containers: ${index === 0 ? '&c [{ name: x }]' : '*c'} }\n`,
  )
  assert.equal((await parseConfig(`${good}workloads:\n  static:\n${pods.join('')}`, 'c.yaml', plugins)).config.pods.length, 250)
  const bomb = [...'bcdefgh'].map((name, index) => `${name}: &${name} [${Array(10).fill(`*${'abcdefg'[index]}`).join(', ')}]\n`)
  assert.match(await only(`a: &a [${Array(10).fill('x').join(', ')}]\n${bomb.join('')}`), /more than 200000 values when its aliases are written out/)
})

test('a long text behind many aliases is not a thousand long texts', async () => {
  const list = Array.from(
    { length: 100 },
    (_, index) => `    - { name: p${index}, pid: ${index + 1}, annotations: { a: ${index === 0 ? `&a "${'x'.repeat(250_000)}"` : '*a'} } }`,
  )
  assert.match(await only(`${good}workloads:\n  static:\n${list.join('\n')}\n`), /more than 200000 values when its aliases are written out/)
})

test('a large file of nonsense gets an answer in reasonable time', async () => {
  const size = 256 * 1024
  const filled = (part: string) => part.repeat(Math.floor(size / part.length))
  const twins = filled('    - { name: a, netns: /a }\n').slice(0, size - 100)
  const nonsense = {
    keys: Array.from({ length: 22_000 }, (_, index) => `k${index}: 1`).join('\n'),
    nested: filled('['),
    twins: `${good}workloads:\n  static:\n${twins}`.slice(0, size),
    aliases: `a: &a 1\nb: [${filled('*a, ').slice(0, size / 2)}*a]`,
  }
  for (const [name, text] of Object.entries(nonsense)) {
    const start = process.cpuUsage()
    await failure(text)
    const { user } = process.cpuUsage(start)
    assert(user < 5_000_000, `${name}: ${Math.round(user / 1000)} ms`)
  }
})
