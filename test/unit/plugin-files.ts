/** Plugins as files in an allowed directory, for tests of the loader. */
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { MerbridgeError } from '../../core/errors.ts'
import type { AnyPlugin } from '../../core/plugin.ts'
import { type PluginSource, pluginSource } from '../../core/plugins.ts'

/** A plugin around one function body; `more` replaces the other fields. */
export const pluginText = (describe = 'return { outbound: [], inbound: [] }', more = '') => `import type { Kit, Pod } from 'merbridge/plugin'

export default (kit: Kit) => kit.definePlugin({
  api: 1,
  name: 'acme',
  options: kit.z.strictObject({ port: kit.z.int().min(1).max(65535).default(9901).describe('the port') }),
  selects: (pod) => true,
  ${more}describe: (pod, options) => { ${describe} },
})
`

export class PluginDirectory implements Disposable {
  readonly path: string
  readonly source: PluginSource

  constructor() {
    this.path = realpathSync(mkdtempSync(join(tmpdir(), 'merbridge-plugins-')))
    chmodSync(this.path, 0o755)
    this.source = pluginSource([this.path])
  }

  write(name: string, text: string, mode = 0o644): string {
    const path = join(this.path, name)
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
    writeFileSync(path, text)
    chmodSync(path, mode)
    return path
  }

  load(text: string, name = 'acme.ts'): Promise<AnyPlugin> {
    return this.source.load({ path: this.write(name, text) })
  }

  /** What an operator reads, with the directory as an operator would have it. */
  async refusal(work: () => unknown): Promise<string> {
    try {
      await work()
    } catch (error) {
      const { code, message, hint } = error as MerbridgeError
      return `${code}: ${message}\n${hint}`.replaceAll(this.path, '/etc/merbridge/plugins')
    }
    throw new Error('nothing was refused')
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}
