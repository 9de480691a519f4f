/** A program that serves, with its output in a file. */
import type { ChildProcess } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../lab/agent.ts'
import { own, release } from '../lab/cleanup.ts'
import { kill, type LabPod } from '../lab/net.ts'

const START_DEADLINE = 30_000
const APP = { uid: 1000, gid: 1000 }

export class Server implements AsyncDisposable {
  readonly program: string
  readonly #pod: LabPod
  readonly #file: string
  readonly #child: ChildProcess
  static #started = 0

  constructor(pod: LabPod, program: string, argv: readonly string[], as?: 'root') {
    this.program = program
    this.#pod = pod
    this.#file = join(pod.directory, `${program.replaceAll(/\W/g, '-')}-${Server.#started++}.log`)
    const output = openSync(this.#file, 'a')
    this.#child = pod.spawn(argv, { ...(as === undefined ? APP : {}), stdio: ['ignore', output, output] })
    closeSync(output)
    own(this)
  }

  async listening(port: number): Promise<void> {
    const what = `${this.program} of ${this.#pod.name} listens at port ${port}`
    await until(what, START_DEADLINE, async () => {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) throw new Error(`${this.program} has ended`)
      const { stdout } = await this.#pod.exec(['ss', '-Hltn', `sport = :${port}`])
      return stdout.includes('LISTEN') || undefined
    }).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.log()}`)
    })
  }

  log(): string {
    return readFileSync(this.#file, 'utf8').slice(-2000)
  }

  /** As Ctrl-C: PostgreSQL then leaves its clients, and removes its shared memory, which SIGKILL would leave on the machine. */
  async [Symbol.asyncDispose](): Promise<void> {
    await kill(this.#child, 'SIGINT')
    release(this)
  }
}
