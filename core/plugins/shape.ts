/** What a plugin's file exports, and what that returns: the shape that core/plugin.ts asks for. */
import { types } from 'node:util'
import { z } from 'zod'
import { nearest } from '../config/nearest.ts'
import type { AnyPlugin, Kit } from '../plugin.ts'
import { PluginProblem } from './script.ts'

const wanted = ['api', 'name', 'options', 'selects', 'describe'] as const
type Field = (typeof wanted)[number]

const pluginName = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

export function shown(value: unknown): string {
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object' && value !== null) return types.isPromise(value) ? 'a promise' : 'an object'
  const text = typeof value === 'bigint' ? `${value}n` : (JSON.stringify(value) ?? String(value))
  return text.length > 60 ? `${text.slice(0, 60)}...` : text
}

const isSchema = (value: unknown): value is z.ZodType =>
  value instanceof z.ZodType || (typeof value === 'object' && value !== null && '_zod' in value)

const checks: Readonly<Record<Field, { readonly expected: string; readonly holds: (value: unknown) => boolean }>> = {
  api: { expected: '1', holds: (value) => value === 1 },
  name: {
    expected: 'lower-case letters, digits and "-", at most 63 characters',
    holds: (value) => typeof value === 'string' && pluginName.test(value),
  },
  options: { expected: 'a schema such as kit.z.strictObject({})', holds: isSchema },
  selects: { expected: 'a function (pod) => true or false', holds: (value) => typeof value === 'function' },
  describe: { expected: 'a function (pod, options) => rules', holds: (value) => typeof value === 'function' },
}

function misspelt(made: object, field: Field): string {
  const others = Object.keys(made).filter((key) => !(wanted as readonly string[]).includes(key))
  const [best] = nearest(field, others)
  return best === undefined ? '' : `; did you mean ${field} where it says ${best}?`
}

/** Throws PluginProblem that names the field and what was expected. */
export function checkPlugin(made: unknown): AnyPlugin {
  if (types.isPromise(made)) throw new PluginProblem('the exported function must not be async: it returned a promise')
  if (typeof made !== 'object' || made === null) {
    throw new PluginProblem(`the exported function returned ${shown(made)}; expected kit.definePlugin({ api, name, options, selects, describe })`)
  }
  for (const field of wanted) {
    const value: unknown = Reflect.get(made, field)
    const { expected, holds } = checks[field]
    if (value === undefined) throw new PluginProblem(`${field} is missing; expected ${expected}${misspelt(made, field)}`)
    if (!holds(value)) throw new PluginProblem(`${field} is ${shown(value)}; expected ${expected}`)
  }
  return made as AnyPlugin
}

export function checkExport(exported: unknown): (kit: Kit) => unknown {
  const example = 'write "export default (kit: Kit) => kit.definePlugin({ ... })"'
  if (exported === undefined) throw new PluginProblem(`the file has no default export; ${example}`)
  if (typeof exported !== 'function') throw new PluginProblem(`the default export is ${shown(exported)}; expected a function: ${example}`)
  return exported as (kit: Kit) => unknown
}
