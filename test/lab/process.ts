/** Processes that tests start: always an argument vector, always bounded in time, always ended by their pid. */
import { type ChildProcess, execFile, type StdioOptions } from 'node:child_process'
import { bounded } from './cleanup.ts'

/** Milliseconds that a killed process may take to be gone. */
const KILL_DEADLINE = 5_000

/** Milliseconds for commands that only talk to the kernel. */
const COMMAND_DEADLINE = 30_000

export interface Result {
  /** Exit status; -1: ended by a signal, the time-out among them */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunAs {
  /** Absent: root. Supplementary groups are dropped when one of the two is given. */
  readonly uid?: number
  /** Absent: the uid's number. */
  readonly gid?: number
}

export interface ExecOptions extends RunAs {
  readonly input?: string
  readonly timeoutMs?: number
}

export interface SpawnOptions extends RunAs {
  /** Default: stdin closed, stdout and stderr piped. */
  readonly stdio?: StdioOptions
  /**
   * Hand over argv[0] as an open descriptor: for a program below a directory that the uid may not search (a checkout under /root), the kernel
   * then checks only the file's own mode. Needs `stdio` to be absent or to have three entries.
   */
  readonly byDescriptor?: boolean
}

/** Runs a command to its end; never throws for its exit status. */
export function run(argv: readonly string[], { input, timeoutMs = COMMAND_DEADLINE }: ExecOptions = {}): Promise<Result> {
  const [file, ...args] = argv
  if (file === undefined) throw new Error('an empty command')
  return new Promise((resolve, reject) => {
    const limits = { cwd: '/', timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 64 << 20 } as const
    const child = execFile(file, args, limits, (error, stdout, stderr) => {
      if (error && typeof error.code === 'string') reject(error)
      else resolve({ code: error ? (typeof error.code === 'number' ? error.code : -1) : 0, stdout, stderr })
    })
    child.stdin?.on('error', () => {}) // a command that does not read its input is judged by its status
    child.stdin?.end(input ?? '')
  })
}

/** Runs a command that must succeed; the error carries its output. */
export async function must(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(argv, options)
  if (code !== 0) throw new Error(`${argv.join(' ')}: status ${code}\n${options.input ?? ''}${stderr}${stdout}`)
  return stdout
}

/** Ends a process that we started: SIGKILL unless told otherwise, and SIGKILL anyway when that does not help. */
export async function kill(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  if (await bounded(gone, KILL_DEADLINE)) return
  child.kill('SIGKILL')
  await bounded(gone, KILL_DEADLINE)
}
