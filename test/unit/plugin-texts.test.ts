/** The contract's check of texts: a plugin that trusts what stands in a pod is named, with the place and the way out. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { kit } from '../../core/kit.ts'
import type { Interception, Pod } from '../../core/plugin.ts'
import { type AnyPlugin, contractProblems, testContainer, testPod } from '../../core/testing.ts'

const good: Interception = {
  sets: { web: { ports: [80] } },
  targets: { out: { port: 9901 } },
  outbound: [{ name: 'web', when: { proto: 'tcp', port: 'web' }, then: 'out' }],
  inbound: [],
}

const plugin = (describe: (pod: Pod) => unknown, more: Partial<AnyPlugin>): AnyPlugin => ({
  api: 1,
  name: 'acme',
  options: kit.z.strictObject({}),
  selects: () => true,
  describe: describe as AnyPlugin['describe'],
  ...more,
})

describe('junk in the texts of a pod', () => {
  const given = testPod({
    annotations: { 'acme.example/ports': '80' },
    namespace: { name: 'default', labels: {}, annotations: { 'acme.example/uid': '7' } },
    containers: [testContainer('app', { args: ['run', '--port=90'], env: { ACME_PORT: '91' } })],
  })
  const problemsOf = (describe: (pod: Pod) => unknown, more: Partial<AnyPlugin> = {}) =>
    contractProblems(plugin(describe, more), { pods: [given, { ...given, name: 'other' }] })
  const withPorts = (ports: readonly (number | string)[]) => ({ ...good, sets: { ...good.sets, web: { ports } } })
  const textOf = ({ containers: [first] }: Pod, name: string) => first?.args.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3)
  const check = 'has an answer whatever stands in annotations, arguments and variables'

  const careless: readonly (readonly [where: string, describe: (pod: Pod) => unknown, problem: RegExp])[] = [
    [
      'an annotation',
      ({ annotations }) => withPorts(kit.ports(annotations['acme.example/ports'] ?? '')),
      /^pod web: describe throws for annotation acme\.example\/ports = 'junk': read it with pod\.read \(acme: expected a port/,
    ],
    [
      'an annotation that only has to be long',
      ({ annotations }) => {
        if ((annotations['acme.example/ports'] ?? '').length > 4000) throw new Error('too long')
        return good
      },
      /annotation acme\.example\/ports = 'x{40}\.\.\.': read it with pod\.read \(acme: too long/,
    ],
    [
      'an annotation of the namespace',
      ({ namespace }) => withPorts(kit.ports(namespace.annotations['acme.example/uid'] ?? '')),
      /annotation acme\.example\/uid of the namespace = 'junk': parse it with pod\.parse/,
    ],
    [
      "the value of an argument '--name=value'",
      (pod) => withPorts(kit.ports(textOf(pod, 'port') ?? '')),
      /argument --port= of container app = 'junk': parse it with pod\.parse/,
    ],
    [
      'a variable',
      ({ containers: [first] }) => withPorts(kit.ports(first?.env.ACME_PORT ?? '')),
      /variable ACME_PORT of container app = 'junk': parse it with pod\.parse/,
    ],
    [
      'a port that it does not look at',
      ({ annotations }) => ({ ...good, targets: { out: { port: Number(annotations['acme.example/ports'] ?? 1) } } }),
      /describe answers with what is no answer for annotation acme\.example\/ports = '': check the text, inside pod\.read or pod\.parse/,
    ],
  ]
  for (const [where, describe, problem] of careless) {
    it(`is found where describe trusts ${where}, and told once`, () => {
      const problems = problemsOf(describe)
      assert.deepEqual(
        problems.map((each) => each.check),
        [check],
        JSON.stringify(problems),
      )
      assert.match(problems[0]?.problem ?? '', problem)
    })
  }

  it('is found where selects throws', () => {
    const selects = ({ annotations }: Pod) =>
      kit.boolean(annotations['acme.example/ports'] === '80' ? 'true' : (annotations['acme.example/ports'] ?? 'true'))
    assert.match(
      problemsOf(() => good, { selects })[0]?.problem ?? '',
      /selects throws for annotation acme\.example\/ports = '': read it with pod\.read/,
    )
  })

  it('does no harm to a plugin that reads with pod.read and pod.parse', () => {
    const careful = (pod: Pod) =>
      withPorts([
        ...pod.read('acme.example/ports', kit.ports, []),
        ...pod.parse('the argument --port', textOf(pod, 'port'), kit.ports, []),
        ...pod.parse('the variable ACME_PORT', pod.containers[0]?.env.ACME_PORT, kit.ports, []),
        1,
      ])
    assert.deepEqual(problemsOf(careful), [])
  })
})
