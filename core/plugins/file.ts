/**
 * Reads a plugin's file. Its code decides what a root process does to pods, so it is taken only from directories that the operator named, and only when
 * nobody but root (or the user who runs this) could have written it. What is read is what was checked: one open file.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync, realpathSync, type Stats, statSync } from 'node:fs'
import { dirname, isAbsolute, normalize, sep } from 'node:path'
import { MerbridgeError } from '../errors.ts'

export const maxPluginBytes = 1 << 20

const denied = (message: string, hint: string) => new MerbridgeError('PLUGIN_DENIED', message, hint)
export const invalid = (message: string, hint: string) => new MerbridgeError('PLUGIN_INVALID', message, hint)

const inside = (path: string, directory: string) => path.startsWith(directory === sep ? sep : `${directory}${sep}`)

/** "/a/b" -> ["/", "/a"] */
function ancestors(path: string): string[] {
  const parent = dirname(path)
  return parent === path ? [] : [...ancestors(parent), parent]
}

const codeOf = (error: unknown): string => String((error as NodeJS.ErrnoException).code ?? error)

function realPath(path: string, what: string): string {
  try {
    return realpathSync(path)
  } catch (error) {
    const code = codeOf(error)
    const reason =
      code === 'ENOENT'
        ? 'no such file or directory'
        : code === 'EACCES'
          ? 'permission denied'
          : code === 'ELOOP'
            ? 'symbolic links in a circle'
            : code
    throw invalid(`${what} ${path}: ${reason}`, `Correct the path of the ${what}, or put it there.`)
  }
}

/** The user may be trusted with what this process does: root, or the one who runs it. */
const trusted = (uid: number) => uid === 0 || uid === process.geteuid?.()

/** Throws PLUGIN_DENIED when somebody else could change what is there. `shared`: a sticky directory is enough, as /tmp. */
function refuseWriters(path: string, stat: Stats, shared = false): void {
  if (!trusted(stat.uid))
    throw denied(
      `${path} belongs to uid ${stat.uid}; a plugin and its directories must belong to root`,
      `Check what it contains, then: chown root ${path}`,
    )
  const sticky = shared && (stat.mode & 0o1000) !== 0
  if ((stat.mode & 0o022) === 0 || sticky) return
  const who = (stat.mode & 0o002) !== 0 ? 'everybody' : `group ${stat.gid}`
  throw denied(
    `${path} can be written by ${who}; only root may write a plugin and its directories`,
    `Check what it contains, then: chmod go-w ${path}`,
  )
}

interface Allowed {
  readonly given: string
  readonly real: string
}

/** The allowed directory that the path is in, once all symbolic links are followed. */
function allowedFor(path: string, real: string, directories: readonly string[]): Allowed {
  if (directories.length === 0) throw denied(`${path}: no directory of plugins is allowed`, `Start the command with --plugin-dir ${dirname(path)}.`)
  const known = directories.map((given) => ({ given, real: realPath(given, 'plugin directory') }))
  const file = known.find((directory) => !statSync(directory.real).isDirectory())
  if (file !== undefined) throw denied(`${file.given} is not a directory`, `Name the directory of the plugin: --plugin-dir ${dirname(file.given)}`)
  const found = known.find((directory) => inside(real, directory.real))
  if (found !== undefined) return found
  const listed = directories.join(', ')
  if (real !== normalize(path))
    throw denied(
      `${path} is a symbolic link to ${real}, which is not in ${listed}`,
      `Copy the file to ${directories[0]}; links must not lead out of an allowed directory.`,
    )
  throw denied(
    `${path} is not in ${listed}, the directories of plugins that are allowed`,
    `Move the file to ${directories[0]}, or start the command with --plugin-dir ${dirname(path)}.`,
  )
}

function refuseWritable(real: string, { real: directory }: Allowed): void {
  for (const path of ancestors(directory)) refuseWriters(path, statSync(path), true)
  for (const path of ancestors(real).filter((each) => each === directory || inside(each, directory))) refuseWriters(path, statSync(path))
}

function readAll(file: number, path: string, size: number): string {
  const bytes = Buffer.alloc(size + 1)
  let length = 0
  for (let read = -1; read !== 0 && length < bytes.length; length += read) read = readSync(file, bytes, length, bytes.length - length, null)
  if (length !== size) throw invalid(`${path} changed while it was read`, 'Try again.')
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length))
  } catch {
    throw invalid(`${path} is not UTF-8 text`, 'Name a file with the source of a plugin.')
  }
}

/** Without O_NONBLOCK, opening a FIFO would wait for a writer for ever. */
const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY

function readChecked(real: string): string {
  if (!lstatSync(real).isFile()) throw invalid(`${real} is not a regular file`, 'Name the file of a plugin.')
  const file = openSync(real, flags)
  try {
    const stat = fstatSync(file)
    if (!stat.isFile() || readlinkSync(`/proc/self/fd/${file}`) !== real) throw invalid(`${real} changed while it was opened`, 'Try again.')
    refuseWriters(real, stat)
    if (stat.size > maxPluginBytes)
      throw invalid(`${real} has ${stat.size} bytes; at most ${maxPluginBytes} (1 MiB) are read`, 'Name the file of a plugin.')
    return readAll(file, real, stat.size)
  } finally {
    closeSync(file)
  }
}

export interface PluginFile {
  /** Where it really is. */
  readonly file: string
  readonly text: string
}

/** Throws PLUGIN_DENIED or PLUGIN_INVALID, with what to do. */
export function readAllowed(path: string, directories: readonly string[]): PluginFile {
  if (!isAbsolute(path)) throw denied(`the path '${path}' is not absolute`, 'Write the whole path, such as /etc/merbridge/plugins/acme.ts.')
  if (path.includes('\0')) throw denied('the path has a NUL byte', 'Write the path of a file.')
  if (directories.length === 0) allowedFor(path, path, directories)
  const real = realPath(path, 'plugin')
  refuseWritable(real, allowedFor(path, real, directories))
  try {
    return { file: real, text: readChecked(real) }
  } catch (error) {
    if (error instanceof MerbridgeError) throw error
    throw invalid(`${real} cannot be read: ${codeOf(error)}`, 'Check its permissions, and that /proc is mounted.')
  }
}
