/** What a plugin returned as plain data: nothing of it can run, refer to itself or be without end when somebody reads it later. */
import { types } from 'node:util'

/** Values of any kind in one answer. A set with every CIDR that the kernel's map has room for is a tenth of this. */
const maxValues = 500_000
const maxDepth = 32
/** Characters of all texts in one answer. */
const maxCharacters = 16 << 20

/** Says what was wrong, in words that follow "describe returned". */
export class NotPlain extends Error {}

interface Budget {
  values: number
  characters: number
}

const at = (path: string, what: string) => new NotPlain(path === '' ? what : `${what} at ${path}`)

const strange = (value: object): string | undefined => {
  if (types.isPromise(value)) return 'a promise'
  if (Array.isArray(value)) return undefined
  const tag = Object.prototype.toString.call(value).slice(8, -1)
  return tag === 'Object' ? undefined : `a ${tag}`
}

function copyOf(value: unknown, path: string, parents: readonly object[], budget: Budget): unknown {
  budget.values -= 1
  if (budget.values < 0) throw new NotPlain(`more than ${maxValues} values`)
  if (typeof value === 'string') budget.characters -= value.length
  if (budget.characters < 0) throw new NotPlain(`more than ${maxCharacters} characters of text`)
  if (typeof value === 'function' || typeof value === 'symbol') throw at(path, `a ${typeof value}`)
  if (typeof value !== 'object' || value === null) return value
  const kind = strange(value)
  if (kind !== undefined) throw at(path, kind)
  if (parents.includes(value)) throw at(path, 'an object that contains itself')
  if (parents.length === maxDepth) throw at(path, `objects in objects, more than ${maxDepth} deep`)
  const inside = [...parents, value]
  if (Array.isArray(value)) {
    if (value.length > budget.values) throw new NotPlain(`more than ${maxValues} values`)
    return Array.from({ length: value.length }, (_, index) => copyOf(value[index], `${path}[${index}]`, inside, budget))
  }
  const copy: Record<string, unknown> = {}
  for (const key of Object.keys(value)) {
    const part = copyOf((value as Record<string, unknown>)[key], path === '' ? key : `${path}.${key}`, inside, budget)
    if (part !== undefined) Object.defineProperty(copy, key, { value: part, enumerable: true, configurable: true, writable: true }) // also for "__proto__"
  }
  return copy
}

/** A copy without functions, getters and classes. Throws NotPlain; a getter or a proxy may throw anything, or never return. */
export const plain = (value: unknown): unknown => copyOf(value, '', [], { values: maxValues, characters: maxCharacters })

export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  for (const part of Object.values(value)) deepFreeze(part)
  return Object.freeze(value)
}
