/** The bench's programs in C: compiled for each run, started as servers, run as clients. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { own, release } from '../test/lab/cleanup.ts'
import type { LabPod } from '../test/lab/net.ts'
import { kill, must, type RunAs } from '../test/lab/process.ts'
import type { Figures } from './measure.ts'

export type Program = 'load' | 'dns' | 'stats' | 'http' | 'stream'

/** Milliseconds that one run may take. */
const RUN_DEADLINE = 30_000

/** Client and server stay on two processors, if there are two, so that the scheduler adds no noise. */
const [firstCpu, lastCpu] = allowedCpus()

/** The path of the compiled program; its directory is removed by whoever made it. */
export async function compile(program: Program, directory: string): Promise<string> {
  const path = join(directory, program)
  await must(['cc', '-O2', '-o', path, join(import.meta.dirname, `${program}.c`)])
  return path
}

export const onClientCpu = (argv: readonly string[]): string[] => ['taskset', '--cpu-list', firstCpu, ...argv]
export const onServerCpu = (argv: readonly string[]): string[] => ['taskset', '--cpu-list', lastCpu, ...argv]

/** Starts a server in the pod, which ends with the pod at the latest; resolves when it listens. */
export const serve = (pod: LabPod, argv: readonly string[], who: RunAs): Promise<void> => listening(pod.spawn(argv, who), argv)

/** The same in the machine's own network namespace. */
export async function serveHere(argv: readonly string[]): Promise<AsyncDisposable> {
  const [file = '', ...rest] = argv
  const child = spawn(file, rest, { cwd: '/', detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const server: AsyncDisposable = {
    [Symbol.asyncDispose]: async () => {
      await kill(child)
      release(server)
    },
  }
  own(server)
  await listening(child, argv)
  return server
}

async function listening(child: ChildProcess, argv: readonly string[]): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const errors: string[] = []
  child.stderr?.on('data', (text) => errors.push(String(text)))
  child.stdout?.once('data', () => resolve())
  child.once('exit', (code) => reject(new Error(`${argv.join(' ')} ended with status ${code}: ${errors.join('')}`)))
  await promise
}

/** Runs a client: nanoseconds of each measurement. */
export async function measured(command: readonly string[]): Promise<readonly number[]> {
  const output = await must(command, { timeoutMs: RUN_DEADLINE })
  return output.trim().split('\n').map(Number)
}

/** Runs a client that prints its figures as JSON. */
export async function reported(command: readonly string[]): Promise<Figures> {
  return JSON.parse(await must(command, { timeoutMs: RUN_DEADLINE })) as Figures
}

function allowedCpus(): [string, string] {
  const list = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  const numbers = list.split(/[-,]/)
  return [numbers[0] ?? '0', numbers.at(-1) ?? '0']
}
