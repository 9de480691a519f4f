/** Where the ring `kernels` keeps what it downloads and makes, how it reports, and how it runs other programs. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

export const checkout = join(import.meta.dirname, '../..')
export const cacheDirectory = join(checkout, '.cache/kernels')

export type Architecture = 'amd64' | 'arm64'

/** What a person has to do something about: printed without a stack. */
export class Failure extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

export function note(message: string): void {
  process.stdout.write(`kernels: ${message}\n`)
}

/** Does the work and prints how long it took, when that is worth a line. */
export async function step<T>(name: string, work: () => Promise<T>): Promise<T> {
  const start = performance.now()
  const result = await work()
  const seconds = (performance.now() - start) / 1000
  if (seconds >= 0.5) note(`${name}: ${seconds.toFixed(1)} s`)
  return result
}

export interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

interface ExecuteOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  readonly input?: string
}

/** Pids of the programs that run now: whoever is interrupted ends them. */
export const running = new Set<number>()

/** Runs a program to its end; never throws for its exit status. -1: it could not be started, or was killed. */
export function execute(argv: readonly string[], { cwd = checkout, env = process.env, input }: ExecuteOptions = {}): Promise<Outcome> {
  const [file = '', ...args] = argv
  return new Promise((done) => {
    const child = spawn(file, args, { cwd, env, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] })
    const text = { stdout: '', stderr: '' }
    child.stdout?.setEncoding('utf8').on('data', (data: string) => (text.stdout += data))
    child.stderr?.setEncoding('utf8').on('data', (data: string) => (text.stderr += data))
    child.stdin?.on('error', () => {}) // a program that does not read its input is judged by its status
    child.stdin?.end(input)
    const { pid } = child
    if (pid !== undefined) running.add(pid)
    const end = (code: number, problem = '') => {
      if (pid !== undefined) running.delete(pid)
      done({ code, stdout: text.stdout, stderr: text.stderr + problem })
    }
    child.once('error', (error) => end(-1, error.message))
    child.once('close', (code) => end(code ?? -1))
  })
}

/** Runs a program that must succeed; its output. */
export async function must(argv: readonly string[], options: ExecuteOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await execute(argv, options)
  if (code !== 0) throw new Failure(`${argv.slice(0, 6).join(' ')}: exit ${code}\n${(stderr + stdout).trim().slice(-3000)}`)
  return stdout
}

/** A short name for content. */
export function contentHash(parts: Iterable<string | Uint8Array>): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part).update('\0')
  return hash.digest('hex').slice(0, 16)
}

/**
 * A directory that is either complete or not there: `make` fills one of another name, which is renamed at the end. `key` tells one content from
 * another; the directory is made anew when it differs.
 */
export async function madeDirectory(path: string, key: string, make: (directory: string) => Promise<void>): Promise<string> {
  const stamp = join(path, '.made-from')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === key) return path
  const unfinished = `${path}.new`
  for (const each of [path, unfinished]) rmSync(each, { recursive: true, force: true })
  mkdirSync(unfinished, { recursive: true })
  await make(unfinished)
  writeFileSync(join(unfinished, '.made-from'), key)
  mkdirSync(dirname(path), { recursive: true })
  renameSync(unfinished, path)
  return path
}
