/** The meshes that a config names -> their plugins, and what each plugin's own schema says of its options. */
import { z } from 'zod'
import { MerbridgeError } from '../errors.ts'
import type { AnyPlugin, MeshReference } from '../plugin.ts'
import type { PluginSource } from '../plugins.ts'
import type { Path } from './document.ts'
import { Explainer, type Finding, noMessage } from './explain.ts'
import { optionsJsonSchema } from './jsonschema.ts'
import { meshReference } from './meshes.ts'
import { deepFreeze } from './schema.ts'

/** A map of the config, or nothing where something else stands. */
export const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}

/** An entry as the file has it, valid or not. */
interface RawEntry {
  readonly path: Path
  readonly fields: Readonly<Record<string, unknown>>
}

export function rawEntries(value: unknown): RawEntry[] {
  const fields = fieldsOf(value)
  if (!('meshes' in fields)) return 'mesh' in fields ? [{ path: [], fields }] : []
  const list = Array.isArray(fields.meshes) ? fields.meshes : []
  return list.map((item, index) => ({ path: ['meshes', index], fields: fieldsOf(item) }))
}

export interface ResolvedMesh {
  readonly plugin: AnyPlugin
  readonly options: unknown
}

export interface Resolved {
  /** One for each entry; undefined: see the findings. */
  readonly meshes: readonly (ResolvedMesh | undefined)[]
  readonly findings: readonly Finding[]
}

const isMap = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** What is wrong with the options, at their place; or what the plugin's schema made of them. */
function checkOptions(plugin: AnyPlugin, options: unknown, at: Path): { readonly options: unknown } | { readonly findings: readonly Finding[] } {
  try {
    const result = plugin.options.safeParse(options, { error: noMessage, reportInput: false })
    if (result.success) return { options: deepFreeze(result.data) }
    const findings = new Explainer(options, optionsJsonSchema(plugin.options)).explainAll(result.error.issues)
    return { findings: findings.map((finding) => ({ ...finding, path: [...at, ...finding.path] })) }
  } catch (error) {
    if (error instanceof MerbridgeError) return { findings: [{ path: at, part: 'value', message: error.message, hint: error.hint }] }
    const message = `the plugin ${plugin.name} fails on these options: ${error instanceof Error ? error.message : String(error)}`
    return { findings: [{ path: at, part: 'value', message, hint: "Correct the schema of the plugin's options, or the options." }] }
  }
}

/** The part of the reference that the loader's errors are about. */
const placeOf = (reference: MeshReference, path: Path): Path =>
  typeof reference === 'string' ? [...path, 'mesh'] : [...path, 'mesh', 'path' in reference ? 'path' : 'package']

async function loadOnce(
  source: PluginSource,
  reference: MeshReference,
  loaded: Map<string, AnyPlugin | MerbridgeError>,
): Promise<AnyPlugin | MerbridgeError> {
  const name = JSON.stringify(reference)
  const known = loaded.get(name)
  if (known !== undefined) return known
  const plugin = await source.load(reference).catch((error: unknown) => {
    if (error instanceof MerbridgeError) return error
    throw error
  })
  loaded.set(name, plugin)
  return plugin
}

/** Works on what the file says, whether or not the rest of it is valid. References that are not valid are left to the config's schema. */
export async function resolveMeshes(value: unknown, source: PluginSource): Promise<Resolved> {
  const names = meshReference(Object.keys(source.builtIn))
  const loaded = new Map<string, AnyPlugin | MerbridgeError>()
  const meshes: (ResolvedMesh | undefined)[] = []
  const findings: Finding[] = []
  for (const { path, fields } of rawEntries(value)) {
    const reference = names.safeParse(fields.mesh)
    const plugin = reference.success ? await loadOnce(source, reference.data as MeshReference, loaded) : undefined
    if (plugin instanceof MerbridgeError) {
      findings.push({ path: placeOf(reference.data as MeshReference, path), part: 'value', message: plugin.message, hint: plugin.hint })
    }
    const options = 'options' in fields ? fields.options : {}
    const checked =
      plugin === undefined || plugin instanceof MerbridgeError || !isMap(options) ? undefined : checkOptions(plugin, options, [...path, 'options'])
    if (checked !== undefined && 'findings' in checked) findings.push(...checked.findings)
    const usable = checked !== undefined && 'options' in checked && plugin !== undefined && !(plugin instanceof MerbridgeError)
    meshes.push(usable ? { plugin, options: checked.options } : undefined)
  }
  return { meshes, findings }
}

/** For commands that need the config's places alone: no plugin of somebody else's is read, and its options are anything. */
export function withoutLoading(builtIn: PluginSource['builtIn']): PluginSource {
  const unread: AnyPlugin = { api: 1, name: 'plugin', options: z.unknown(), selects: () => false, describe: () => ({ cannot: 'it is not loaded' }) }
  return { builtIn, load: async (reference) => (typeof reference === 'string' ? (builtIn[reference] ?? unread) : unread) }
}
