/** zod's issues -> what is wrong and what to do, in the words of somebody who edits the file. */
import type { z } from 'zod'
import type { Path } from './document.ts'
import { type JsonSchema, knownKeys, schemasAt } from './jsonschema.ts'
import { listed, nearest } from './nearest.ts'

type ZodIssue = z.core.$ZodIssue

export interface Finding {
  /** What it is about; for a missing key, the path of that key. */
  readonly path: Path
  readonly part: 'key' | 'value'
  readonly message: string
  readonly hint: string
  /** For an unknown key: the known one that was probably meant. */
  readonly meant?: string
  readonly missing?: boolean
}

/** More are not looked at: nobody reads them, a file of 1 MiB can have a hundred thousand, and finding the place of each takes its time. */
const maxExplained = 1000

/** Given to zod, so that an issue's message is empty unless the schema has words of its own. */
export const noMessage = (): string => ''

const kinds: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'a map',
  record: 'a map',
  array: 'a list',
}

function kindOf(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a map'
  if (Number.isNaN(value)) return 'not a number (.nan)'
  if (value === Number.POSITIVE_INFINITY || value === Number.NEGATIVE_INFINITY) return `infinite (${value > 0 ? '' : '-'}.inf)` // JSON has no word for them
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 60)}...` : text
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((part, step) => {
    const known = typeof part === 'object' && part !== null && Object.hasOwn(part, step)
    return known ? (part as Record<PropertyKey, unknown>)[step] : undefined
  }, value)
}

const asPath = (path: readonly PropertyKey[]): Path => path.map((step) => (typeof step === 'number' ? step : String(step)))

/** "8080" for 8080: what annotations and labels need. */
const quoted = (value: unknown) => `Write it in quotes: "${String(value)}".`

export class Explainer {
  private readonly value: unknown
  private readonly schema: JsonSchema

  /** `value`: what was validated. */
  constructor(value: unknown, schema: JsonSchema) {
    this.value = value
    this.schema = schema
  }

  explainAll(issues: readonly ZodIssue[]): Finding[] {
    const findings = issues
      .slice(0, maxExplained)
      .flatMap((issue) => this.explain(issue))
      .slice(0, maxExplained)
    // A misspelt key is one mistake, not an unknown key and a missing one.
    const misspelt = new Set(findings.map(({ path, meant }) => meant && JSON.stringify([...path.slice(0, -1), meant])))
    return findings.filter(({ path, missing }) => !missing || !misspelt.has(JSON.stringify(path)))
  }

  private explain(issue: ZodIssue, parent: readonly PropertyKey[] = []): Finding[] {
    const path = asPath([...parent, ...issue.path])
    const input = valueAt(this.value, path)
    if (issue.code === 'unrecognized_keys') return issue.keys.slice(0, maxExplained).map((key) => this.unknownKey(path, key))
    if (issue.code === 'invalid_key') return this.badKey(path, issue)
    if (input === undefined && issue.message === '') return [this.missing(path)]
    if (issue.code === 'invalid_union') return this.union(path, issue, input)
    const message = issue.message || this.wrong(issue, input)
    return [{ path, part: 'value', message, hint: this.wayOut(issue, path, input) }]
  }

  private unknownKey(parent: Path, key: string): Finding {
    const known = knownKeys(this.schema, parent)
    const [best] = nearest(key, known)
    const meant = best === undefined ? '' : `Did you mean "${best}"? `
    const hint = known.length === 0 ? 'Remove it.' : `${meant}The keys here are ${listed(known, 'and')}.`
    return { path: [...parent, key], part: 'key', message: `unknown key "${key}"`, hint, ...(best === undefined ? {} : { meant: best }) }
  }

  private badKey(path: Path, issue: z.core.$ZodIssueInvalidKey): Finding[] {
    const reason = issue.issues.map((inner) => inner.message || this.wrong(inner, path.at(-1))).join('; ')
    return [{ path, part: 'key', message: `the key ${reason}`, hint: 'Shorten or correct the key.' }]
  }

  private missing(path: Path): Finding {
    const key = String(path.at(-1))
    const example = this.example(path)
    return { path, part: 'value', message: `the key "${key}" is missing`, hint: `Add "${key}: ${example}".${this.meaning(path)}`, missing: true }
  }

  private example(path: Path): string {
    const [first] = schemasAt(this.schema, path)
    return first?.const !== undefined ? String(first.const) : first?.enum !== undefined ? String(first.enum[0]) : '...'
  }

  /** The alternative that the author seems to have meant: the one whose outer type fits; best of all one that looks further inside. */
  private union(path: Path, issue: z.core.$ZodIssueInvalidUnion, input: unknown): Finding[] {
    const outside = (codes: readonly string[]) => (errors: readonly ZodIssue[]) =>
      errors.some(({ path: at, code }) => at.length === 0 && codes.includes(code))
    const fitting = issue.errors.filter((errors) => !outside(['invalid_type'])(errors))
    const meant = fitting.find((errors) => !outside(['invalid_value'])(errors)) ?? fitting[0]
    if (meant !== undefined) return meant.flatMap((error) => this.explain(error, path))
    const wanted = issue.errors.flatMap((errors) =>
      errors.flatMap((error) => (error.code === 'invalid_type' ? [kinds[error.expected] ?? error.expected] : [])),
    )
    const message = issue.message || `must be ${listed([...new Set(wanted)])}, but is ${kindOf(input)}`
    return [{ path, part: 'value', message, hint: this.wayOut(issue, path, input) }]
  }

  private wrong(issue: ZodIssue, input: unknown): string {
    switch (issue.code) {
      case 'invalid_type':
        return `must be ${kinds[issue.expected] ?? issue.expected}, but is ${kindOf(input)}`
      case 'invalid_value':
        return `must be ${listed(issue.values.map(String))}, but is ${kindOf(input)}`
      case 'too_big':
        return `must ${bound(issue.origin, 'at most', issue.maximum)}${ifNumber(input)}`
      case 'too_small':
        return `must ${bound(issue.origin, 'at least', issue.minimum)}${ifNumber(input)}`
      default:
        return `is not valid: ${kindOf(input)}`
    }
  }

  private wayOut(issue: ZodIssue, path: Path, input: unknown): string {
    if (issue.code === 'custom' && typeof issue.params?.hint === 'string') return issue.params.hint
    if (input === null) return `Give it a value, or remove the key to get the default.${this.meaning(path)}`
    if (issue.code === 'invalid_type') return this.retype(issue.expected, path, input)
    if (issue.code === 'invalid_value') {
      const same = issue.values.find((value) => typeof value !== 'string' && String(value) === input)
      if (same !== undefined) return `Write it without quotes: ${String(same)}.`
      const [best] = typeof input === 'string' ? nearest(input, issue.values.map(String)) : []
      if (best !== undefined) return `Did you mean "${best}"?`
      if (issue.values.length === 1 && !this.hasAlternatives(path)) return `Write "${String(path.at(-1))}: ${String(issue.values[0])}".`
    }
    return `Correct the value.${this.meaning(path)}`
  }

  /** Something is there, but of another kind. */
  private retype(expected: string, path: Path, input: unknown): string {
    if (expected === 'string' && typeof input !== 'object') return quoted(input)
    const keys = knownKeys(this.schema, path)
    if ((expected === 'object' || expected === 'record') && typeof input === 'string' && keys.length > 0) {
      const glued = /^([\w.-]+):(\S+)$/.exec(input)
      if (glued !== null) return `A space is missing after the colon: "${glued[1]}: ${glued[2]}".`
      return `Write a map: its keys are ${listed(keys, 'and')}.`
    }
    if (expected === 'array') return `Write a list: each element begins with "- ".${this.meaning(path)}`
    return `Correct the value.${this.meaning(path)}`
  }

  /** The place takes other kinds of values, too. */
  private hasAlternatives(path: Path): boolean {
    return schemasAt(this.schema, path).length > 1
  }

  /** What the schema says about the key, with its range and default. */
  private meaning(path: Path): string {
    const [first, ...others] = schemasAt(this.schema, path)
    const { description } = first ?? {}
    const { minimum, maximum } = [first, ...others].find((schema) => schema?.maximum !== undefined) ?? {}
    const range = minimum === undefined || maximum === undefined ? '' : ` From ${minimum} to ${maximum}.`
    const fallback = typeof first?.default === 'object' || first?.default === undefined ? '' : ` The default is ${String(first.default)}.`
    const about = description === undefined ? '' : ` ${String(path.at(-1))}: ${description.replace(/\.?$/, '.')}`
    return `${about}${range}${fallback}`
  }
}

function bound(origin: string, side: string, limit: number | bigint): string {
  if (origin === 'string') return `have ${side} ${limit} characters`
  const plural = Number(limit) === 1 ? '' : 's'
  if (origin === 'array' || origin === 'set') return `have ${side} ${limit} element${plural}`
  if (origin === 'object' || origin === 'record' || origin === 'map') return `have ${side} ${limit} key${plural}`
  return `be ${side} ${limit}`
}

const ifNumber = (input: unknown) => (typeof input === 'number' ? `, but is ${input}` : '')
