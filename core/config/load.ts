/** A file or a text -> a valid Config, or a MerbridgeError that says everything that is wrong with it. */
import { createHash } from 'node:crypto'
import { posix, resolve } from 'node:path'
import { type Path, type Problem, readDocument } from './document.ts'
import { Explainer, noMessage } from './explain.ts'
import { meshJsonSchema } from './jsonschema.ts'
import { invalidConfig } from './report.ts'
import { asConfig, type Config, configSchema, type MeshOptions } from './schema.ts'
import { readSource } from './source.ts'

export interface Loaded {
  readonly config: Config
  readonly text: string
  /** Of the text, hexadecimal. */
  readonly sha256: string
  /** Absolute. */
  readonly path: string
}

export const digest = (text: string): string => createHash('sha256').update(text).digest('hex')

/** Throws CONFIG_UNREADABLE or CONFIG_INVALID. `plugins`: the registry of core/plugins.ts. */
export async function loadConfig(path: string, plugins: MeshOptions): Promise<Loaded> {
  const absolute = resolve(path)
  const text = await readSource(absolute)
  return { config: parseConfig(text, absolute, plugins), text, sha256: digest(text), path: absolute }
}

/** `file` is what messages call the text. Throws CONFIG_INVALID. */
export function parseConfig(text: string, file: string, plugins: MeshOptions): Config {
  const document = readDocument(text)
  const problems: Problem[] = [...document.problems]
  if (document.value !== undefined) {
    const checked = check(document.value, plugins)
    for (const { path, part, message, hint } of [
      ...checked.findings,
      ...twins(document.value, (at) => document.lineAt(document.locate(at, 'key').start)),
    ]) {
      problems.push({ span: document.locate(path, part), path, message, hint })
    }
    if (problems.length === 0 && checked.config !== undefined) return checked.config
  }
  throw invalidConfig(file, text, problems)
}

/** A map of the config, or nothing where something else stands. */
export const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}

function check(value: unknown, plugins: MeshOptions) {
  const meshes = Object.keys(plugins)
  const { mesh } = fieldsOf(value)
  const options = typeof mesh === 'string' && Object.hasOwn(plugins, mesh) ? plugins[mesh]?.options : undefined
  const result = configSchema(meshes, options).safeParse(value, { error: noMessage, reportInput: false })
  if (result.success) return { config: asConfig(result.data), findings: [] }
  const explainer = new Explainer(value, meshJsonSchema(meshes, options))
  return { config: undefined, findings: explainer.explainAll(result.error.issues) }
}

function nameOf(pod: Readonly<Record<string, unknown>>): string {
  const namespace = typeof pod.namespace === 'object' ? fieldsOf(pod.namespace).name : (pod.namespace ?? 'default')
  return `${String(namespace)}/${String(pod.name)}`
}

function netnsOf(pod: Readonly<Record<string, unknown>>): string | undefined {
  if (typeof pod.netns === 'string') return posix.normalize(pod.netns)
  return typeof pod.pid === 'number' ? `/proc/${pod.pid}/ns/net` : undefined
}

/** Two pods of one name, or in one network namespace. Works on what the file says, whether or not the rest of it is valid. */
function* twins(value: unknown, lineAt: (path: Path) => number) {
  const list = fieldsOf(fieldsOf(value).workloads).static
  const seen = new Map<string, Path>()
  for (const [index, item] of (Array.isArray(list) ? list : []).entries()) {
    const pod = fieldsOf(item)
    const netns = netnsOf(pod)
    const place: Path = ['workloads', 'static', index]
    const claims = [
      { what: `pod ${nameOf(pod)}`, path: [...place, 'name'], hint: 'Rename one of the two, or remove it.', made: typeof pod.name === 'string' },
      {
        what: `network namespace ${netns}`,
        path: [...place, 'netns' in pod ? 'netns' : 'pid'],
        hint: 'A network namespace is one pod.',
        made: netns !== undefined,
      },
    ]
    for (const { what, path, hint } of claims.filter(({ made }) => made)) {
      const first = seen.get(what)
      if (first === undefined) seen.set(what, path)
      else yield { path, part: 'value' as const, message: `the ${what} is listed twice, in lines ${lineAt(first)} and ${lineAt(path)}`, hint }
    }
  }
}
