/** A plugin of somebody else's as the agent uses it: its functions ask the plugin's process, and what it said of a pod is remembered, because plugins are pure. */
import { createHash } from 'node:crypto'
import { serialize } from 'node:v8'
import { z } from 'zod'
import { MerbridgeError } from '../errors.ts'
import type { AnyPlugin, Pod } from '../plugin.ts'
import { AskAgain } from './again.ts'
import { PluginProcess } from './host.ts'
import type { Answer, Loaded, Parsed, Question } from './protocol.ts'

/** As many pods as a config may list. */
const maxRemembered = 4096
/** Milliseconds. All pods of one round come within less; a plugin that hangs for each of them shall hold up a round once. */
const restMs = 500
/** Milliseconds after which a question that was stopped may be asked again: the machine may have been busy. */
const retryMs = 60_000

interface Remembered {
  readonly answer: Answer
  /** Of performance.now(). */
  readonly until: number
}

const soon = 'Nothing is wrong with this pod: wait a moment, and see to the one that is named.'
const busy = 'See whether the node has processes and memory left.'

/** Asks each question once. */
class Memory {
  readonly #process: PluginProcess
  readonly #answers = new Map<string, Remembered>()
  #rest = { until: 0, why: '' }

  constructor(process: PluginProcess) {
    this.#process = process
  }

  /** `subject`: whom the question is about, for messages. */
  ask(question: Question, subject: string): Answer {
    const id = createHash('sha256').update(serialize(question)).digest('base64')
    const known = this.#answers.get(id)
    if (known !== undefined && known.until > performance.now()) {
      this.#answers.delete(id)
      this.#answers.set(id, known) // the one that was used longest ago goes first
      return known.answer
    }
    if (this.#rest.until > performance.now()) {
      throw new AskAgain(`${this.#rest.why}, and is asked about ${subject} in a moment`, restMs, soon)
    }
    const answer = this.#process.ask(question)
    if ('problem' in answer && answer.notStarted === true) {
      this.#rest = { until: performance.now() + restMs, why: answer.problem }
      throw new AskAgain(answer.problem, restMs, busy)
    }
    const late = 'problem' in answer && answer.late === true
    if (late) this.#rest = { until: performance.now() + restMs, why: `it did not end in time for ${subject}` }
    this.#answers.delete(id)
    this.#answers.set(id, { answer, until: late ? performance.now() + retryMs : Number.POSITIVE_INFINITY })
    const [oldest] = this.#answers.keys()
    if (this.#answers.size > maxRemembered && oldest !== undefined) this.#answers.delete(oldest)
    return answer
  }
}

/** A zod schema that has the plugin's own one parse; editors and messages get its JSON Schema. */
function optionsSchema(name: string, schema: object, memory: Memory): z.ZodType {
  const outer = z.unknown().transform((input, context) => {
    const answer = memory.ask({ kind: 'options', input }, 'its options')
    if ('problem' in answer)
      throw new MerbridgeError('PLUGIN_FAILED', `${name}: ${answer.problem}`, `Correct the schema of options in the plugin ${name}.`)
    const parsed = answer.value as Parsed
    if ('data' in parsed) return parsed.data
    for (const issue of parsed.issues) context.addIssue(issue as Parameters<typeof context.addIssue>[0])
    return z.NEVER
  })
  outer._zod.toJSONSchema = () => structuredClone(schema)
  return outer
}

/** Only what a plugin may know, for a question that does not differ when the agent's own notes on the pod do. */
function factsOf({ name, namespace, labels, annotations, containers, addresses, nameservers }: Pod) {
  return { name, namespace, labels, annotations, containers, addresses, ...(nameservers && { nameservers }) }
}

const titleOf = ({ namespace, name }: Pod) => `pod ${namespace.name}/${name}`

/** What the plugin said, after its warnings were passed on. */
function said(answer: Answer, pod: Pod): unknown {
  if ('problem' in answer) throw answer.late === true ? new AskAgain(answer.problem, retryMs) : new Error(answer.problem)
  for (const warning of answer.warnings ?? []) pod.warn(warning)
  return answer.value
}

export interface ForeignPlugin {
  readonly plugin: AnyPlugin
  /** Ends the plugin's process; should it be needed again, it starts again. */
  stop(): void
}

/** Throws PLUGIN_INVALID. `file` is where the text comes from. */
export function foreignPlugin(text: string, file: string): ForeignPlugin {
  const process = new PluginProcess(text, file)
  const answer = process.ask({ kind: 'load', text, file })
  if ('problem' in answer) {
    process.stop()
    throw new MerbridgeError('PLUGIN_INVALID', `${file}: ${answer.problem}`, 'Correct the plugin; docs/plugins.md shows one from beginning to end.')
  }
  const { name, schema } = answer.value as Loaded
  const memory = new Memory(process)
  const plugin: AnyPlugin = {
    api: 1,
    name,
    file,
    options: optionsSchema(name, schema, memory),
    selects: (pod, options?: unknown) => said(memory.ask({ kind: 'selects', pod: factsOf(pod), options }, titleOf(pod)), pod) as boolean,
    describe: (pod, options) =>
      said(memory.ask({ kind: 'describe', pod: factsOf(pod), options }, titleOf(pod)), pod) as ReturnType<AnyPlugin['describe']>,
  }
  return { plugin, stop: () => process.stop() }
}
