/** What a plugin costs the agent: each answer once, and one deadline in a round of pods. */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { describe as ask } from '../../core/describe.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { PluginDirectory, pluginText } from './plugin-files.ts'
import { podFacts } from './pods.ts'

let directory: PluginDirectory
beforeEach(() => {
  directory = new PluginDirectory()
})
afterEach(() => directory[Symbol.dispose]())

describe('a plugin that hangs for one pod', () => {
  const hangs = pluginText("if (pod.name === 'bad') for (;;); return { outbound: [], inbound: [] }")
  const problem = (work: () => unknown): string => {
    try {
      work()
      return 'answers'
    } catch (error) {
      return error instanceof MerbridgeError ? error.message : String(error)
    }
  }

  it('costs a round of many pods one deadline, and answers for the others in the next', async () => {
    const plugin = await directory.load(hangs)
    const pods = ['bad', 'a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => podFacts({ name }))
    const round = () => pods.map((pod) => problem(() => ask(plugin, pod, {})))
    const start = performance.now()
    const [bad, ...others] = round()
    assert.equal(bad, 'acme: describe did not end within 1 s')
    assert.deepEqual(
      others.map((text) => text.replace(/pod default\/\w is/, '')),
      others.map((_, index) =>
        `acme: it did not end in time for pod default/bad, and is asked about pod default/${'abcdefg'[index]} in a moment`.replace(
          /pod default\/\w is/,
          '',
        ),
      ),
    )
    assert.ok(performance.now() - start < 4000, `${performance.now() - start} ms`)
    assert.throws(() => ask(plugin, podFacts({ name: 'h' }), {}), {
      hint: 'Nothing is wrong with this pod: wait a moment, and see to the one that is named.',
    })
    await new Promise((resolve) => setTimeout(resolve, 600))
    const again = performance.now()
    assert.deepEqual(round(), ['acme: describe did not end within 1 s', ...others.map(() => 'answers')])
    const asked = performance.now() - again
    const idle = performance.now()
    assert.equal(round().filter((text) => text === 'answers').length, 7)
    assert.ok(performance.now() - idle < Math.max(50, asked / 2), 'what was said once is not asked again')
  })
})

describe('a hundred pods', () => {
  it('are asked about once each, as long as they and the options stay the same', async () => {
    const plugin = await directory.load(
      pluginText("return { targets: { out: { port: options.port } }, outbound: [{ name: pod.name, then: 'out' }], inbound: [] }"),
    )
    const pods = Array.from({ length: 100 }, (_, index) => podFacts({ name: `pod-${index}` }))
    const portsOf = (port: number) =>
      pods.map((pod) => {
        const answer = ask(plugin, pod, { port })
        return 'interception' in answer ? [answer.interception.outbound[0]?.name, answer.interception.targets?.out?.port] : []
      })
    assert.deepEqual(
      portsOf(1),
      pods.map(({ name }) => [name, 1]),
    )
    const start = performance.now()
    for (let i = 0; i < 10; i++) portsOf(1)
    const remembered = (performance.now() - start) / 10
    assert.ok(remembered < 100, `${remembered} ms`)
    assert.deepEqual(
      portsOf(2),
      pods.map(({ name }) => [name, 2]),
      'other options are other questions',
    )
  })
})
