/**
 * The process in which one plugin runs. It may not write files, start processes or load native code, and has no environment; its memory is limited. When
 * it is stuck, it is killed, and the agent goes on.
 */
import { types } from 'node:util'
import { z } from 'zod'
import { kit } from '../kit.ts'
import type { AnyPlugin, Pod } from '../plugin.ts'
import { type PodFacts, readablePod } from '../readable.ts'
import { deepFreeze } from './plain.ts'
import type { Answer, Loaded, Parsed, Question } from './protocol.ts'
import { Realm, TooLate } from './realm.ts'
import { PluginProblem } from './script.ts'
import { checkExport, checkPlugin } from './shape.ts'

interface Running {
  readonly realm: Realm
  readonly plugin: AnyPlugin
}

let running: Running | undefined

function schemaOf({ options }: AnyPlugin): object {
  const { $schema: _, ...schema } = z.toJSONSchema(options, { io: 'input', unrepresentable: 'any' })
  return schema
}

function load(text: string, file: string): Loaded {
  const realm = new Realm(file)
  const make = checkExport(realm.defaultExport(text))
  const plugin = realm.timed('the exported function', () => checkPlugin(make(kit)))
  running = { realm, plugin }
  return { name: plugin.name, schema: realm.ask('the schema of options', () => schemaOf(plugin)) as object }
}

function parsed({ plugin }: Running, input: unknown): Parsed {
  // The agent says what is wrong in its own words, except where the schema has some.
  const result = plugin.options.safeParse(input, { error: () => '', reportInput: false })
  return result.success ? { data: result.data } : { issues: result.error.issues }
}

function asked(running: Running, kind: 'selects' | 'describe', facts: PodFacts, call: (pod: Pod) => unknown): Answer {
  const { pod, warnings } = readablePod(deepFreeze(facts))
  return { value: running.realm.ask(kind, () => call(pod)), warnings: [...warnings] }
}

function answered(question: Question): Answer {
  if (question.kind === 'load') return { value: load(question.text, question.file) }
  if (running === undefined) throw new PluginProblem('it is not loaded')
  const { realm, plugin } = running
  switch (question.kind) {
    case 'options': {
      const { input } = question
      return { value: realm.ask('the schema of options', () => parsed({ realm, plugin }, input)) }
    }
    default: {
      const { kind, pod } = question
      const options = deepFreeze(question.options)
      const functions: Readonly<Record<typeof kind, (pod: Pod, options: never) => unknown>> = plugin
      return asked(running, kind, pod, (readable) => functions[kind](readable, options as never))
    }
  }
}

function answer(question: Question): Answer {
  try {
    return answered(question)
  } catch (error) {
    if (!(error instanceof PluginProblem)) return { problem: String(error) }
    return error instanceof TooLate ? { problem: error.message, late: true } : { problem: error.message }
  }
}

// zod asks "instanceof Promise", also for those of the plugin's own realm.
Object.defineProperty(Promise, Symbol.hasInstance, { value: types.isPromise })
process.on('unhandledRejection', () => {}) // a promise that the plugin forgot: its answer, if any, was refused for being one
process.on('message', (question: Question) => void process.send?.(answer(question)))
process.send?.('ready')
