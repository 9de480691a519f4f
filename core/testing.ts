/**
 * `merbridge/testing`: the contract that every plugin keeps, as tests. In a file of tests of the plugin's author:
 *
 *     import { testPlugin, testPod } from 'merbridge/testing'
 *     import acme from './acme.ts'
 *
 *     testPlugin(acme, { pods: [testPod({ labels: { 'acme.example/inject': 'yes' } })] })
 */
import assert from 'node:assert/strict'
import { describe as suite, test } from 'node:test'
import { describe } from './describe.ts'
import { kit } from './kit.ts'
import type { AnyPlugin, Container, Interception, PluginModule, Pod } from './plugin.ts'
import { type Case, checks } from './testing/checks.ts'
import { checkConnection } from './testing/connection.ts'
import { type Connection, type Decision, decide } from './testing/decide.ts'
import { testContainer, testPod, usualPods } from './testing/pods.ts'
import { withDeadline } from './testing/timed.ts'

export type { AnyPlugin, Container, Interception, PluginModule }
export { type Connection, type Decision, testContainer, testPod }

/** A pod without what only a plugin's caller can add. */
export type TestPod = Omit<Pod, 'read' | 'parse' | 'warn'>

export interface Cases {
  /** Pods of the mesh, with and without its annotations: together they should need every rule of the plugin. */
  readonly pods?: readonly TestPod[]
  /** Options as a config has them; no options ({}) are always tried. */
  readonly options?: readonly object[]
}

export interface Problem {
  /** Name of the check. */
  readonly check: string
  readonly problem: string
}

const pluginOf = (plugin: AnyPlugin | PluginModule): AnyPlugin => withDeadline(typeof plugin === 'function' ? plugin(kit) : plugin)

function casesOf(plugin: AnyPlugin, { pods = [], options = [] }: Cases): Case[] {
  const parsed = [{}, ...options].flatMap((input) => {
    const result = plugin.options?.safeParse?.(input)
    if (result?.success) return [{ text: JSON.stringify(input), value: result.data }]
    if (Object.keys(input).length === 0) return [] // the check of the schema says so
    throw new TypeError(`the options ${JSON.stringify(input)} are not valid: ${result?.error.issues.map(({ message }) => message).join('; ')}`)
  })
  return [...pods, ...usualPods].flatMap((pod) =>
    parsed.map(({ text, value }) => ({ title: `pod ${pod.name}${text === '{}' ? '' : `, options ${text}`}`, pod, options: value })),
  )
}

/** Everything in which the plugin breaks the contract; empty: it keeps it. */
export function contractProblems(plugin: AnyPlugin | PluginModule, cases: Cases = {}): Problem[] {
  const made = pluginOf(plugin)
  const subject = { plugin: made, cases: casesOf(made, cases) }
  return checks.flatMap(({ name, problems }) => problems(subject).map((problem) => ({ check: name, problem })))
}

/** One test for each check, for node:test. */
export function testPlugin(plugin: AnyPlugin | PluginModule, cases: Cases = {}): void {
  const made = pluginOf(plugin)
  const subject = { plugin: made, cases: casesOf(made, cases) }
  suite(`the plugin ${made.name}`, () => {
    for (const { name, problems } of checks) {
      test(name, () => {
        const found = problems(subject)
        assert.equal(found.length, 0, `\n${found.map((problem) => `  ${problem}`).join('\n')}`)
      })
    }
  })
}

/** The rules that the plugin gives the pod. Throws when it gives none. */
export function rulesOf(plugin: AnyPlugin | PluginModule, pod: TestPod, options: object = {}): Interception {
  const made = pluginOf(plugin)
  const answer = describe(made, pod, made.options.parse(options))
  if ('interception' in answer) return answer.interception
  throw new Error('cannot' in answer ? answer.cannot : answer.refused)
}

/** What becomes of one connection of the pod. Throws a TypeError when the connection has a wrong value, or a key that there is none of. */
export function decisionOf(plugin: AnyPlugin | PluginModule, pod: TestPod, connection: Connection, options: object = {}): Decision {
  checkConnection(connection)
  return decide(rulesOf(plugin, pod, options), connection, pod.addresses)
}
