/**
 * Starts and stops the real agent for tests: `bin/merbridge run` with a configuration, a bpffs directory, a control socket and a state directory
 * of its own, so that several tests, and an agent that an operator runs, do not meet.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { closeSync, existsSync, openSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import type { ControlPath } from '../../core/control/api.ts'
import { askAgent } from '../../core/control/client.ts'
import { lockPath } from '../../core/lock.ts'
import type { DetachView, PodView, StatusView } from '../../core/views.ts'
import { own, release } from './cleanup.ts'
import { giveVerdict, keepVerdict } from './verdict.ts'
import { btf, without } from './without.ts'

/** The command line of this checkout */
export const program = resolve(import.meta.dirname, '../../bin/merbridge')

export interface StaticPod {
  readonly name: string
  readonly netns: string
  readonly namespace?:
    | string
    | { readonly name: string; readonly labels?: Readonly<Record<string, string>>; readonly annotations?: Readonly<Record<string, string>> }
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly nameservers?: readonly string[]
  readonly containers?: readonly {
    readonly name: string
    readonly image?: string
    readonly args?: readonly string[]
    readonly uid?: number
    readonly gid?: number
    readonly env?: Readonly<Record<string, string>>
  }[]
}

export interface AgentConfig {
  /** Default: istio */
  readonly mesh?: string | { readonly path: string }
  /** Instead of `mesh` and `options`: entries as the config has them */
  readonly meshes?: readonly { readonly mesh: string; readonly options?: Readonly<Record<string, unknown>> }[]
  /** The directory whose plugins it may load (--plugin-dir) */
  readonly pluginDirectory?: string
  readonly options?: Readonly<Record<string, unknown>>
  readonly pods: readonly StaticPod[]
  /** Absent: the defaults */
  readonly acceleration?: { readonly mode?: string; readonly budget?: string | number }
  /** Directory of cgroup v2 at which the programs are attached; absent: auto */
  readonly cgroup?: string
  /** A file with BTF, or auto; absent: that of this run of the tests */
  readonly btf?: string
  /** Features of the kernel to do without; absent: those that this run of the tests does without */
  readonly without?: readonly string[]
  /** Words before the program that end in exec: other namespaces, another cgroup */
  readonly around?: readonly string[]
}

export interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Asks until `done` answers something else than undefined. Throws when `milliseconds` have passed, with what `describe` says. */
export async function until<T>(what: string, milliseconds: number, done: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = performance.now() + milliseconds
  for (let pause = 5; ; pause = Math.min(pause * 2, 100)) {
    const answer = await done()
    if (answer !== undefined) return answer
    if (performance.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${what}`)
    await sleep(pause)
  }
}

/** Where an agent keeps what is its own; absent: a directory under /tmp, and one of the same name in bpffs. */
export interface Place {
  /** Exists, is empty, and is removed at close */
  readonly directory: string
  readonly bpffs: string
}

export class Agent {
  readonly directory: string
  readonly configFile: string
  readonly bpffs: string
  #process: ChildProcess | undefined
  #config: AgentConfig

  private constructor({ directory, bpffs }: Place, config: AgentConfig) {
    this.directory = directory
    this.configFile = join(directory, 'config.yaml')
    this.bpffs = bpffs
    this.#config = config
  }

  /** Writes the configuration; `run` starts it. */
  static async create(config: AgentConfig, place?: Place): Promise<Agent> {
    const agent = new Agent(place ?? (await temporaryPlace()), config)
    await mkdir(join(agent.directory, 'state'))
    await giveVerdict(join(agent.directory, 'state'))
    await agent.write(config)
    return agent
  }

  /** Resolves when every listed pod is enrolled. `wait: 'answering'`: when the agent answers, whatever its pods' states are. */
  static async start(config: AgentConfig, options: { readonly wait?: 'enrolled' | 'answering' } = {}): Promise<Agent> {
    const agent = await Agent.create(config)
    own(agent)
    try {
      await agent.run(options.wait ?? 'enrolled')
    } catch (error) {
      await agent.close()
      throw error
    }
    return agent
  }

  get #socket(): string {
    return join(this.directory, 'agent.sock')
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  /** Starts it, also again after `kill`: it then adopts what the last one left in the kernel. `pid` is known at once. */
  async run(wait: 'enrolled' | 'answering' = 'enrolled'): Promise<void> {
    if (this.#process !== undefined) throw new Error('the agent runs already')
    const log = openSync(join(this.directory, 'log'), 'a')
    const { around = [], pluginDirectory } = this.#config
    const plugins = pluginDirectory === undefined ? [] : ['--plugin-dir', pluginDirectory]
    const [file = '', ...words] = [...around, program, 'run', '--config', this.configFile, ...plugins]
    const child = spawn(file, [...words, '--state-dir', join(this.directory, 'state')], {
      detached: true, // Ctrl-C ends the test, which then ends the agent
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    this.#process = child
    child.once('exit', () => {
      if (this.#process === child) this.#process = undefined
    })
    await (wait === 'enrolled' ? this.enrolled() : this.answering())
  }

  /** Replaces the configuration by rename, as editors and config management do. The agent notices by itself. */
  async write(config: AgentConfig): Promise<void> {
    this.#config = config
    const whole = {
      version: 1,
      ...(config.meshes === undefined ? { mesh: config.mesh ?? 'istio' } : { meshes: config.meshes }),
      ...(config.options === undefined ? {} : { options: config.options }),
      ...(config.acceleration === undefined ? {} : { acceleration: config.acceleration }),
      workloads: { static: config.pods },
      attach: {
        bpffs: this.bpffs,
        btf: config.btf ?? btf,
        without: config.without ?? without,
        ...(config.cgroup === undefined ? {} : { cgroup: config.cgroup }),
      },
      control: { socket: this.#socket },
    }
    const text = stringify(whole, { blockQuote: 'literal', lineWidth: 0 })
    await writeFile(`${this.configFile}.new`, text)
    await rename(`${this.configFile}.new`, this.configFile)
  }

  /** The status of this very process; a socket that a killed agent left behind does not count. */
  answering(): Promise<StatusView> {
    return this.waitFor('the agent answers', 20_000, () => true)
  }

  enrolled(): Promise<StatusView> {
    const count = this.#config.pods.length
    return this.waitFor(
      `${count} pods are enrolled and the agent is ready`,
      120_000,
      (s) => s.agent.ready && s.pods.listed === count && s.pods.enrolled === count,
    )
  }

  waitFor(what: string, milliseconds: number, condition: (status: StatusView) => boolean): Promise<StatusView> {
    let last = 'no answer'
    return until(what, milliseconds, async () => {
      if (this.#process === undefined) throw new Error(`the agent ended: ${what}\n${await this.log()}`)
      if (!existsSync(this.#socket)) return undefined
      const status = await this.ask<StatusView>('/v1/status').catch((error: Error) => {
        last = error.message
      })
      if (status === undefined) return undefined
      last = JSON.stringify(status)
      return status.agent.pid === this.pid && condition(status) ? status : undefined
    }).catch(async (error: Error) => {
      throw new Error(`${error.message}\nlast: ${last}\n${await this.log()}`)
    })
  }

  /** Over the socket, as the command line does, without a process for each question. */
  ask<View>(path: ControlPath, milliseconds?: number, query?: string): Promise<View> {
    return askAgent<View>(this.#socket, path, milliseconds, query)
  }

  status(): Promise<StatusView> {
    return this.#shown('status')
  }

  pods(): Promise<readonly PodView[]> {
    return this.#shown('pods')
  }

  /** Asked again while the agent is busy, as on an emulated processor: the command says to. */
  #shown<View>(command: 'status' | 'pods'): Promise<View> {
    return until(`merbridge ${command}`, 60_000, async () => {
      const outcome = await this.command([command, '--output', 'json'])
      if (outcome.code === 0) return JSON.parse(outcome.stdout) as View
      if (outcome.stderr.includes('did not answer within') || outcome.stdout.includes('did not answer within')) return undefined
      throw new Error(`merbridge ${command}: exit ${outcome.code}\n${outcome.stderr}${outcome.stdout}`)
    })
  }

  /** `merbridge detach`, with the exit code left to the caller. */
  async detach(...flags: string[]): Promise<Outcome & { readonly view?: DetachView }> {
    const outcome = await this.command(['detach', '--output', 'json', ...flags])
    return outcome.code === 0 ? { ...outcome, view: JSON.parse(outcome.stdout) as DetachView } : outcome
  }

  /** Any command of the command line with this agent's configuration. */
  command(argv: readonly string[]): Promise<Outcome> {
    return execute(program, [...argv, '--config', this.configFile, '--state-dir', join(this.directory, 'state')])
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal)
  }

  /** Resolves when the process has gone. What it attached stays in the kernel. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process
    if (child === undefined) return
    const gone = new Promise<void>((done) => child.once('exit', () => done()))
    child.kill(signal)
    const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await gone
    clearTimeout(late)
  }

  /** This process may end while the agent goes on. */
  unref(): void {
    this.#process?.unref()
    release(this)
  }

  async log(): Promise<string> {
    return existsSync(join(this.directory, 'log')) ? (await readFile(join(this.directory, 'log'), 'utf8')).slice(-4000) : ''
  }

  /** Takes everything away again: process, kernel objects, files. Twice is a no-op. */
  async close(): Promise<void> {
    await this.kill('SIGTERM')
    if (existsSync(this.bpffs)) {
      const outcome = await this.detach('--bypass')
      if (outcome.code !== 0) throw new Error(`detach --bypass: exit ${outcome.code}\n${outcome.stderr}${outcome.stdout}`)
    }
    await keepVerdict(join(this.directory, 'state'))
    await removeLock(this.bpffs)
    await rm(this.directory, { recursive: true, force: true })
    release(this)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** The lock of a datapath that nobody will use again; like most lock files it outlives its owner. */
export function removeLock(bpffs: string): Promise<void> {
  return rm(lockPath(bpffs), { force: true })
}

async function temporaryPlace(): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), 'merbridge-test-'))
  return { directory, bpffs: `/sys/fs/bpf/${basename(directory)}` }
}

/** Runs a program to its end (a minute at most, unless told otherwise); a program that cannot be started or is killed counts as exit code -1. */
export function execute(file: string, argv: readonly string[], milliseconds = 60_000): Promise<Outcome> {
  return new Promise((done) => {
    execFile(file, argv, { timeout: milliseconds, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      done({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr })
    })
  })
}
