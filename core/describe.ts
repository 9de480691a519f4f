/** Asks a plugin about a pod and takes nothing that it says on trust. */
import { types } from 'node:util'
import { MerbridgeError } from './errors.ts'
import { checkInterception } from './interception.ts'
import type { AnyPlugin, Interception } from './plugin.ts'
import { AskAgain } from './plugins/again.ts'
import { messageOf, type PodFacts, readablePod, shortened } from './readable.ts'

export type { AnyPlugin, PodFacts }

export type Description =
  | { readonly interception: Interception; readonly warnings: readonly string[] }
  | { readonly cannot: string; readonly warnings: readonly string[] }
  | { readonly refused: string; readonly warnings: readonly string[] }

function failed(plugin: AnyPlugin, facts: PodFacts, message: string, cause?: unknown): MerbridgeError {
  const own = cause instanceof AskAgain ? cause.hint : undefined
  const which = plugin.file === undefined ? plugin.name : `${plugin.name} (${plugin.file})`
  const hint = own ?? `Correct the plugin ${which}, or its options, for the pod ${facts.namespace.name}/${facts.name}.`
  return new MerbridgeError('PLUGIN_FAILED', `${plugin.name}: ${shortened(message)}`, hint, cause)
}

/** Runs a part of the plugin; whatever it throws becomes PLUGIN_FAILED with its message. */
function guarded<T>(plugin: AnyPlugin, facts: PodFacts, call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw failed(plugin, facts, messageOf(error), error)
  }
}

const promised = (what: string) => `${what} must not be async: it returned a promise; return the value itself`

/** Does the pod belong to the plugin's mesh? PLUGIN_FAILED when the plugin throws or answers anything but true or false. */
export function selects(plugin: AnyPlugin, facts: PodFacts, options?: unknown): boolean {
  const answer: unknown = guarded(plugin, facts, () => plugin.selects(readablePod(facts).pod, options as never))
  if (typeof answer === 'boolean') return answer
  if (types.isPromise(answer)) throw failed(plugin, facts, promised('selects'))
  throw failed(plugin, facts, `selects returned ${typeof answer === 'object' ? 'an object' : String(answer)}; expected true or false`)
}

/** `options` is what `plugin.options` parsed. Throws PLUGIN_FAILED that names the rule, set or target that is wrong. */
export function describe(plugin: AnyPlugin, facts: PodFacts, options: unknown): Description {
  const { pod, warnings } = readablePod(facts)
  const answer: unknown = guarded(plugin, facts, () => plugin.describe(pod, options as never))
  if (types.isPromise(answer)) throw failed(plugin, facts, promised('describe'))
  for (const kind of ['cannot', 'refused'] as const) {
    if (typeof answer !== 'object' || answer === null || !(kind in answer)) continue
    const reason: unknown = Reflect.get(answer, kind)
    if (typeof reason !== 'string' || reason === '') throw failed(plugin, facts, `${kind}: expected a reason`)
    const rest = { warnings: [...warnings] }
    return kind === 'cannot' ? { cannot: shortened(reason), ...rest } : { refused: shortened(reason), ...rest }
  }
  const checked = checkInterception(answer)
  if ('problems' in checked) throw failed(plugin, facts, checked.problems.join('; '))
  return { interception: checked.interception, warnings: [...warnings] }
}
