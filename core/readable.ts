/** What a plugin may do with a pod besides looking at it: read annotations, and warn. */
import { types } from 'node:util'
import type { Pod } from './plugin.ts'

/** What is known of a pod; what a plugin may do with it (`read`, `parse`, `warn`) is added for each call. */
export type PodFacts = Omit<Pod, 'read' | 'parse' | 'warn'>

/** More of them help nobody, and a plugin that warns in a loop must not fill the agent's memory. */
const maxWarnings = 100
const maxCharacters = 1000

/** Shortened to what somebody would read. */
export const shortened = (text: string): string => (text.length <= maxCharacters ? text : `${text.slice(0, maxCharacters)}...`)

const kinds: Readonly<Record<string, string>> = { string: 'text', object: 'a map', record: 'a map', array: 'a list', int: 'a whole number' }
const kind = (name: string) => kinds[name] ?? name

interface Issue {
  readonly path?: readonly PropertyKey[]
  readonly message?: string
}

const isIssue = (value: unknown): value is Issue => {
  if (typeof value !== 'object' || value === null) return false
  const { path = [], message }: { path?: unknown; message?: unknown } = value
  return Array.isArray(path) && typeof message === 'string'
}

/** "user: expected number, got text" */
function issueText({ path = [], message = '' }: Issue): string {
  const text = message
    .replace(/^Invalid input: expected (\w+), received (\w+)$/, (_, wanted: string, got: string) => `expected ${kind(wanted)}, got ${kind(got)}`)
    .replace(/^Invalid input: /, '')
  return path.length === 0 ? text : `${path.map(String).join('.')}: ${text}`
}

const maxIssues = 5

/** Of a schema's error, whose own message is JSON over many lines. */
function issuesOf(error: unknown): string | undefined {
  const issues: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, 'issues') : undefined
  if (!Array.isArray(issues) || issues.length === 0 || !issues.every(isIssue)) return undefined
  const more = issues.length - maxIssues
  return [...issues.slice(0, maxIssues).map(issueText), ...(more > 0 ? [`and ${more} more`] : [])].join('; ')
}

/** Also of an error of another realm. */
export const messageOf = (error: unknown): string => issuesOf(error) ?? (types.isNativeError(error) ? error.message : String(error))

export function readablePod(facts: PodFacts): { readonly pod: Pod; readonly warnings: ReadonlySet<string> } {
  const warnings = new Set<string>()
  const warn = (message: string) => {
    if (warnings.size < maxWarnings) warnings.add(shortened(String(message)))
  }
  const parse: Pod['parse'] = (title, text, parser, fallback) => {
    if (text === undefined) return fallback
    try {
      return parser(text)
    } catch (error) {
      warn(`${title} is ignored: ${messageOf(error)}`)
      return fallback
    }
  }
  const pod: Pod = {
    ...facts,
    read(annotation, parser, fallback) {
      const text = Object.hasOwn(facts.annotations, annotation) ? facts.annotations[annotation] : undefined
      return parse(`annotation ${annotation}`, text, parser, fallback)
    },
    parse,
    warn,
  }
  return { pod, warnings }
}
