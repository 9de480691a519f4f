/** One run of the program of the exchanges in a network namespace of its own. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import type { OwnCgroup } from './place.ts'
import { type Half, readHalves } from './program.ts'

const readyMs = 15_000
/** Beyond what the program itself allows an exchange. */
const mostMs = 30_000

export class Stage implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #ended: Promise<void>
  #output = ''
  #complaints = ''

  private constructor(program: string, argv: readonly string[], signal: AbortSignal) {
    this.#child = spawn(program, ['apart', 'run', ...argv], { stdio: ['pipe', 'pipe', 'pipe'], cwd: '/', env: {}, signal, killSignal: 'SIGKILL' })
    this.#child.stdin.on('error', () => {}) // its end is told by its status
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text
    })
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#complaints += text
    })
    this.#ended = new Promise((resolve) => {
      this.#child.once('close', () => resolve())
      this.#child.once('error', (error) => {
        this.#complaints += error.message
        resolve()
      })
    })
  }

  /** Resolves when the namespace is there; nothing has run in it yet. */
  static async open(program: string, argv: readonly string[], cgroup: OwnCgroup, signal: AbortSignal): Promise<Stage> {
    const stage = new Stage(program, argv, signal)
    try {
      await stage.#ready()
      cgroup.take(stage.#pid)
      return stage
    } catch (error) {
      await stage[Symbol.asyncDispose]()
      throw error
    }
  }

  get #pid(): number {
    const { pid } = this.#child
    if (pid === undefined) throw new Error(`the program of the exchanges cannot be started: ${this.#complaints}`)
    return pid
  }

  get netns(): string {
    return `/proc/${this.#pid}/ns/net`
  }

  #ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = () =>
        reject(new Error(`no network namespace of its own: ${this.#complaints.trim() || 'the program of the exchanges does not answer'}`))
      const late = setTimeout(fail, readyMs)
      const look = () => {
        if (!this.#output.startsWith('apart\n')) return
        clearTimeout(late)
        resolve()
      }
      this.#child.stdout.on('data', look)
      void this.#ended.then(() => {
        clearTimeout(late)
        fail()
      })
    })
  }

  /** Lets it run to its end. */
  async run(): Promise<Half[]> {
    const late = setTimeout(() => this.#child.kill('SIGKILL'), mostMs)
    this.#child.stdin.end('\n')
    await this.#ended
    clearTimeout(late)
    const halves = readHalves(this.#output)
    if (halves.length === 0) throw new Error(`the program of the exchanges told nothing: ${this.#complaints.split('\n', 1)[0]}`)
    return halves
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL')
    await this.#ended
  }
}
