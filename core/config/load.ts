/** A file or a text -> a valid Config with its plugins, or a MerbridgeError that says everything that is wrong with it. */
import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import type { PluginSource } from '../plugins.ts'
import type { Mesh } from '../select.ts'
import { type ConfigWarning, consistency, idleMatches, impossibleMatches, kubernetesObject } from './checks.ts'
import { type ParsedDocument, type Path, type Problem, readDocument } from './document.ts'
import { Explainer, type Finding, noMessage } from './explain.ts'
import { configJsonSchema } from './jsonschema.ts'
import { invalidConfig, pathText } from './report.ts'
import { fieldsOf, resolveMeshes } from './resolve.ts'
import { asConfig, type Config, configSchema } from './schema.ts'
import { readSource } from './source.ts'

/** A configuration with the plugins that it names. */
export interface AgentConfig {
  readonly config: Config
  /** In the order of `config.meshes`. */
  readonly meshes: readonly Mesh[]
  readonly warnings: readonly ConfigWarning[]
}

export interface Loaded extends AgentConfig {
  readonly text: string
  /** Of the text, hexadecimal. */
  readonly sha256: string
  /** Absolute. */
  readonly path: string
}

export const digest = (text: string): string => createHash('sha256').update(text).digest('hex')

/** What a file says, to compare: the digest of its text, or why it cannot be read. */
export type Content = string

/** Throws CONFIG_UNREADABLE or CONFIG_INVALID. `onRead` gets what the file says before anything is made of it. */
export async function loadConfig(path: string, source: PluginSource, onRead: (content: Content) => void = () => {}): Promise<Loaded> {
  const absolute = resolve(path)
  const text = await readSource(absolute).catch((error: Error) => {
    onRead(error.message)
    throw error
  })
  const sha256 = digest(text)
  onRead(sha256)
  return { ...(await parseConfig(text, absolute, source)), text, sha256, path: absolute }
}

/** `file` is what messages call the text. Throws CONFIG_INVALID. Plugins are loaded anew each time. */
export async function parseConfig(text: string, file: string, source: PluginSource): Promise<AgentConfig> {
  const document = readDocument(text)
  const problems: Problem[] = [...document.problems]
  const report = (findings: readonly Finding[]) => {
    for (const { path, part, message, hint } of findings) problems.push({ span: document.locate(path, part), path, message, hint })
  }
  if (document.value === undefined) throw invalidConfig(file, text, problems)
  const object = kubernetesObject(document.value)
  if (object !== undefined) throw invalidConfig(file, text, [{ ...object, span: document.locate(object.path, object.part) }])
  const lineAt = (path: Path) => document.position(document.locate(path, 'key').start).line
  const { config, findings } = check(document.value, Object.keys(source.builtIn))
  const resolved = await resolveMeshes(document.value, source)
  report([...findings, ...resolved.findings, ...consistency(document.value, lineAt)])
  if (config !== undefined && problems.length === 0) report(impossibleMatches(config, lineAt))
  if (config === undefined || problems.length > 0) throw invalidConfig(file, text, problems)
  const meshes = config.meshes.flatMap(({ match }, index): Mesh[] => {
    const mesh = resolved.meshes[index]
    return mesh === undefined ? [] : [{ ...mesh, entry: entryName(document.value, index), ...(match === undefined ? {} : { match }) }]
  })
  return { config, meshes, warnings: warningsOf(config, document) }
}

const entryName = (value: unknown, index: number): string => ('meshes' in fieldsOf(value) ? `meshes[${index}]` : 'mesh')

function warningsOf(config: Config, document: ParsedDocument): ConfigWarning[] {
  return idleMatches(config).map(({ path, message, hint }) => {
    const { start } = document.locate(path, 'key')
    return { ...document.position(start), path: pathText(path), message, hint }
  })
}

function check(value: unknown, names: readonly string[]): { readonly config?: Config; readonly findings: readonly Finding[] } {
  const result = configSchema(names).safeParse(value, { error: noMessage, reportInput: false })
  if (result.success) return { config: asConfig(result.data), findings: [] }
  return { findings: new Explainer(value, configJsonSchema(names)).explainAll(result.error.issues) }
}
