import { compilePolicy } from '../compile/policy.ts'
import { type AgentConfig, loadConfig, parseConfig } from '../config/load.ts'
import { printable } from '../config/printable.ts'
import { maxConfigBytes } from '../config/source.ts'
import { errorView } from '../control/api.ts'
import { describe } from '../describe.ts'
import { MerbridgeError } from '../errors.ts'
import type { PluginSource } from '../plugins.ts'
import { podTitle } from '../pods/static.ts'
import { chooseMesh, meshTitle } from '../select.ts'
import { exitCodeOf, type Outcome, type Output, render } from './outcome.ts'
import { count } from './table.ts'

async function readAll(stdin: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stdin) {
    bytes += chunk.length
    if (bytes > maxConfigBytes) {
      throw new MerbridgeError('CONFIG_UNREADABLE', `standard input has more than ${maxConfigBytes} bytes (1 MiB)`, 'Send a config file.')
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
    .toString('utf8')
    .replace(/^\uFEFF/, '')
}

/** Either about a pod, or about a place of the config. */
interface Note {
  readonly pod?: string
  readonly line?: number
  readonly column?: number
  readonly path?: string
  readonly message: string
  readonly hint?: string
}

/** What the meshes say of a listed pod: what they ignore, what they cannot intercept. Throws PLUGIN_FAILED and COMPILE_FAILED. */
function messagesOn(meshes: AgentConfig['meshes'], pod: AgentConfig['config']['pods'][number]): string[] {
  const facts = { ...pod, addresses: [] }
  const selection = chooseMesh(meshes, facts)
  if ('untaken' in selection) return [`is not intercepted: ${selection.untaken}`]
  const { mesh, also, warnings } = selection
  const described = describe(mesh.plugin, facts, mesh.options)
  if ('interception' in described) compilePolicy(described.interception, podTitle(pod))
  return [
    ...('cannot' in described ? [`cannot be intercepted: ${described.cannot}`] : []),
    ...('refused' in described ? [`is refused by the mesh: ${described.refused}`] : []),
    ...(also.length === 0 ? [] : [`is taken by ${meshTitle(mesh)}; ${also.join(', ')} would take it, too`]),
    ...warnings,
    ...described.warnings,
  ]
}

function notesOn({ config, meshes, warnings }: AgentConfig): Note[] {
  const ofPods = config.pods.flatMap((pod) => messagesOn(meshes, pod).map((message) => ({ pod: podTitle(pod), message })))
  return [...warnings, ...ofPods]
}

/** `file`: an absolute path, or '-'. */
export async function readConfig(file: string, stdin: () => AsyncIterable<Buffer>, plugins: PluginSource): Promise<AgentConfig> {
  return file === '-' ? parseConfig(await readAll(stdin()), '<stdin>', plugins) : loadConfig(file, plugins)
}

async function check(file: string, stdin: () => AsyncIterable<Buffer>, plugins: PluginSource) {
  const loaded = await readConfig(file, stdin, plugins)
  return { ...loaded, notes: notesOn(loaded) }
}

function noteText({ pod, line, column, path, message, hint }: Note, file: string): string {
  if (pod !== undefined) return `warning: ${printable(pod)}: ${printable(message)}`
  return `warning: ${printable(file)}:${line}:${column}: ${path}: ${printable(message)}\n  ${hint}`
}

/** `file`: an absolute path, or '-'. For programs the verdict is the answer, so it goes to stdout either way. */
export async function validate(file: string, stdin: () => AsyncIterable<Buffer>, plugins: PluginSource, output: Output): Promise<Outcome> {
  try {
    const { config, meshes, notes } = await check(file, stdin, plugins)
    const names = meshes.map(({ plugin }) => plugin.name)
    const view = { ok: true, file, meshes: names, pods: config.pods.length, warnings: notes }
    const lines = [
      `ok: ${names.length === 1 ? 'mesh' : 'meshes'} ${names.join(', ')}, ${count(config.pods.length, 'pod')} listed`,
      ...notes.map((note) => noteText(note, file === '-' ? '<stdin>' : file)),
    ]
    return { code: 0, stdout: render(view, output, () => `${lines.join('\n')}\n`) }
  } catch (error) {
    if (output === 'text' || !(error instanceof MerbridgeError)) throw error
    return { code: exitCodeOf(error), stdout: render({ ok: false, file, ...errorView(error) }, output, String) }
  }
}
