/** Which plugins are loaded, and from where: the directories that the operator allowed, and what may stand in them. */
import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, beforeEach, describe, it } from 'node:test'
import { describe as ask, selects } from '../../core/describe.ts'
import { entryOf } from '../../core/plugins/package.ts'
import { builtInOnly, pluginSource } from '../../core/plugins.ts'
import { PluginDirectory, pluginText } from './plugin-files.ts'
import { podFacts } from './pods.ts'

const isRoot = process.geteuid?.() === 0
const elsewhere = realpathSync(mkdtempSync(join(tmpdir(), 'merbridge-elsewhere-')))
after(() => rmSync(elsewhere, { recursive: true, force: true }))

let directory: PluginDirectory
beforeEach(() => {
  directory = new PluginDirectory()
})
afterEach(() => directory[Symbol.dispose]())

const refusal = (reference: Parameters<typeof directory.source.load>[0]) => directory.refusal(() => directory.source.load(reference))

describe('a plugin by its path', () => {
  it('is loaded without npm, in TypeScript and in JavaScript, and answers', async () => {
    const typed = await directory.load(
      pluginText("pod.warn('seen'); return { targets: { out: { port: options.port } }, outbound: [{ name: 'all', then: 'out' }], inbound: [] }"),
    )
    const plain = await directory.load(
      "export const helper = () => true\nfunction make({ z }) { return { api: 1, name: 'plain', options: z.strictObject({}), selects: helper, describe: () => ({ cannot: 'no' }) } }\nexport { make as default }\n",
      'plain.mjs',
    )
    assert.deepEqual([typed.name, plain.name], ['acme', 'plain'])
    assert.deepEqual(ask(typed, podFacts(), typed.options.parse({ port: 1234 })), {
      interception: { targets: { out: { port: 1234 } }, outbound: [{ name: 'all', then: 'out' }], inbound: [] },
      warnings: ['seen'],
    })
    assert.deepEqual([selects(typed, podFacts()), ask(plain, podFacts(), {})], [true, { cannot: 'no', warnings: [] }])
  })

  it('reads annotations with the parsers of the kit, and gives options that say what is wrong', async () => {
    const plugin = await directory.load(
      pluginText(
        "return { sets: { p: { ports: pod.read('acme/ports', kit.ports, [1]) } }, outbound: [{ name: 'p', when: { port: 'p' }, then: 'drop' }], inbound: [] }",
      ),
    )
    const pod = podFacts({ annotations: { 'acme/ports': 'eighty' } })
    const answer = ask(plugin, pod, {})
    assert.deepEqual(answer.warnings, [
      "annotation acme/ports is ignored: expected a port from 0 to 65535, a range like 15090-15099, or '*', got 'eighty'",
    ])
    assert.deepEqual(plugin.options.parse({}), { port: 9901 })
    assert.deepEqual(
      plugin.options.safeParse({ port: 70000, prot: 1 }).error?.issues.map(({ code, path }) => [code, path.join()]),
      [
        ['too_big', 'port'],
        ['unrecognized_keys', ''],
      ],
    )
  })

  it("sees the pod's name servers, and gives its lo an address", async () => {
    const plugin = await directory.load(
      pluginText("return { outbound: [], inbound: [], loopbackAddresses: pod.nameservers?.includes('10.96.0.10') ? ['::6'] : [] }"),
    )
    const given = (nameservers?: readonly string[]) => {
      const answer = ask(plugin, podFacts(nameservers && { nameservers }), plugin.options.parse({}))
      return 'interception' in answer && answer.interception.loopbackAddresses
    }
    assert.deepEqual([given(), given(['192.0.2.53']), given(['fd00::53', '10.96.0.10'])], [[], [], ['::6']])
  })

  it('must be in a directory that is allowed', async () => {
    const outside = join(elsewhere, 'acme.ts')
    writeFileSync(outside, pluginText())
    assert.equal(
      await refusal({ path: outside }),
      `PLUGIN_DENIED: ${outside} is not in /etc/merbridge/plugins, the directories of plugins that are allowed\nMove the file to /etc/merbridge/plugins, or start the command with --plugin-dir ${elsewhere}.`,
    )
    assert.equal(
      await directory.refusal(() => builtInOnly.load({ path: '/etc/merbridge/plugins/acme.ts' })),
      'PLUGIN_DENIED: /etc/merbridge/plugins/acme.ts: no directory of plugins is allowed\nStart the command with --plugin-dir /etc/merbridge/plugins.',
    )
    assert.match(
      await refusal({ path: `${directory.path}/../${elsewhere.split('/').at(-1)}/acme.ts` }),
      /^PLUGIN_DENIED: .* is not in|is a symbolic link/,
    )
    assert.equal(
      await refusal({ path: 'acme.ts' }),
      "PLUGIN_DENIED: the path 'acme.ts' is not absolute\nWrite the whole path, such as /etc/merbridge/plugins/acme.ts.",
    )
    assert.match(
      await refusal({ path: join(directory.path, 'none.ts') }),
      /^PLUGIN_INVALID: plugin \/etc\/merbridge\/plugins\/none.ts: no such file or directory\n/,
    )
    assert.match(
      await directory.refusal(() => pluginSource(['/nonexistent']).load({ path: outside })),
      /^PLUGIN_INVALID: plugin directory \/nonexistent: no such file or directory\n/,
    )
  })

  it('may be a link inside of the directory, but not one that leads out', async () => {
    directory.write('..data/acme.ts', pluginText())
    symlinkSync('..data/acme.ts', join(directory.path, 'linked.ts'))
    assert.equal((await directory.source.load({ path: join(directory.path, 'linked.ts') })).name, 'acme')
    writeFileSync(join(elsewhere, 'acme.ts'), pluginText())
    symlinkSync(join(elsewhere, 'acme.ts'), join(directory.path, 'out.ts'))
    assert.equal(
      await refusal({ path: join(directory.path, 'out.ts') }),
      `PLUGIN_DENIED: /etc/merbridge/plugins/out.ts is a symbolic link to ${elsewhere}/acme.ts, which is not in /etc/merbridge/plugins\nCopy the file to /etc/merbridge/plugins; links must not lead out of an allowed directory.`,
    )
    symlinkSync(elsewhere, join(directory.path, 'sub'))
    assert.match(await refusal({ path: join(directory.path, 'sub/acme.ts') }), /^PLUGIN_DENIED: .* is a symbolic link to/)
    symlinkSync('circle.ts', join(directory.path, 'circle.ts'))
    assert.match(await refusal({ path: join(directory.path, 'circle.ts') }), /^PLUGIN_INVALID: .*symbolic links in a circle/)
  })

  it('must be writable by nobody else: the file, the directory, and every directory on the way', async () => {
    const file = directory.write('deep/down/acme.ts', pluginText(), 0o664)
    const path = 'deep/down/acme.ts'
    const load = () => refusal({ path: file })
    assert.equal(
      await load(),
      `PLUGIN_DENIED: /etc/merbridge/plugins/${path} can be written by group ${process.getegid?.()}; only root may write a plugin and its directories\nCheck what it contains, then: chmod go-w /etc/merbridge/plugins/${path}`,
    )
    chmodSync(file, 0o646)
    assert.match(await load(), /can be written by everybody; only root.*\n.*chmod go-w \/etc\/merbridge\/plugins\/deep\/down\/acme\.ts$/)
    chmodSync(file, 0o644)
    assert.equal((await directory.source.load({ path: file })).name, 'acme')
    for (const [name, mode] of [
      ['deep', 0o777],
      ['deep/down', 0o1777],
      ['', 0o775],
    ] as const) {
      const place = join(directory.path, name)
      chmodSync(place, mode)
      assert.match(await load(), new RegExp(`^PLUGIN_DENIED: ${join('/etc/merbridge/plugins', name)} can be written by`))
      chmodSync(place, 0o755)
    }
    assert.equal((await directory.source.load({ path: file })).name, 'acme')
  })

  it('must have trustworthy directories above, but for sticky ones', async () => {
    mkdirSync(join(directory.path, 'open/plugins'), { recursive: true })
    writeFileSync(join(directory.path, 'open/plugins/acme.ts'), pluginText())
    const inner = pluginSource([join(directory.path, 'open/plugins')])
    const load = () => inner.load({ path: join(directory.path, 'open/plugins/acme.ts') })
    chmodSync(join(directory.path, 'open'), 0o777)
    assert.match(await directory.refusal(load), /^PLUGIN_DENIED: \/etc\/merbridge\/plugins\/open can be written by everybody/)
    chmodSync(join(directory.path, 'open'), 0o1777)
    assert.equal((await load()).name, 'acme')
  })

  it('must belong to root', { skip: isRoot ? false : 'needs root' }, async () => {
    const file = directory.write('acme.ts', pluginText())
    chownSync(file, 65534, 65534)
    assert.equal(
      await refusal({ path: file }),
      'PLUGIN_DENIED: /etc/merbridge/plugins/acme.ts belongs to uid 65534; a plugin and its directories must belong to root\nCheck what it contains, then: chown root /etc/merbridge/plugins/acme.ts',
    )
  })

  it('is a regular file of at most 1 MiB with text in it', async () => {
    directory.write('large.ts', `// ${'x'.repeat(1 << 20)}\n${pluginText()}`)
    assert.match(await refusal({ path: join(directory.path, 'large.ts') }), /^PLUGIN_INVALID: .* has \d+ bytes; at most 1048576 \(1 MiB\) are read/)
    mkdirSync(join(directory.path, 'directory.ts'), { mode: 0o755 })
    assert.match(await refusal({ path: join(directory.path, 'directory.ts') }), /^PLUGIN_INVALID: .*directory.ts is not a regular file/)
    directory.write('binary.ts', '')
    writeFileSync(join(directory.path, 'binary.ts'), Buffer.from([0xff, 0xfe, 0x00]))
    assert.match(await refusal({ path: join(directory.path, 'binary.ts') }), /^PLUGIN_INVALID: .*binary.ts is not UTF-8 text/)
    directory.write('acme.json', '{}')
    assert.match(await refusal({ path: join(directory.path, 'acme.json') }), /^PLUGIN_INVALID: .*acme.json does not end in .ts, .mts, .js or .mjs/)
  })

  it('is loaded anew when its file has changed, and only then', async () => {
    const first = await directory.load(pluginText())
    assert.equal(await directory.load(pluginText()), first)
    const second = await directory.load(pluginText().replace("'acme'", "'acme-two'"))
    assert.deepEqual([first.name, second.name], ['acme', 'acme-two'])
    assert.equal(selects(first, podFacts()), true, 'a config in force may still ask the old one')
  })
})

