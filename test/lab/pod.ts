import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { type ExecOptions, kill, type Result, type RunAs, run, type SpawnOptions } from './process.ts'

/** What a pod is made of; the paths are the ones on the node. */
export interface PodPlace {
  readonly name: string
  readonly netns: string
  readonly address: string
  readonly ipv6?: string | undefined
  readonly directory: string
  readonly cgroup: string | undefined
  /** Its user namespace, if it has one of its own */
  readonly users?: string | undefined
}

/** A network namespace: a pod, or the node. */
export class LabPod implements AsyncDisposable {
  readonly name: string
  /** Path, as a config's `netns` wants it */
  readonly netns: string
  /** Primary address without the prefix length; of IPv6, if it has no other */
  readonly address: string
  readonly #ipv6: string | undefined
  /** For files of its processes; everybody may read there; removed with the pod */
  readonly directory: string
  readonly #children = new Set<ChildProcess>()
  readonly #cgroup: string | undefined
  readonly #users: string | undefined
  readonly #onRemove: () => Promise<void>

  constructor(place: PodPlace, onRemove: () => Promise<void>) {
    this.name = place.name
    this.netns = place.netns
    this.address = place.address
    this.#ipv6 = place.ipv6
    this.directory = place.directory
    this.#cgroup = place.cgroup
    this.#users = place.users
    this.#onRemove = onRemove
  }

  /** Its IPv6 address; throws when the lab gave it none. */
  get ipv6(): string {
    if (this.#ipv6 === undefined) throw new Error(`the pod ${this.name} has no IPv6 address`)
    return this.#ipv6
  }

  /** Process ids of what `spawn` started and still runs */
  get pids(): readonly number[] {
    return [...this.#children].flatMap((child) => child.pid ?? [])
  }

  /** The command as it runs in this namespace, as somebody else if wanted. */
  command(argv: readonly string[], { uid, gid = uid }: RunAs = {}): string[] {
    // Before anything else, so that no socket is older than the membership. "0" is the process that writes.
    const join = this.#cgroup === undefined ? [] : ['sh', '-c', 'echo 0 >"$0" && exec "$@"', `${this.#cgroup}/cgroup.procs`]
    const users = this.#users === undefined ? [] : [`--user=${this.#users}`] // as its root, unless somebody else is wanted
    const enter = [...join, 'nsenter', ...users, `--net=${this.netns}`, '--']
    if (uid === undefined && gid === undefined) return [...enter, ...argv]
    const who = [...(uid === undefined ? [] : [`--reuid=${uid}`]), ...(gid === undefined ? [] : [`--regid=${gid}`])]
    return [...enter, 'setpriv', ...who, '--clear-groups', '--', ...argv]
  }

  exec(argv: readonly string[], options: ExecOptions = {}): Promise<Result> {
    return run(this.command(argv, options), options)
  }

  /**
   * Starts a process that is killed, by its pid, when the pod is removed at the latest. It is in a session of its own, so that Ctrl-C on the
   * terminal reaches this process only, which then cleans up in order.
   */
  spawn(argv: readonly string[], { stdio = ['ignore', 'pipe', 'pipe'], byDescriptor = false, ...who }: SpawnOptions = {}): ChildProcess {
    const [program = '', ...rest] = argv
    const descriptor = byDescriptor ? openSync(program, 'r') : undefined
    const [file = '', ...args] = this.command(descriptor === undefined ? argv : ['/proc/self/fd/3', ...rest], who)
    try {
      const all = descriptor === undefined ? stdio : ([...stdio, descriptor] as StdioOptions)
      const child = spawn(file, args, { cwd: '/', detached: true, stdio: all })
      this.#children.add(child)
      child.once('exit', () => this.#children.delete(child))
      child.once('error', () => this.#children.delete(child))
      return child
    } finally {
      if (descriptor !== undefined) closeSync(descriptor)
    }
  }

  /** Kills what runs in it and removes the namespace; the name and the address may be used again. Twice is a no-op. */
  remove(): Promise<void> {
    return this.#onRemove()
  }

  /** Kills the processes that `spawn` started and waits until they are gone. */
  async killAll(): Promise<void> {
    await Promise.all([...this.#children].map((child) => kill(child)))
  }

  /** This process may end while those of the pod go on; their output must not be piped. */
  unref(): void {
    for (const child of this.#children) child.unref()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.remove()
  }
}
