/** The files of the repository as git sees them: tracked ones and new ones that are not ignored. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export const root = join(import.meta.dirname, '../..')

/** Paths relative to the root. */
export function repositoryFiles(): string[] {
  const list = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const output = execFileSync('git', ['-c', `safe.directory=${root}`, ...list], { cwd: root, encoding: 'utf8' })
  const files = output.split('\0').filter((path) => path !== '' && existsSync(join(root, path)))
  if (files.length < 50) throw new Error(`git lists only ${files.length} files`) // a check over nothing would always pass
  return files
}

export const textOf = (path: string): string => readFileSync(join(root, path), 'utf8')
