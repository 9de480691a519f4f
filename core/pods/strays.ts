/**
 * Processes of enrolled pods that run in a cgroup outside of the one where the programs are attached. The kernel runs the programs of the socket's
 * cgroup, which is that of the process when it made the socket: what such a process connects is not intercepted, and nothing in the kernel says so.
 * Only /proc does. At the root of the hierarchy there are none, and nothing is looked for.
 */
import { readdir, readFile } from 'node:fs/promises'
import { type AttachPoint, holds } from '../cgroup.ts'
import { printable } from '../config/printable.ts'
import type { Log } from '../datapath/datapath.ts'
import type { Namespaces } from '../native/api.ts'

interface Process {
  readonly pid: string
  readonly cgroup: string
}

interface Members {
  inside: number
  readonly outside: Process[]
}

interface Finding {
  readonly warning: string
  /** No process of the pod is inside. */
  readonly unseen: boolean
}

/** Files of /proc that are read at once. */
const chunk = 64
/** Every so many calls of `lookAgain` look, while nothing is wrong; else every one does. */
const calmEvery = 6

/** "0::/kubepods/a" of /proc/PID/cgroup; a process keeps its cgroup when that is removed. undefined: the process has ended. */
async function cgroupOf(pid: string): Promise<string | undefined> {
  try {
    return /^0::(.*?)(?: \(deleted\))?$/m.exec(await readFile(`/proc/${pid}/cgroup`, 'utf8'))?.[1]
  } catch {
    return undefined
  }
}

async function commandOf(pid: string): Promise<string> {
  try {
    return (await readFile(`/proc/${pid}/comm`, 'utf8')).trim()
  } catch {
    return 'ended meanwhile'
  }
}

/** Inode of a network namespace -> the processes in it. The addon's thread asks for all of /proc; only those of pods are read. */
async function findMembers(namespaces: Namespaces, attached: string, inodes: ReadonlySet<number>): Promise<Map<number, Members>> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const homes = await namespaces.inodes(pids.map((pid) => `/proc/${pid}/ns/net`))
  const processes = pids.flatMap((pid, index) => {
    const inode = homes[index]
    return inode !== undefined && inodes.has(inode) ? [{ pid, inode }] : []
  })
  const found = new Map<number, Members>()
  for (let i = 0; i < processes.length; i += chunk) {
    const part = processes.slice(i, i + chunk)
    const cgroups = await Promise.all(part.map(({ pid }) => cgroupOf(pid)))
    for (const [index, { pid, inode }] of part.entries()) {
      const cgroup = cgroups[index]
      const held = cgroup === undefined ? undefined : holds(attached, cgroup)
      if (cgroup === undefined || held === undefined) continue
      const members = found.get(inode) ?? { inside: 0, outside: [] }
      found.set(inode, members)
      if (held) members.inside++
      else members.outside.push({ pid, cgroup })
    }
  }
  return found
}

const remedies: Readonly<Record<AttachPoint['reach'], string>> = {
  everything: '',
  namespace: "run the agent in the host's cgroup namespace, or mount the host's cgroup v2 into its container",
  named: 'set attach.cgroup to auto, or to a cgroup that holds all processes of the pods',
}

async function describe({ outside: [first, ...rest], inside }: Members, { path, reach }: AttachPoint): Promise<Finding | undefined> {
  if (first === undefined) return undefined
  const more = rest.length === 0 ? '' : `, and ${rest.length} more`
  const who = `process ${first.pid} (${await commandOf(first.pid)}) runs in cgroup ${first.cgroup}${more}`
  const warning = `${who}: outside of ${path}, where the programs are attached, so the connections that it makes are not intercepted; ${remedies[reach]}`
  return { warning: printable(warning), unseen: inside === 0 }
}

export class StrayWatch {
  readonly #namespaces: Namespaces
  readonly #attached: AttachPoint
  readonly #log: Log
  /** Title -> inode of the network namespace, of the pods that are enrolled. */
  #pods: ReadonlyMap<string, number> = new Map()
  #findings: ReadonlyMap<string, Finding> = new Map()
  #calls = 0

  constructor(namespaces: Namespaces, attached: AttachPoint, log: Log) {
    this.#namespaces = namespaces
    this.#attached = attached
    this.#log = log
  }

  warning(title: string): string | undefined {
    return this.#findings.get(title)?.warning
  }

  /** Pods with processes, none of which is seen. */
  get unseen(): string[] {
    return [...this.#findings].filter(([, { unseen }]) => unseen).map(([title]) => title)
  }

  async look(pods: ReadonlyMap<string, number>): Promise<void> {
    this.#pods = pods
    const { reach, cgroup } = this.#attached
    if (reach === 'everything' || cgroup === undefined) return
    try {
      const members = pods.size === 0 ? new Map<number, Members>() : await findMembers(this.#namespaces, cgroup, new Set(pods.values()))
      const findings = new Map<string, Finding>()
      for (const [title, inode] of pods) {
        const finding = await describe(members.get(inode) ?? { inside: 0, outside: [] }, this.#attached)
        if (finding !== undefined) findings.set(title, finding)
      }
      this.#report(findings)
      this.#findings = findings
    } catch (error) {
      this.#log('warn', 'cannot look for processes outside of the cgroup; trying again', { reason: String(error) })
    }
  }

  async lookAgain(): Promise<void> {
    if (++this.#calls % calmEvery === 0 || this.#findings.size > 0) await this.look(this.#pods)
  }

  /** Once, until it has been well in between; the process that is named first may change. */
  #report(findings: ReadonlyMap<string, Finding>): void {
    for (const [pod, { warning, unseen }] of findings) {
      if (this.#findings.get(pod)?.unseen !== unseen) this.#log('warn', warning, { pod })
    }
    for (const pod of this.#findings.keys()) {
      if (!findings.has(pod) && this.#pods.has(pod)) this.#log('info', 'no process of the pod is outside of the cgroup any more', { pod })
    }
  }
}
