/** The program of the exchanges (core/selftest/exchanges): what it knows, and what it prints. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { MerbridgeError } from '../errors.ts'
import { packageRoot } from '../root.ts'

export interface Exchange {
  readonly name: string
  readonly title: string
  /** Belongs to the self-test. */
  readonly fast: boolean
  /** Only on request. */
  readonly slow: boolean
  /** Its sockets are blocking ones, to which nothing is redirected. */
  readonly blocking: boolean
  /** Makes its connections itself. */
  readonly ownStart: boolean
  /** The named difference that acceleration makes in it; empty: none. */
  readonly differs: string
}

/** It reads with splice() or tee(): a program that does so is never redirected to. */
const splicing = /^(splice-(reader|after-header|blocking|forward)|tee)$/
export const readsBySplice = ({ name }: Pick<Exchange, 'name'>): boolean => splicing.test(name)

/** What one half of an exchange has seen. */
export interface Half {
  readonly name: string
  readonly side: 'client' | 'server'
  readonly transcript: readonly string[]
  readonly failures: readonly string[]
  /** Why it did not run on this kernel. */
  readonly skipped: readonly string[]
  readonly pass: boolean
  readonly ms: number
}

/** Beside the addon, in a checkout and in the package. */
export function exchangesPath(): string {
  const name = join(`${process.platform}-${process.arch}`, 'exchanges')
  const places = ['build/native', 'prebuilds'].map((directory) => join(packageRoot(), directory, name))
  const path = places.find((place) => existsSync(place))
  if (path !== undefined) return path
  throw new MerbridgeError(
    'KERNEL_UNSUPPORTED',
    `there is no program of the exchanges for ${process.platform}-${process.arch}`,
    'in a checkout run scripts/build-exchanges.sh; a package has that of the platform that it was made for',
  )
}

export function listExchanges(path = exchangesPath()): Promise<readonly Exchange[]> {
  return new Promise((resolve, reject) => {
    execFile(path, ['list', '--json'], { timeout: 5000 }, (error, stdout) => {
      if (error) reject(error)
      else resolve(JSON.parse(stdout) as Exchange[])
    })
  })
}

/** Each line is one half; the rest, as the last words of a program that was killed, is passed over. */
export const readHalves = (output: string): Half[] => output.split('\n').flatMap(readHalf)

function readHalf(line: string): Half[] {
  if (!line.startsWith('{')) return []
  try {
    return [JSON.parse(line) as Half]
  } catch {
    return []
  }
}
