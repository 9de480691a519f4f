/** Which mode a pod gets: the config says the most, words on the pod and its namespace and the operator's switch say less. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { accelModes, type Mode } from '../../core/acceleration/api.ts'
import { podMode } from '../../core/acceleration/mode.ts'
import { reasonTable, reasonWords, stopWords, wordsOf } from '../../core/acceleration/words.ts'
import { parseConfig } from '../../core/config/load.ts'
import { bytesOf, sizeText } from '../../core/config/size.ts'
import { AccelReason, AccelStop } from '../../core/contract.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { packageRoot } from '../../core/root.ts'
import { testPlugin, testSource } from './plugin-source.ts'

const key = 'merbridge.io/acceleration'

interface Words {
  readonly annotation?: string
  readonly label?: string
  readonly namespaceAnnotation?: string
  readonly namespaceLabel?: string
}

const texts = (text: string | undefined) => (text === undefined ? {} : { [key]: text })

const modeOf = (most: Mode, { annotation, label, namespaceAnnotation, namespaceLabel }: Words = {}, halted = false) =>
  podMode(
    most,
    {
      annotations: texts(annotation),
      labels: texts(label),
      namespace: { annotations: texts(namespaceAnnotation), labels: texts(namespaceLabel) },
    },
    halted,
  )

test('without a word a pod has what the config allows', () => {
  for (const most of accelModes) assert.deepEqual(modeOf(most), { mode: most, why: 'acceleration.mode of the config' })
})

test('the pod goes before its namespace, an annotation before a label', () => {
  const all = { annotation: 'none', label: 'proxies', namespaceAnnotation: 'auto', namespaceLabel: 'all' }
  assert.deepEqual(modeOf('all', all), { mode: 'none', why: `the annotation ${key} of the pod` })
  const { annotation: _, ...noAnnotation } = all
  assert.deepEqual(modeOf('all', noAnnotation), { mode: 'proxies', why: `the label ${key} of the pod` })
  assert.deepEqual(modeOf('all', { namespaceAnnotation: 'auto', namespaceLabel: 'all' }), {
    mode: 'auto',
    why: `the annotation ${key} of the namespace`,
  })
  assert.deepEqual(modeOf('all', { namespaceLabel: 'none' }), { mode: 'none', why: `the label ${key} of the namespace` })
})

test('a word may lower the mode and never raise it', () => {
  for (const [most, index] of accelModes.map((mode, place) => [mode, place] as const))
    for (const [wanted, place] of accelModes.map((mode, at) => [mode, at] as const)) {
      const { mode, why, warning } = modeOf(most, { annotation: wanted })
      assert.equal(mode, accelModes[Math.min(index, place)], `${wanted} of ${most}`)
      assert.equal(warning, undefined)
      if (place > index) assert.match(why, new RegExp(`^acceleration\\.mode of the config; .* asks for ${wanted}, and may only ask for less$`))
    }
})

test('a word that is none of them turns it off and is a warning, even where the namespace has a good one', () => {
  for (const text of ['off', 'None', ' none', '', 'proxies,all', 'false', '__proto__', 'x'.repeat(10_000)]) {
    const { mode, warning = '' } = modeOf('all', { annotation: text, namespaceAnnotation: 'all' })
    assert.equal(mode, 'none', text)
    assert.match(
      warning,
      /^the annotation merbridge\.io\/acceleration of the pod is ".*", which is none of none, proxies, auto, all: .*; correct it, or remove it$/,
    )
    assert(warning.length < 250)
  }
})

test("the operator's switch wins, and is not named where the mode is none all the same", () => {
  assert.deepEqual(modeOf('all', { annotation: 'auto' }, true), { mode: 'none', why: 'merbridge accelerate off was said for this pod' })
  assert.equal(modeOf('none', {}, true).why, 'acceleration.mode of the config')
  assert.equal(modeOf('all', { annotation: 'none' }, true).why, `the annotation ${key} of the pod`)
})

test('every reason and every stop has words, and the table has them all', () => {
  const names = Object.values(AccelReason).map((reason) => wordsOf(reason).name)
  assert.equal(new Set(names).size, names.length)
  assert.equal(new Set([...reasonWords.values()].map(({ sentence }) => sentence)).size, names.length)
  assert.equal(reasonTable().split('\n').length, names.length + 2)
  assert(readFileSync(join(packageRoot(), 'docs/acceleration-control.md'), 'utf8').endsWith(`compares -->\n${reasonTable()}\n`), reasonTable())
  assert.equal(wordsOf(99).name, 'reason 99')
  assert.equal(stopWords(Object.values(AccelStop).reduce((all, bit) => all | bit, 0)).length, Object.values(AccelStop).length)
  assert.deepEqual(stopWords(0), [])
})

const plugins = testSource({ istio: testPlugin('istio') })
const configured = async (text: string) =>
  (await parseConfig(`version: 1\nmesh: istio\nacceleration: ${text}\n`, 'c.yaml', plugins)).config.acceleration

async function refusal(text: string): Promise<string> {
  try {
    await configured(text)
  } catch (error) {
    assert(error instanceof MerbridgeError)
    assert.equal(error.found?.issues.length, 1, JSON.stringify(error.found?.issues))
    return `${error.found?.issues[0]?.path} ${error.found?.issues[0]?.message}. ${error.found?.issues[0]?.hint}`
  }
  return assert.fail(`accepted: ${text}`)
}

test('a budget is a size in KiB, MiB, GiB or bytes', async () => {
  const sizes = { '64KiB': 65_536, '4MiB': 4_194_304, '1GiB': 1_073_741_824, '65536': 65_536, '"131072"': 131_072 }
  for (const [text, bytes] of Object.entries(sizes)) assert.equal((await configured(`{ budget: ${text} }`)).budget, bytes, text)
  assert.deepEqual(await configured('{}'), { mode: 'proxies', budget: 8_388_608 })
  for (const bytes of Object.values(sizes)) assert.equal(bytesOf(sizeText(bytes)), bytes)
})

test('a wrong budget or mode is told with the way out', async () => {
  assert.match(await refusal('{ budget: 4MB }'), /^acceleration\.budget must be a size such as 4MiB .*, but is "4MB"\. Did you mean "4MiB"\?$/)
  assert.match(await refusal('{ budget: 4Mi }'), /Did you mean "4MiB"\?$/)
  assert.match(await refusal('{ budget: 4 mib }'), /Did you mean "4MiB"\?$/)
  assert.match(await refusal('{ budget: 2GiB }'), /must be from 64KiB to 1GiB, but is 2GiB\. Write a size from 64KiB to 1GiB/)
  assert.match(await refusal('{ budget: 63KiB }'), /must be from 64KiB to 1GiB, but is 63KiB/)
  assert.match(await refusal('{ budget: 0 }'), /must be at least 65536, but is 0.*From 65536 to 1073741824\. The default is 8MiB\./)
  assert.match(await refusal('{ budget: 1073741825 }'), /must be at most 1073741824/)
  assert.match(await refusal('{ budget: 65536.5 }'), /must be a whole number or text, but is 65536\.5/)
  assert.match(await refusal('{ budget: much }'), /Write a size from 64KiB to 1GiB/)
  assert.match(await refusal('{ mode: proxy }'), /^acceleration\.mode must be none, proxies, auto or all, but is "proxy"/)
  assert.match(await refusal('{ buget: 4MiB }'), /unknown key "buget"\. Did you mean "budget"\?/)
})
