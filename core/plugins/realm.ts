/**
 * Where a plugin's code runs: a context that has JavaScript and nothing else, neither Node nor a clock nor chance. It is no wall against somebody who
 * wants out (an operator allowed this code); it turns what a plugin does by mistake into an error that says so.
 */
import { types } from 'node:util'
import { type Context, createContext, Script } from 'node:vm'
import { messageOf } from '../readable.ts'
import { attempts, deadline } from './limits.ts'
import { NotPlain, plain } from './plain.ts'
import { linesBefore, PluginProblem, scriptOf } from './script.ts'
import { shown } from './shape.ts'

/** The plugin was still busy at its deadline. */
export class TooLate extends PluginProblem {}

/** Answers of these differ from call to call, or come from outside. */
const impure = ['Date', 'Intl', 'Temporal', 'WebAssembly', 'SharedArrayBuffer', 'Atomics', 'WeakRef', 'FinalizationRegistry', 'console']
const purity = 'a plugin is a pure function of its pod and its options: it has no network, no files, no environment, no clock and no timers'

const setUp = new Script(`
  for (const name of ${JSON.stringify(impure)}) delete globalThis[name]
  Math.random = () => { throw new Error(${JSON.stringify(`Math.random is not there: ${purity}`)}) }
`)

/** Names that people know from elsewhere; those of Node are all in its own global object. */
const elsewhere = ['require', 'module', 'exports', '__filename', '__dirname', 'window', 'XMLHttpRequest', ...impure]

/** "(line 3, column 7)" of the first frame in the plugin's file. */
function placeIn(stack: unknown, file: string): string {
  for (const part of typeof stack === 'string' ? stack.split(`${file}:`).slice(1) : []) {
    const [, line, column] = /^(\d+):(\d+)/.exec(part) ?? []
    if (line !== undefined) return ` (line ${Number(line) - linesBefore}, column ${column})`
  }
  return ''
}

const isLate = (thrown: unknown) => types.isNativeError(thrown) && Reflect.get(thrown, 'code') === 'ERR_SCRIPT_EXECUTION_TIMEOUT'

function explained(thrown: unknown, what: string, file: string): PluginProblem {
  if (thrown instanceof PluginProblem) return thrown
  if (thrown instanceof NotPlain) return new PluginProblem(`${what} returned ${thrown.message}; expected plain data`)
  if (!types.isNativeError(thrown)) return new PluginProblem(`${what} threw ${shown(thrown)}; expected an Error`)
  if (isLate(thrown)) return new TooLate(`${what} did not end within ${deadline / 1000} s`)
  if (thrown.message.startsWith('Encountered Promise during synchronous parse')) return new PluginProblem(`${what} must not be async`)
  const [, missing = ''] = /^(\w+) is not defined$/.exec(thrown.message) ?? []
  const why = missing !== '' && (missing in globalThis || elsewhere.includes(missing)) ? `: ${purity}` : ''
  return new PluginProblem(`${what} threw ${thrown.name}: ${messageOf(thrown)}${placeIn(thrown.stack, file)}${why}`)
}

export class Realm {
  readonly #context: Context
  readonly #file: string
  readonly #call = new Script('call()')

  constructor(file: string) {
    this.#file = file
    const codeGeneration = { strings: false, wasm: false }
    this.#context = createContext({}, { codeGeneration, microtaskMode: 'afterEvaluate' })
    setUp.runInContext(this.#context)
  }

  /** Runs code of the plugin to its end, within the deadline. Throws PluginProblem; `what` is what the author calls it. */
  timed<T>(what: string, work: () => T): T {
    const results: T[] = []
    this.#context.call = () => void results.push(work())
    try {
      this.#run(attempts)
      return results[0] as T
    } catch (thrown) {
      throw explained(thrown, what, this.#file)
    } finally {
      delete this.#context.call
    }
  }

  /** The deadline is of the clock; where the processors are busy with others, a call that has had little of them gets another one. */
  #run(left: number): void {
    const before = process.cpuUsage()
    try {
      this.#call.runInContext(this.#context, { timeout: deadline })
    } catch (thrown) {
      const { user, system } = process.cpuUsage(before)
      const starved = (user + system) / 1000 < deadline / 2
      if (!isLate(thrown) || !starved || left === 1) throw thrown
      this.#run(left - 1)
    }
  }

  /** What the call returns, as plain data. */
  ask(what: string, work: () => unknown): unknown {
    return this.timed(what, () => {
      const answer = work()
      if (types.isPromise(answer)) throw new PluginProblem(`${what} must not be async: it returned a promise; return the value itself`)
      return plain(answer)
    })
  }

  /** The default export of the file. */
  defaultExport(text: string): unknown {
    const file = this.#file
    const script = new Script(scriptOf(text, file), { filename: file })
    const exported: { default?: unknown } = {}
    this.timed('the file', () => script.runInContext(this.#context)(exported))
    return exported.default
  }
}
