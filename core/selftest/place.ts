/** A cgroup for the self-test alone. One that an agent left behind that was killed is removed at the next start. */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const prefix = 'merbridge-selftest-'
const oldMs = 60_000
const removeAttempts = 50

/** The 22nd field of /proc/PID/stat; the second may hold spaces and parentheses. */
function startOf(pid: string | number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

const processes = (): string => /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0'

let made = 0
const ownName = () => `${prefix}${processes()}-${process.pid}-${startOf(process.pid)}-${made++}`

/** Its process is gone, or it is of another container and so old that no self-test runs in it. */
function isLeft(path: string, name: string): boolean {
  const [namespace, pid = '', start] = name.slice(prefix.length).split('-')
  if (namespace === processes()) return startOf(pid) !== start
  const changed = statSync(path, { throwIfNoEntry: false })?.mtimeMs
  return changed !== undefined && Date.now() - changed > oldMs
}

/** Those that a half of an exchange has started may outlive it. Nobody else puts processes there. */
function endProcesses(cgroup: string): void {
  const pids = readFileSync(join(cgroup, 'cgroup.procs'), 'latin1').split('\n').map(Number)
  for (const pid of pids.filter((each) => each > 1)) process.kill(pid, 'SIGKILL')
}

export function sweepCgroups(parent: string): void {
  for (const name of readdirSync(parent).filter((each) => each.startsWith(prefix))) {
    const path = join(parent, name)
    try {
      if (!isLeft(path, name)) continue
      endProcesses(path)
      rmdirSync(path)
    } catch {
      // somebody else was faster, or a process in it is about to end: the next start tries again
    }
  }
}

export class OwnCgroup implements AsyncDisposable {
  readonly path: string

  constructor(parent: string) {
    this.path = join(parent, ownName())
    mkdirSync(this.path)
  }

  take(pid: number): void {
    writeFileSync(join(this.path, 'cgroup.procs'), String(pid))
  }

  /** A process that has just ended may be counted for a moment. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        rmdirSync(this.path)
        return
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === 'ENOENT') return
        if (attempt === removeAttempts) return // it is swept at the next start
      }
      await sleep(20)
    }
  }
}
