/** What a plugin may do with a pod besides looking at it: read annotations, and warn. */
import { types } from 'node:util'
import type { Pod } from './plugin.ts'

/** What is known of a pod; what a plugin may do with it (`read`, `warn`) is added for each call. */
export type PodFacts = Omit<Pod, 'read' | 'warn'>

/** More of them help nobody, and a plugin that warns in a loop must not fill the agent's memory. */
const maxWarnings = 100
const maxCharacters = 1000

/** Shortened to what somebody would read. */
export const shortened = (text: string): string => (text.length <= maxCharacters ? text : `${text.slice(0, maxCharacters)}...`)

/** Also of an error of another realm. */
export const messageOf = (error: unknown): string => (types.isNativeError(error) ? error.message : String(error))

export function readablePod(facts: PodFacts): { readonly pod: Pod; readonly warnings: ReadonlySet<string> } {
  const warnings = new Set<string>()
  const warn = (message: string) => {
    if (warnings.size < maxWarnings) warnings.add(shortened(String(message)))
  }
  const pod: Pod = {
    ...facts,
    read(annotation, parse, fallback) {
      const text = Object.hasOwn(facts.annotations, annotation) ? facts.annotations[annotation] : undefined
      if (text === undefined) return fallback
      try {
        return parse(text)
      } catch (error) {
        warn(`annotation ${annotation} is ignored: ${messageOf(error)}`)
        return fallback
      }
    },
    warn,
  }
  return { pod, warnings }
}
