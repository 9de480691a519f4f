/**
 * Reads a config file as text, and nothing but text. cosmiconfig would otherwise run `.config/config.mjs` of the working directory, follow
 * `$import` keys and parse by itself: it is confined here.
 */

import { constants } from 'node:fs'
import { type FileHandle, lstat, open } from 'node:fs/promises'
import { cosmiconfig } from 'cosmiconfig'
import { MerbridgeError } from '../errors.ts'
import { usingAsync } from '../scope.ts'

/** Bytes. A config with a thousand pods has about a tenth of this. */
export const maxConfigBytes = 1024 * 1024

type PublicExplorer = ReturnType<typeof cosmiconfig>

/** A loader that returns a string leaves cosmiconfig nothing to follow and nothing to run. */
const asText = (_path: string, text: string): string => text

let explorer: PublicExplorer | undefined

/** Making the explorer looks for settings of cosmiconfig in the working directory, and runs them: let that be the root directory. */
function confinedExplorer(): PublicExplorer {
  if (explorer !== undefined) return explorer
  const before = workingDirectory()
  process.chdir('/')
  try {
    explorer = cosmiconfig('merbridge', { cache: false, searchPlaces: [], searchStrategy: 'none', loaders: { noExt: asText } })
  } finally {
    if (before !== undefined) process.chdir(before)
  }
  return explorer
}

/** undefined: it was removed. */
function workingDirectory(): string | undefined {
  try {
    return process.cwd()
  } catch {
    return undefined
  }
}

const unreadable = (path: string, what: string, hint: string, cause?: unknown) =>
  new MerbridgeError('CONFIG_UNREADABLE', `${path}: ${what}`, hint, cause)

async function missing(path: string, cause: unknown): Promise<MerbridgeError> {
  const link = await lstat(path).catch(() => undefined)
  return link?.isSymbolicLink()
    ? unreadable(path, 'is a symbolic link to nothing', 'Correct the link, or name another file with --config.', cause)
    : unreadable(path, 'no such file', 'Create the file, or name another one with --config FILE.', cause)
}

async function openingFailed(path: string, cause: unknown): Promise<MerbridgeError> {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
  switch (code) {
    case 'ENOENT':
      return missing(path, cause)
    case 'ENOTDIR':
      return unreadable(path, 'a part of this path is not a directory', 'Correct the path after --config.', cause)
    case 'EACCES':
    case 'EPERM':
      return unreadable(path, 'permission denied', 'Run the command as root, or make the file readable for this user.', cause)
    case 'ELOOP':
      return unreadable(path, 'its symbolic links go round in a circle', 'Correct the links, or name another file with --config.', cause)
    case 'ENXIO':
      return unreadable(path, 'is a socket or a device, not a file', 'Name a regular file with --config FILE.', cause)
    default:
      return unreadable(path, `cannot be opened (${code || String(cause)})`, 'Correct the path after --config.', cause)
  }
}

/** Without O_NONBLOCK, opening a FIFO would wait for a writer for ever. */
async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch (error) {
    throw await openingFailed(path, error)
  }
}

const tooLarge = (path: string, bytes: number) =>
  unreadable(path, `has ${bytes} bytes; the limit is ${maxConfigBytes} (1 MiB)`, 'Name a config file, or shorten this one.')

/** The text of a regular file. Throws CONFIG_UNREADABLE; never waits for anybody. A byte order mark is removed. */
export async function readSource(path: string): Promise<string> {
  return usingAsync(await openFile(path), (file) => readOpen(path, file))
}

async function readOpen(path: string, file: FileHandle): Promise<string> {
  const stat = await file.stat()
  if (stat.isDirectory()) throw unreadable(path, 'is a directory', 'Name the file in it: --config DIRECTORY/config.yaml.')
  if (!stat.isFile()) throw unreadable(path, 'is not a regular file', 'Name a regular file with --config FILE.')
  if (stat.size > maxConfigBytes) throw tooLarge(path, stat.size)
  // Files under /proc have no size, and reading one may wait.
  if (stat.size === 0) return ''
  const text = await readChecked(path, file)
  if (Buffer.byteLength(text) > maxConfigBytes) throw tooLarge(path, Buffer.byteLength(text))
  return text
}

/** Through the descriptor that was checked, so that no other file can take its place; this name has no extension and is no "package". */
async function readChecked(path: string, file: FileHandle): Promise<string> {
  try {
    const result = await confinedExplorer().load(`/proc/self/fd/${file.fd}`)
    return typeof result?.config === 'string' ? result.config.replace(/^\uFEFF/, '') : ''
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw unreadable(path, `cannot be read: ${reason}`, 'Check the disk and that /proc is mounted.', error)
  }
}
