import { basename } from 'node:path'
import { loadConfig, parseConfig } from '../config/load.ts'
import type { Config, MeshOptions } from '../config/schema.ts'
import { maxConfigBytes } from '../config/source.ts'
import { MerbridgeError } from '../errors.ts'
import { type Outcome, type Output, render } from './outcome.ts'
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

/** `file`: an absolute path, or '-'. Throws what is wrong with it. */
export async function validate(file: string, stdin: () => AsyncIterable<Buffer>, plugins: MeshOptions, output: Output): Promise<Outcome> {
  const fromStdin = basename(file) === '-'
  const config: Config = fromStdin ? parseConfig(await readAll(stdin()), '<stdin>', plugins) : (await loadConfig(file, plugins)).config
  const view = { ok: true, file: fromStdin ? '-' : file, mesh: config.mesh, pods: config.pods.length }
  return { code: 0, stdout: render(view, output, () => `ok: mesh ${config.mesh}, ${count(config.pods.length, 'pod')} listed\n`) }
}
