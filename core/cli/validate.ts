import { compilePolicy } from '../compile/policy.ts'
import { loadConfig, parseConfig } from '../config/load.ts'
import { printable } from '../config/printable.ts'
import type { Config } from '../config/schema.ts'
import { maxConfigBytes } from '../config/source.ts'
import { errorView } from '../control/api.ts'
import { describe } from '../describe.ts'
import { MerbridgeError } from '../errors.ts'
import type { AnyPlugin } from '../plugin.ts'
import { podTitle } from '../pods/static.ts'
import { exitCodeOf, type Outcome, type Output, render } from './outcome.ts'
import { count } from './table.ts'

type Plugins = Readonly<Record<string, AnyPlugin>>

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

interface Note {
  readonly pod: string
  readonly message: string
}

/** What the mesh's plugin says of the listed pods: what it ignores, what it cannot intercept. Throws PLUGIN_FAILED and COMPILE_FAILED. */
function notesOn(config: Config, plugins: Plugins): Note[] {
  const plugin = plugins[config.mesh]
  if (plugin === undefined) return []
  return config.pods.flatMap((pod) => {
    const described = describe(plugin, { ...pod, addresses: [] }, config.options)
    if ('interception' in described) compilePolicy(described.interception, podTitle(pod))
    const cannot = 'cannot' in described ? [`cannot be intercepted: ${described.cannot}`] : []
    return [...cannot, ...described.warnings].map((message) => ({ pod: podTitle(pod), message }))
  })
}

async function check(file: string, stdin: () => AsyncIterable<Buffer>, plugins: Plugins) {
  const config = file === '-' ? parseConfig(await readAll(stdin()), '<stdin>', plugins) : (await loadConfig(file, plugins)).config
  return { config, notes: notesOn(config, plugins) }
}

/** `file`: an absolute path, or '-'. For programs the verdict is the answer, so it goes to stdout either way. */
export async function validate(file: string, stdin: () => AsyncIterable<Buffer>, plugins: Plugins, output: Output): Promise<Outcome> {
  try {
    const { config, notes } = await check(file, stdin, plugins)
    const view = { ok: true, file, mesh: config.mesh, pods: config.pods.length, warnings: notes }
    const lines = [
      `ok: mesh ${config.mesh}, ${count(config.pods.length, 'pod')} listed`,
      ...notes.map(({ pod, message }) => `warning: ${printable(pod)}: ${printable(message)}`),
    ]
    return { code: 0, stdout: render(view, output, () => `${lines.join('\n')}\n`) }
  } catch (error) {
    if (output === 'text' || !(error instanceof MerbridgeError)) throw error
    return { code: exitCodeOf(error), stdout: render({ ok: false, file, ...errorView(error) }, output, String) }
  }
}