describe('a plugin by its package', () => {
  const install = (name: string, manifest: object, files: Readonly<Record<string, string>>) => {
    for (const [file, text] of Object.entries({ ...files, 'package.json': JSON.stringify({ name, ...manifest }) }))
      directory.write(`node_modules/${name}/${file}`, text)
  }

  it('is found in node_modules of an allowed directory, by exports or main', async () => {
    install(
      '@acme/mesh',
      { exports: { '.': { types: './x.d.ts', import: './dist/mesh.js' } } },
      {
        'dist/mesh.js': pluginText()
          .replace(/import type.*\n/, '')
          .replaceAll(': Kit', ''),
      },
    )
    install('acme-mesh', { main: 'mesh.ts' }, { 'mesh.ts': pluginText().replace("'acme'", "'acme-two'") })
    assert.equal((await directory.source.load({ package: '@acme/mesh' })).name, 'acme')
    assert.equal((await directory.source.load({ package: 'acme-mesh' })).name, 'acme-two')
  })

  it('is one file: what it imports must be bundled', async () => {
    install('acme', { exports: './index.js' }, { 'index.js': "import { rules } from './rules.js'\nexport default rules\n", 'rules.js': '' })
    assert.match(await refusal({ package: 'acme' }), /^PLUGIN_INVALID: .*index.js: line 1, column 1: import of '.\/rules.js': a plugin is one file/)
  })

  it('says what is missing', async () => {
    assert.equal(
      await refusal({ package: 'acme' }),
      'PLUGIN_INVALID: package acme is not installed in /etc/merbridge/plugins\nInstall it: npm install --prefix /etc/merbridge/plugins --ignore-scripts acme',
    )
    assert.match(await refusal({ package: '../acme' }), /^PLUGIN_INVALID: '..\/acme' is not the name of a package/)
    assert.match(await refusal({ package: 'acme/../../x' }), /is not the name of a package/)
    install('out', { exports: './../../../acme.ts' }, {})
    assert.match(await refusal({ package: 'out' }), /^PLUGIN_INVALID: package out does not say where its plugin is/)
    install('broken', {}, {})
    directory.write('node_modules/broken/package.json', '{')
    assert.match(await refusal({ package: 'broken' }), /^PLUGIN_INVALID: .*broken\/package.json: /)
    mkdirSync(join(elsewhere, 'linked'), { recursive: true })
    writeFileSync(join(elsewhere, 'linked/package.json'), '{}')
    symlinkSync(join(elsewhere, 'linked'), join(directory.path, 'node_modules/linked'))
    assert.match(await refusal({ package: 'linked' }), /^PLUGIN_DENIED: .*package.json is a symbolic link to/)
    assert.match(
      await directory.refusal(() => builtInOnly.load({ package: 'acme' })),
      /^PLUGIN_DENIED: package acme: no directory of plugins is allowed/,
    )
  })

  it('chooses the entry as Node does', () => {
    assert.equal(entryOf({}), 'index.js')
    assert.equal(entryOf({ main: 'a.js', exports: './b.js' }), './b.js')
    assert.equal(entryOf({ exports: { require: './a.cjs', default: './b.js' } }), './b.js')
    assert.equal(entryOf({ exports: { '.': { browser: './a.js', node: { require: './c.cjs', import: './d.js' } } } }), './d.js')
    assert.equal(entryOf({ exports: { './other': './b.js' } }), undefined)
    assert.equal(entryOf({ exports: { merbridge: './mesh.ts', default: './b.js' } }), './mesh.ts')
  })
})

describe('a name', () => {
  it('is that of a built-in plugin, or is refused with the one that was meant', async () => {
    assert.equal((await builtInOnly.load('istio')).name, 'istio')
    assert.match(
      await refusal('isto'),
      /^PLUGIN_INVALID: unknown mesh 'isto'\nDid you mean istio\? Built in: [a-z, ]*\bistio\b[a-z, ]*; a plugin of your own is named with path or package\.$/,
    )
    assert.match(await refusal('constructor'), /unknown mesh 'constructor'/)
  })
})
