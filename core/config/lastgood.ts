/**
 * The last config that reached the kernel, kept on disk: an agent that starts beside a broken config runs with it. One file for each config
 * path, so that two agents of one machine (in tests) do not mix theirs up.
 */
import { createHash, randomBytes } from 'node:crypto'
import { open, rename, unlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { makeDirectory } from '../directories.ts'
import { MerbridgeError } from '../errors.ts'
import { usingAsync } from '../scope.ts'
import { readSource } from './source.ts'

export const defaultStateDir = '/var/lib/merbridge'

/** <stateDir>/<16 hexadecimal digits of the config path's SHA-256>.yaml */
export function lastGoodPath(stateDir: string, configPath: string): string {
  const name = createHash('sha256').update(resolve(configPath)).digest('hex').slice(0, 16)
  return join(stateDir, `${name}.yaml`)
}

const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined)

async function syncDirectory(path: string): Promise<void> {
  await usingAsync(await open(path, 'r'), (directory) => directory.sync())
}

/** Atomic, also against a loss of power: there is the old text or the new one. Throws the system's error (no space, read-only). */
export async function saveLastGood(stateDir: string, configPath: string, text: string): Promise<void> {
  const path = lastGoodPath(stateDir, configPath)
  makeDirectory(stateDir, 0o700)
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    await usingAsync(await open(temporary, 'wx', 0o600), async (file) => {
      await file.writeFile(text)
      await file.sync()
    })
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
  await syncDirectory(stateDir)
}

/** undefined: none was saved. Throws CONFIG_UNREADABLE when there is one that cannot be read. */
export async function readLastGood(stateDir: string, configPath: string): Promise<string | undefined> {
  try {
    return await readSource(lastGoodPath(stateDir, configPath))
  } catch (error) {
    if (error instanceof MerbridgeError && codeOf(error.cause) === 'ENOENT') return undefined
    throw error
  }
}

/** No error when there is none. */
export async function removeLastGood(stateDir: string, configPath: string): Promise<void> {
  await unlink(lastGoodPath(stateDir, configPath)).catch((error: unknown) => {
    if (codeOf(error) !== 'ENOENT') throw error
  })
}
