/** The pods of a soak: each has a sidecar, an app and clients, which say how their connections went. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { bounded } from '../lab/cleanup.ts'
import { kill, type Lab, type LabPod, must } from '../lab/net.ts'
import { app, proxy } from '../parity/shape.ts'

export interface Totals {
  readonly connections: number
  readonly complete: number
  /** Clients that went in the middle, as they had planned. */
  readonly left: number
  readonly messages: number
  readonly bytes: number
}

export interface Problem {
  /** wrong: bytes that nobody sent there. hang: no byte moved for 20 s. memory: too much waits for a reader that does not read. cut: ended by somebody else. connect: not even begun */
  readonly problem: 'wrong' | 'hang' | 'memory' | 'cut' | 'connect'
  /** errno; 1002: the end came too early */
  readonly error: number
  /** Milliseconds of CLOCK_MONOTONIC */
  readonly began: number
  /** When the last byte moved. */
  readonly moved: number
  readonly at: number
  /** Names of the pods at both ends; of a server's problem one. */
  readonly pods: readonly string[]
  readonly text: string
}

/** Milliseconds of CLOCK_MONOTONIC, as the programs have them. */
export const clock = (): number => Number(process.hrtime.bigint() / 1_000_000n)

const APP_PORT = 8080
const READY = 10_000
/** Longer than a connection without any pauses takes, and than the bound of a hang. */
const FINISH = 60_000

export async function compilePrograms(directory: string): Promise<void> {
  for (const name of ['proxy', 'ends']) await must(['cc', '-O2', '-o', join(directory, name), join(import.meta.dirname, `${name}.c`)])
}

const zero: Totals = { connections: 0, complete: 0, left: 0, messages: 0, bytes: 0 }

export function sum(a: Totals, b: Totals): Totals {
  return Object.fromEntries(Object.entries(a).map(([name, value]) => [name, value + b[name as keyof Totals]])) as unknown as Totals
}

/** One process, and what it said last. */
class Program {
  readonly child: ChildProcess
  totals = zero
  said = ''

  private constructor(child: ChildProcess) {
    this.child = child
  }

  static async start(pod: LabPod, argv: readonly string[], who: { uid: number; gid: number }, onProblem: (line: object) => void): Promise<Program> {
    const child = pod.spawn(argv, { ...who, stdio: ['pipe', 'pipe', 'pipe'] })
    const program = new Program(child)
    if (child.stdout === null || child.stderr === null) throw new Error('the program has no output')
    child.stdin?.on('error', () => {}) // it has ended
    child.stderr.on('data', (data: Buffer) => {
      program.said = (program.said + data.toString()).slice(-2000)
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line === 'ready') return resolve()
      const told = JSON.parse(line) as object
      if ('problem' in told) onProblem(told)
      else program.totals = Object.fromEntries(Object.keys(zero).map((name) => [name, (told as Record<string, number>)[name]])) as unknown as Totals
    })
    if (!(await bounded(promise, READY))) throw new Error(`${argv.join(' ')} did not become ready: ${program.said}`)
    return program
  }

  /** Lets it finish; false: it had to be killed. */
  async finish(milliseconds: number): Promise<boolean> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return true
    const gone = once(this.child, 'exit')
    this.child.stdin?.end()
    if (await bounded(gone, milliseconds)) return true
    await kill(this.child)
    return false
  }
}

type Role = 'proxy' | 'server' | 'client'

/** A pod that may go and come again, with the same name and addresses. */
export class Member {
  readonly name: string
  readonly number: number
  readonly #lab: Lab
  readonly #problems: Problem[]
  readonly #programs = new Map<Role, Program>()
  #pod: LabPod | undefined
  /** Of programs that have ended. */
  #before = zero

  constructor(lab: Lab, number: number, problems: Problem[]) {
    this.#lab = lab
    this.number = number
    this.name = `pod${number}`
    this.#problems = problems
  }

