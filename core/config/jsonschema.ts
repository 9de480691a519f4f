/** JSON Schema 2020-12 of the config, and questions to it: which keys are known here, what does this one mean. */
import { z } from 'zod'
import type { Path } from './document.ts'
import { configSchema, type MeshOptions } from './schema.ts'

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

/** As one mesh's users see it. */
export const meshJsonSchema = (meshes: readonly string[], options: z.ZodType | undefined): JsonSchema => convert(configSchema(meshes, options))

/** As an editor wants it: `options` depends on `mesh`. */
export function jsonSchema(plugins: MeshOptions): object {
  const meshes = Object.keys(plugins)
  const allOf = Object.entries(plugins).map(([mesh, plugin]) => {
    const { options } = meshJsonSchema(meshes, plugin.options).properties ?? {}
    return { if: { properties: { mesh: { const: mesh } } }, then: { properties: { options } } }
  })
  const { $schema, ...rest } = meshJsonSchema(meshes, undefined) as JsonSchema & { readonly $schema?: string }
  return { $schema, title: 'merbridge config', ...rest, allOf }
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
