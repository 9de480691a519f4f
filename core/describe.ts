/** Asks a plugin about a pod and takes nothing that it says on trust. */
import { MerbridgeError } from './errors.ts'
import { checkInterception } from './interception.ts'
import type { AnyPlugin, Interception, Pod } from './plugin.ts'

export type { AnyPlugin }

/** What is known of a pod; what a plugin may do with it (`read`, `warn`) is added for each call. */
export type PodFacts = Omit<Pod, 'read' | 'warn'>

export type Description =
  | { readonly interception: Interception; readonly warnings: readonly string[] }
  | { readonly cannot: string; readonly warnings: readonly string[] }
  | { readonly refused: string; readonly warnings: readonly string[] }

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

function readablePod(facts: PodFacts): { readonly pod: Pod; readonly warnings: ReadonlySet<string> } {
  const warnings = new Set<string>()
  const pod: Pod = {
    ...facts,
    read(annotation, parse, fallback) {
      const text = Object.hasOwn(facts.annotations, annotation) ? facts.annotations[annotation] : undefined
      if (text === undefined) return fallback
      try {
        return parse(text)
      } catch (error) {
        warnings.add(`annotation ${annotation} is ignored: ${messageOf(error)}`)
        return fallback
      }
    },
    warn: (message) => void warnings.add(message),
  }
  return { pod, warnings }
}

function failed(plugin: AnyPlugin, facts: PodFacts, message: string, cause?: unknown): MerbridgeError {
  const hint = `Correct the plugin ${plugin.name}, or its options, for the pod ${facts.namespace.name}/${facts.name}.`
  return new MerbridgeError('PLUGIN_FAILED', `${plugin.name}: ${message}`, hint, cause)
}

/** Runs a part of the plugin; whatever it throws becomes PLUGIN_FAILED with its message. */
function guarded<T>(plugin: AnyPlugin, facts: PodFacts, call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw failed(plugin, facts, messageOf(error), error)
  }
}

/** Does the pod belong to the plugin's mesh? PLUGIN_FAILED when the plugin throws or answers anything but true or false. */
export function selects(plugin: AnyPlugin, facts: PodFacts, options?: unknown): boolean {
  const answer: unknown = guarded(plugin, facts, () => plugin.selects(readablePod(facts).pod, options as never))
  if (typeof answer !== 'boolean') throw failed(plugin, facts, `selects returned ${String(answer)}; expected true or false`)
  return answer
}

/** `options` is what `plugin.options` parsed. Throws PLUGIN_FAILED that names the rule, set or target that is wrong. */
export function describe(plugin: AnyPlugin, facts: PodFacts, options: unknown): Description {
  const { pod, warnings } = readablePod(facts)
  const answer: unknown = guarded(plugin, facts, () => plugin.describe(pod, options as never))
  for (const kind of ['cannot', 'refused'] as const) {
    if (typeof answer !== 'object' || answer === null || !(kind in answer)) continue
    const reason: unknown = Reflect.get(answer, kind)
    if (typeof reason !== 'string' || reason === '') throw failed(plugin, facts, `${kind}: expected a reason`)
    return kind === 'cannot' ? { cannot: reason, warnings: [...warnings] } : { refused: reason, warnings: [...warnings] }
  }
  const checked = checkInterception(answer)
  if ('problems' in checked) throw failed(plugin, facts, checked.problems.join('; '))
  return { interception: checked.interception, warnings: [...warnings] }
}