  get pod(): LabPod {
    if (this.#pod === undefined) throw new Error(`${this.name} is not there`)
    return this.#pod
  }

  /** IPv4, IPv6, IPv4 on a socket of IPv6 */
  get addresses(): readonly string[] {
    return [`10.77.0.${this.number + 20}`, `fd77::${this.number + 20}`, `::ffff:10.77.0.${this.number + 20}`]
  }

  async create(): Promise<void> {
    const [four, six] = this.addresses
    this.#pod = await this.#lab.pod(this.name, { address: `${four}/24`, ipv6: `${six}/64` })
    // Largest buffers that are known to ends.c; kernels have different ones.
    await must(this.#pod.command(['sysctl', '-q', '-w', 'net.ipv4.tcp_rmem=4096 131072 6291456', 'net.ipv4.tcp_wmem=4096 16384 4194304']))
    // Sockets that nobody holds any more go soon, so that those of the end can be counted.
    await must(this.#pod.command(['sysctl', '-q', '-w', 'net.ipv4.tcp_fin_timeout=5', 'net.ipv4.tcp_orphan_retries=3']))
  }

  /** Everything in it is killed. */
  async remove(): Promise<void> {
    for (const role of this.#programs.keys()) this.#forget(role)
    await this.pod.killAll()
    // As CNI plugins do: the kernel takes a namespace down later, and until then it would answer for the addresses of the next pod.
    await must(this.pod.command(['ip', 'link', 'del', 'eth0']))
    await this.pod.remove()
    this.#pod = undefined
  }

  startProxy(): Promise<void> {
    return this.#start('proxy', [join(this.#lab.directory, 'proxy')], proxy, [])
  }

  startServer(): Promise<void> {
    return this.#start('server', [join(this.#lab.directory, 'ends'), 'serve', String(APP_PORT)], app, [])
  }

  startClient(connections: number, seed: number, peers: readonly Member[]): Promise<void> {
    const argv = [
      join(this.#lab.directory, 'ends'),
      'load',
      String(APP_PORT),
      String(connections),
      String(seed),
      ...peers.flatMap((peer) => peer.addresses),
    ]
    const names = peers.flatMap((peer) => peer.addresses.map(() => peer.name))
    return this.#start('client', argv, app, names)
  }

  async killProxy(): Promise<void> {
    const program = this.#programs.get('proxy')
    if (program !== undefined) await kill(program.child)
    this.#forget('proxy')
  }

  /** Its clients complete what they have begun; false: they do not. */
  async finishClient(): Promise<boolean> {
    const done = await (this.#programs.get('client')?.finish(FINISH) ?? true)
    this.#forget('client')
    return done
  }

  /** Of its clients, or of its server. */
  totals(role: 'client' | 'server'): Totals {
    const running = this.#programs.get(role)?.totals ?? zero
    return role === 'client' ? sum(this.#before, running) : running
  }

  /** `open`: TCP sockets in any state but LISTEN and TIME-WAIT. `all`: whatever the kernel has not freed yet, of every kind, also when nobody holds it any more. */
  async sockets(): Promise<{ readonly open: number; readonly all: number }> {
    const table = await must(this.pod.command(['cat', '/proc/net/tcp', '/proc/net/tcp6', '/proc/net/sockstat']))
    const open = table.split('\n').filter((line) => /^ *\d+: \S+ \S+ (?!0A|06)/.test(line)).length
    return { open, all: Number(/^sockets: used (\d+)/m.exec(table)?.[1]) }
  }

  async #start(role: Role, argv: readonly string[], who: { uid: number; gid: number }, targets: readonly string[]): Promise<void> {
    const onProblem = (line: object) => {
      const { target, ...rest } = line as Problem & { target: number }
      const to = targets[target]
      this.#problems.push({ ...rest, pods: to === undefined ? [this.name] : [this.name, to], text: JSON.stringify(line) })
    }
    this.#programs.set(role, await Program.start(this.pod, argv, who, onProblem))
  }

  #forget(role: Role): void {
    if (role === 'client') this.#before = this.totals('client')
    this.#programs.delete(role)
  }
}
