import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { repositoryFiles, root, textOf } from './files.ts'

const imports = 'lint/style/noRestrictedImports'

/** Each rule, by a file that breaks it, and the same file where it is allowed. */
const rules: readonly { rule: string; says: string; text: string; forbidden: readonly string[]; allowed: readonly string[] }[] = [
  {
    rule: imports,
    says: 'only the container imports tsyringe and its polyfill',
    text: "import 'reflect-metadata'\nimport { container } from 'tsyringe'\nexport default container\n",
    forbidden: ['core/a.ts', 'core/cli/a.ts', 'core/compile/a.ts', 'plugins/acme/a.ts', 'test/a.ts'],
    allowed: ['core/container.ts'],
  },
  {
    rule: imports,
    says: 'compile and diff do not read files',
    text: "import { readFileSync } from 'node:fs'\nexport default readFileSync\n",
    forbidden: ['core/compile/b.ts', 'core/compile.ts', 'core/diff.ts', 'core/diff/b.ts', 'plugins/acme/b.ts'],
    allowed: ['core/b.ts', 'core/config/b.ts'],
  },
  {
    rule: imports,
    says: 'compile and diff start no process',
    text: "export default import('node:child_process')\n",
    forbidden: ['core/compile/c.ts', 'core/diff/c.ts', 'plugins/acme/c.ts'],
    allowed: ['core/c.ts'],
  },
  {
    rule: imports,
    says: 'compile and diff do not know the kernel',
    text: "import { native } from '../native/index.ts'\nexport default native\n",
    forbidden: ['core/compile/d.ts', 'core/diff/d.ts'],
    allowed: ['core/datapath/d.ts'],
  },
  {
    rule: imports,
    says: 'a plugin imports nothing but the plugin types',
    text: "import type { Config } from '../../core/config/schema.ts'\nexport default {} as Config\n",
    forbidden: ['plugins/acme/e.ts'],
    allowed: ['core/e.ts'],
  },
  {
    rule: 'plugin',
    says: 'a plugin imports types, not values',
    text: "import { definePlugin } from '../../core/plugin.ts'\nexport default definePlugin\n",
    forbidden: ['plugins/acme/f.ts'],
    allowed: ['core/config/f.ts'],
  },
  {
    rule: imports,
    says: 'a plugin imports files of its own folder, not of another plugin',
    text: "import { rules } from '../acme/rules.ts'\nexport default rules\n",
    forbidden: ['plugins/other/n.ts'],
    allowed: ['test/n.ts'],
  },
  {
    rule: 'plugin',
    says: 'a plugin imports no values of another plugin',
    text: "import { rules } from '../acme/rules.ts'\nexport default rules\n",
    forbidden: ['plugins/other/o.ts'],
    allowed: ['test/o.ts'],
  },
  {
    rule: imports,
    says: 'a plugin may have several files in its folder',
    text: "import { rules } from './rules.ts'\nexport default rules\n",
    forbidden: [],
    allowed: ['plugins/acme/p.ts'],
  },
  {
    rule: 'plugin',
    says: 'a plugin may import values of its own folder',
    text: "import { rules } from './rules.ts'\nexport default rules\n",
    forbidden: [],
    allowed: ['plugins/acme/q.ts'],
  },
  {
    rule: 'lint/suspicious/noConsole',
    says: 'only main writes to the console',
    text: "console.log('hello')\n",
    forbidden: ['core/g.ts', 'core/cli/g.ts', 'plugins/acme/g.ts'],
    allowed: ['core/main.ts', 'scripts/g.ts', 'bench/g.ts', 'test/unit/g.ts'],
  },
  {
    rule: 'plugin',
    says: 'only main exits',
    text: 'process.exit(1)\n',
    forbidden: ['core/h.ts', 'core/cli/h.ts', 'plugins/acme/h.ts'],
    allowed: ['scripts/h.ts'],
  },
  {
    rule: 'lint/suspicious/noExplicitAny',
    says: 'no any',
    text: 'export const value: any = 1\n',
    forbidden: ['core/i.ts', 'plugins/acme/i.ts', 'test/i.ts'],
    allowed: [],
  },
  {
    rule: 'lint/style/useNodejsImportProtocol',
    says: "modules of Node are written 'node:'",
    text: "import { readFileSync } from 'fs'\nexport default readFileSync\n",
    forbidden: ['core/j.ts', 'test/j.ts'],
    allowed: [],
  },
  {
    rule: 'lint/style/noExcessiveLinesPerFile',
    says: 'a file has at most 300 lines',
    text: 'export {}\n'.repeat(301),
    forbidden: ['core/k.ts', 'test/k.ts'],
    allowed: ['core/contract.ts'],
  },
  {
    rule: 'lint/complexity/noExcessiveLinesPerFunction',
    says: 'a function has at most 60 lines',
    text: `export function long(): void {\n${'  void 0\n'.repeat(61)}}\n`,
    forbidden: ['core/l.ts'],
    allowed: ['test/l.ts'],
  },
  {
    rule: 'lint/nursery/noFloatingPromises',
    says: 'a promise is awaited or handled',
    text: 'async function work(): Promise<void> {}\nexport function start(): void {\n  work()\n}\n',
    forbidden: ['core/m.ts'],
    allowed: [],
  },
]

