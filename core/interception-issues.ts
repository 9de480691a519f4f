/** What does not fit the shape of an interception, in words for the plugin's author: where, what was expected, what was got, and which name was probably meant. */
import type { z } from 'zod'
import { ruleTitle } from './compile/rules.ts'
import { listed, nearest } from './config/nearest.ts'

type ZodIssue = z.core.$ZodIssue

const matchKeys = ['proto', 'family', 'port', 'to', 'from']

/** The keys that each part of an interception has, by the path to it; '*' stands for any name or number. */
const keysAt: readonly (readonly [path: string, keys: readonly string[]])[] = [
  ['', ['sets', 'targets', 'outbound', 'inbound', 'proxy', 'loopbackAddresses']],
  ['sets.*', ['ports', 'cidrs', 'uid', 'gid', 'mark', 'cgroup', 'interfaces']],
  ['sets.*.mark.*', ['value', 'mask']],
  ['targets.*', ['port', 'ipv4', 'ipv6']],
  ...['outbound', 'inbound'].flatMap((direction) => [
    [`${direction}.*`, ['name', 'when', 'unless', 'then']] as const,
    [`${direction}.*.when`, matchKeys] as const,
    [`${direction}.*.unless`, matchKeys] as const,
  ]),
  ['proxy', ['uid', 'gid', 'mark']],
]

const kinds: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  bigint: 'a bigint such as 42n',
  object: 'an object',
  record: 'an object',
  array: 'a list',
}

const maxShown = 60

/** A value as a message shows it. */
export function shownValue(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'bigint') return `${value}n`
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value === 'string') return value.length > maxShown ? `'${value.slice(0, maxShown)}...'` : `'${value}'`
  return String(value)
}

/** "; did you mean 'proxy'?" */
export function meantBy(word: string, known: readonly string[]): string {
  const [best] = nearest(word, known)
  return best === undefined ? '' : `; did you mean '${best}'?`
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((part, step) => (typeof part === 'object' && part !== null ? Reflect.get(part, step) : undefined), value)
}

const pathText = (path: readonly PropertyKey[]) =>
  path.reduce<string>((text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? String(step) : `${text}.${String(step)}`), '')

/** "outbound rule 3 'x', when.port", "set 'web', ports[0]" */
function placeOf(path: readonly PropertyKey[], value: unknown): string {
  const [first, second, ...rest] = path
  if (second === undefined) return pathText(path)
  const field = rest.length === 0 ? '' : `, ${pathText(rest)}`
  if (first === 'sets' || first === 'targets') return `${first === 'sets' ? 'set' : 'target'} '${String(second)}'${field}`
  if ((first !== 'outbound' && first !== 'inbound') || typeof second !== 'number') return pathText(path)
  const name = valueAt(value, [first, second, 'name'])
  return `${ruleTitle(first, second, typeof name === 'string' ? name.slice(0, maxShown) : '')}${field}`
}

function keysOf(path: readonly PropertyKey[]): readonly string[] {
  const fits = (pattern: string) => {
    const steps = pattern === '' ? [] : pattern.split('.')
    return steps.length === path.length && steps.every((step, index) => step === '*' || step === path[index])
  }
  return keysAt.find(([pattern]) => fits(pattern))?.[1] ?? []
}

function bounds(issue: ZodIssue): string {
  if (issue.code === 'too_small') return `expected ${issue.origin === 'array' ? 'elements' : `at least ${issue.minimum}`}`
  return issue.code === 'too_big' ? `expected at most ${issue.maximum}` : 'not valid'
}

/** What was expected and what was got; empty: the schema's own words say it. */
function expectation(issue: ZodIssue, got: unknown): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${kinds[issue.expected] ?? issue.expected}, got ${shownValue(got)}`
    case 'invalid_value': {
      const values = issue.values.map(String)
      return `expected ${listed(values.map((each) => `'${each}'`))}, got ${shownValue(got)}${typeof got === 'string' ? meantBy(got, values) : ''}`
    }
    default:
      return `${bounds(issue)}, got ${shownValue(got)}`
  }
}

function textOf(issue: ZodIssue, value: unknown): string[] {
  const { path } = issue
  const place = path.length === 0 ? '' : `${placeOf(path, value)}: `
  if (issue.code === 'unrecognized_keys') {
    const known = keysOf(path)
    return issue.keys.map((key) => `${place}unknown key '${key}'${meantBy(key, known)} (keys: ${known.join(', ')})`)
  }
  const got = valueAt(value, path)
  if (path.length === 0) return [`describe returned ${shownValue(got)}; expected rules: { outbound: [...], inbound: [...] }, or kit.cannot(reason)`]
  if (path.length === 1 && (path[0] === 'outbound' || path[0] === 'inbound') && got === undefined) {
    return [`${place}the list is missing; a direction without rules is an empty list`]
  }
  return [place + (issue.message || expectation(issue, got))]
}

/** Nobody reads more. */
const maxProblems = 10

/** The first ones, and how many more there are. */
export function firstOf(problems: readonly string[]): readonly string[] {
  return problems.length <= maxProblems ? problems : [...problems.slice(0, maxProblems), `and ${problems.length - maxProblems} more`]
}

/** `issues` of a schema that was asked with empty messages (`error: () => ''`), so that only words of its own are there. */
export function shapeProblems(issues: readonly ZodIssue[], value: unknown): string[] {
  return issues.slice(0, 1000).flatMap((issue) => textOf(issue, value))
}
