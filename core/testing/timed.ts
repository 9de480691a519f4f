/** A plugin whose functions end within the deadline that the agent gives them: in a test of its author, one that never ends must fail and not hang. */
import { Script } from 'node:vm'
import type { AnyPlugin } from '../plugin.ts'
import { deadline } from '../plugins/limits.ts'

const key = Symbol.for('merbridge.testing.call')
const call = new Script("globalThis[Symbol.for('merbridge.testing.call')]()")

class Late extends Error {}

function timed<T>(what: string, work: () => T): T {
  const results: T[] = []
  Object.defineProperty(globalThis, key, { value: () => void results.push(work()), configurable: true })
  try {
    call.runInThisContext({ timeout: deadline })
    return results[0] as T
  } catch (error) {
    const late = error instanceof Error && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
    throw late ? new Late(`${what} did not end within ${deadline / 1000} s`) : error
  } finally {
    Reflect.deleteProperty(globalThis, key)
  }
}

export function withDeadline(plugin: AnyPlugin): AnyPlugin {
  const late = new Map<string, Late>()
  const ending = <Arguments extends unknown[], Result>(what: string, work: (...parameters: Arguments) => Result) =>
    typeof work !== 'function'
      ? work
      : (...parameters: Arguments): Result => {
          const known = late.get(what)
          if (known !== undefined) throw known // once is enough
          try {
            return timed(what, () => work(...parameters))
          } catch (error) {
            if (error instanceof Late) late.set(what, error)
            throw error
          }
        }
  if (typeof plugin !== 'object' || plugin === null) return plugin
  return { ...plugin, selects: ending('selects', plugin.selects), describe: ending('describe', plugin.describe) }
}