interface Finding {
  readonly category: string
  readonly location: { readonly path: string }
}

describe('the rules of biome.json bite', () => {
  let directory: string
  let found: ReadonlySet<string>

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'merbridge-lint-'))
    await cp(join(root, 'biome.json'), join(directory, 'biome.json'))
    await cp(join(root, 'scripts/lint'), join(directory, 'scripts/lint'), { recursive: true })
    for (const { text, forbidden, allowed } of rules) {
      for (const path of [...forbidden, ...allowed]) {
        const file = join(directory, path)
        assert.ok(!existsSync(file), `${path} is used by two rules`)
        await mkdir(dirname(file), { recursive: true })
        await writeFile(file, text)
      }
    }
    const biome = join(root, 'node_modules/@biomejs/biome/bin/biome')
    const lint = ['lint', '--reporter=json', '--max-diagnostics=1000', '.']
    const { stdout } = spawnSync(process.execPath, [biome, ...lint], { cwd: directory, encoding: 'utf8' })
    const { diagnostics } = JSON.parse(stdout) as { diagnostics: readonly Finding[] }
    found = new Set(diagnostics.map(({ category, location }) => `${location.path} ${category}`))
  })

  after(() => rm(directory, { recursive: true }))

  for (const { rule, says, forbidden, allowed } of rules) {
    test(says, () => {
      for (const path of forbidden) assert.ok(found.has(`${path} ${rule}`), `${path} was accepted`)
      for (const path of allowed) assert.ok(!found.has(`${path} ${rule}`), `${path} was refused`)
    })
  }
})

/** What a file imports at run time (not `import type`), relative paths resolved against the root. */
function importsOf(path: string): string[] {
  const statements = textOf(path).matchAll(/^(?:import|export)\s+(?!type\b)(?:[^'";]*?\bfrom\s+)?'([^']+)'/gm)
  return [...statements].map(([, source = '']) => (source.startsWith('.') ? join(dirname(path), source) : source))
}

/** Modules of Node from which pure code takes hashes, isIP and the byte order. */
const pure: ReadonlySet<string> = new Set(['node:crypto', 'node:net', 'node:os'])

test('compile and diff reach no I/O, however deep', () => {
  const queue = repositoryFiles().filter((path) => /^core\/(compile|diff)(\.ts|\/.*\.ts)$/.test(path))
  assert.ok(queue.length >= 2)
  const seen = new Set(queue)
  for (const path of queue) {
    for (const source of importsOf(path)) {
      assert.ok(!source.startsWith('node:') || pure.has(source), `${path} imports ${source}`)
      assert.ok(!source.startsWith('core/native/'), `${path} imports ${source}`)
      if (!source.endsWith('.ts') || seen.has(source)) continue
      seen.add(source)
      queue.push(source)
    }
  }
})

test("no mesh's name occurs under bpf/", () => {
  const files = repositoryFiles().filter((path) => path.startsWith('bpf/'))
  assert.ok(files.some((path) => path.endsWith('.bpf.c')))
  for (const path of files) {
    assert.doesNotMatch(textOf(path), /istio|kuma|\bosm\b|\bfsm\b|linkerd|envoy|ambient|ztunnel|consul/i, path)
  }
})

test('C and C++ files and scripts have at most 300 lines', () => {
  const files = repositoryFiles().filter((path) => /\.(c|h|cc|cpp|hpp|sh|py)$/.test(path))
  assert.ok(files.length > 10)
  for (const path of files) assert.ok(textOf(path).split('\n').length <= 301, `${path} is too long`)
})

test('programs and their header carry their licence', () => {
  const files = repositoryFiles().filter((path) => /^bpf\/.*\.[ch]$/.test(path))
  for (const path of files) assert.match(textOf(path).slice(0, 100), /SPDX-License-Identifier: GPL-2\.0-only OR BSD-2-Clause/, path)
})
