/** JSON Schema 2020-12 of the config, and questions to it: which keys are known here, what does this one mean. */
import { z } from 'zod'
import type { PluginSource } from '../plugins.ts'
import type { Path } from './document.ts'
import { configSchema } from './schema.ts'

/** The parts of JSON Schema that zod writes for our schemas. */
export interface JsonSchema {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: JsonSchema | boolean
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly maxItems?: number
  readonly pattern?: string
}

const convert = (schema: z.ZodType): JsonSchema => z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema

/** The options of every mesh are a map of anything. */
export const configJsonSchema = (names: readonly string[]): JsonSchema => convert(configSchema(names))

/** What can be said of a plugin's options as JSON Schema; empty where nothing can. */
export function optionsJsonSchema(options: z.ZodType): JsonSchema {
  try {
    return convert(options)
  } catch {
    return {} // a plugin of somebody else's may use what JSON Schema has no words for
  }
}

/** `options` depends on `mesh`. */
const conditions = (plugins: PluginSource['builtIn']) =>
  Object.entries(plugins).map(([mesh, { options }]) => {
    const { $schema: _, ...own } = optionsJsonSchema(options) as JsonSchema & { readonly $schema?: string }
    return { if: { properties: { mesh: { const: mesh } }, required: ['mesh'] }, then: { properties: { options: own } } }
  })

/** The options of a mesh that this build does not have may be anything; said in full, editors would offer "property" as a key. */
function withOpenOptions(properties: JsonSchema['properties'] = {}): JsonSchema['properties'] {
  const { description = '' } = properties.options ?? {}
  return { ...properties, options: { type: 'object', description, default: {} } }
}

/** As an editor wants it. */
export function jsonSchema(plugins: PluginSource['builtIn']): object {
  const { $schema, ...rest } = configJsonSchema(Object.keys(plugins)) as JsonSchema & { readonly $schema?: string }
  const allOf = conditions(plugins)
  const { meshes } = rest.properties ?? {}
  const items = { ...meshes?.items, properties: withOpenOptions(meshes?.items?.properties), allOf }
  const properties = { ...withOpenOptions(rest.properties), meshes: { ...meshes, items } }
  const oneOf = [{ required: ['mesh'] }, { required: ['meshes'] }]
  return { $schema, title: 'merbridge config', ...rest, properties, oneOf, allOf }
}

/** Every schema that applies at the path. */
export function schemasAt(root: JsonSchema, path: Path): JsonSchema[] {
  let here = alternatives(root)
  for (const step of path) here = here.flatMap((schema) => stepInto(schema, step)).flatMap(alternatives)
  return here
}

const alternatives = (schema: JsonSchema): JsonSchema[] => [schema, ...(schema.anyOf ?? []).flatMap(alternatives)]

function stepInto(schema: JsonSchema, step: string | number): JsonSchema[] {
  if (typeof step === 'number') return schema.items === undefined ? [] : [schema.items]
  const properties = schema.properties ?? {}
  const property = Object.hasOwn(properties, step) ? properties[step] : schema.additionalProperties
  return typeof property === 'object' ? [property] : []
}

export const knownKeys = (root: JsonSchema, path: Path): string[] => schemasAt(root, path).flatMap((schema) => Object.keys(schema.properties ?? {}))
