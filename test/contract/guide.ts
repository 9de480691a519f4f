/** The files in docs/plugins.md, in a directory as the guide wants it. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../../core/root.ts'
import { textOf } from '../repo/files.ts'

export interface Guide extends Disposable {
  readonly directory: string
  /** The text of each file, by name. */
  readonly files: ReadonlyMap<string, string>
}

export function unpackGuide(): Guide {
  const blocks = textOf('docs/plugins.md').matchAll(/^```\w+ (\S+)\n(.*?)^```$/gms)
  const files = new Map([...blocks].map(([, name = '', text = '']) => [name, text]))
  const directory = mkdtempSync(join(tmpdir(), 'merbridge-guide-'))
  for (const [name, text] of files) writeFileSync(join(directory, name), text, { mode: 0o644 })
  mkdirSync(join(directory, 'node_modules'), { mode: 0o755 })
  symlinkSync(packageRoot(), join(directory, 'node_modules/merbridge'))
  writeFileSync(join(directory, 'package.json'), '{ "type": "module" }')
  return { directory, files, [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }) }
}
