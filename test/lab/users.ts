/** User namespaces of pods: a process that stays in one, whose network namespace gets a name. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readlinkSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { kill, must } from './process.ts'

/** Lines as in /proc/PID/uid_map: 'inside outside count'. */
export interface UserMaps {
  readonly uid: readonly string[]
  readonly gid: readonly string[]
}

/** Milliseconds until the process is in its namespaces. */
const DEADLINE = 5_000

export class UserNamespace {
  /** Of nsfs, for nsenter; valid until it is closed */
  readonly path: string
  readonly #holder: ChildProcess

  private constructor(holder: ChildProcess) {
    this.#holder = holder
    this.path = `/proc/${holder.pid}/ns/user`
  }

  /** The network namespace that belongs to it is /run/netns/`name`. Without lines nothing is mapped (yet). */
  static async create(name: string, maps: UserMaps): Promise<UserNamespace> {
    const holder = spawn('unshare', ['--user', '--net', '--', 'sleep', 'infinity'], { cwd: '/', stdio: 'ignore' })
    const users = new UserNamespace(holder)
    try {
      await users.#entered()
      users.map(maps)
      await must(['ip', 'netns', 'attach', name, String(holder.pid)])
      return users
    } catch (error) {
      await users.close()
      throw error
    }
  }

  map({ uid, gid }: UserMaps): void {
    for (const [file, lines] of Object.entries({ uid_map: uid, gid_map: gid }))
      if (lines.length > 0) writeFileSync(`/proc/${this.#holder.pid}/${file}`, `${lines.join('\n')}\n`)
  }

  close(): Promise<unknown> {
    return kill(this.#holder)
  }

  async #entered(): Promise<void> {
    const ofSelf = (kind: string) => readlinkSync(`/proc/self/ns/${kind}`)
    const ofHolder = (kind: string) => readlinkSync(`/proc/${this.#holder.pid}/ns/${kind}`)
    const since = performance.now()
    // The kernel changes one after the other.
    while (['net', 'user'].some((kind) => ofHolder(kind) === ofSelf(kind))) {
      if (performance.now() - since > DEADLINE) throw new Error('unshare has not made the namespaces in time')
      await sleep(5)
    }
  }
}
