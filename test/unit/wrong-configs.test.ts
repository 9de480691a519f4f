/** What a stranger reads who made a mistake: the whole message for each, as it is printed. wrong-configs.md has them. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { z } from 'zod'
import { failure } from '../../core/cli/outcome.ts'
import { loadConfig, parseConfig } from '../../core/config/load.ts'
import { kit } from '../../core/kit.ts'
import { testPlugin, testSource } from './plugin-source.ts'

/** A few of Istio's options, so that the messages do not change whenever the plugin gets another one. */
const options = z.strictObject({
  proxyPort: z.int().min(1).max(65535).default(15001).describe('where the sidecar takes outbound connections'),
  excludeOutboundCidrs: kit.cidrList.default([]).describe('destinations that are not captured'),
})
const source = testSource({ istio: testPlugin('istio', { options }) })
const directory = mkdtempSync(join(tmpdir(), 'merbridge-wrong-'))
after(() => rmSync(directory, { recursive: true, force: true }))

/** What the command prints, and its exit code. */
async function printed(load: Promise<unknown>): Promise<string> {
  const error: unknown = await load.then(
    () => assert.fail('accepted'),
    (reason: unknown) => reason,
  )
  const { code, stderr } = failure(error, 'text')
  assert.equal(code, 2)
  return stderr ?? ''
}

const page = readFileSync(join(import.meta.dirname, 'wrong-configs.md'), 'utf8')
const cases = [...page.matchAll(/^## (.+)\n\n```yaml\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```$/gm)]

test('the page has at least twenty of them, and nothing else', () => {
  assert(cases.length >= 20)
  assert.equal(cases.length, page.match(/^## /gm)?.length)
})

for (const [, title, text = '', message] of cases) {
  test(`${title}`, async () => assert.equal(await printed(parseConfig(text, 'config.yaml', source)), message))
}

test('each message says where, shows the line, and has a way out', () => {
  for (const [, title, , message = ''] of cases) {
    for (const block of message.trimEnd().split(/\n(?=\S)/))
      assert.match(block, /^config\.yaml:\d+:\d+: .+\n +\d+ \| .*\n +\| *\^+\n {2}[A-Z].+[.?]$/, title)
  }
})

const file = (name: string, content: string | Buffer): string => {
  writeFileSync(join(directory, name), content)
  return join(directory, name)
}

test('what is no text, or nothing at all', async () => {
  const binary = file('binary', Buffer.from('\x7fELF\x02\x01\x01\0\0', 'latin1'))
  const hint = 'Name the config file, or save it as UTF-8 text.'
  const picture = `  1 | \\x7fELF\\x02\\x01\\x01\\x00\\x00\n    | ${' '.repeat(19)}^^^^`
  assert.equal(await printed(loadConfig(binary, source)), `${binary}:1:8: a NUL byte: this is no text\n${picture}\n  ${hint}\n`)
  const latin = file('latin', Buffer.from('version: 1\nmesh: istio # caf\xe9\n', 'latin1'))
  assert.match(await printed(loadConfig(latin, source)), /latin:2:18: not valid UTF-8\n.*\n.*\n {2}Save the file as UTF-8 text\.\n$/)
  const empty = file('empty', '')
  assert.match(
    await printed(loadConfig(empty, source)),
    /empty:1:1: there is nothing in this file\n[\s\S]*Write at least "version: 1" and "mesh: istio"\.\n$/,
  )
})

test('what is no file', async () => {
  mkdirSync(join(directory, 'config'))
  const path = join(directory, 'config')
  const none = join(directory, 'none.yaml')
  assert.equal(
    await printed(loadConfig(path, source)),
    `merbridge: ${path}: is a directory\n  Name the file in it: --config DIRECTORY/config.yaml.\n`,
  )
  assert.equal(
    await printed(loadConfig(none, source)),
    `merbridge: ${none}: no such file\n  Create the file, or name another one with --config FILE.\n`,
  )
  const large = file('large.yaml', '#'.repeat(2 * 1024 * 1024))
  assert.match(await printed(loadConfig(large, source)), /has 2097152 bytes; the limit is 1048576 \(1 MiB\)\n {2}Name a config file/)
})

test('a value of 200 kB is not repeated in full', async () => {
  const text = await printed(
    parseConfig(`version: 1\nmesh: istio\noptions: { excludeOutboundCidrs: [${'9'.repeat(200_000)}.1] }\n`, 'config.yaml', source),
  )
  assert(text.length < 2000, `${text.length} characters`)
})
