/** Who has a socket open, from /proc. Only what is in the agent's PID namespace is seen, so it must run in the node's. */
import { access, readdir, readlink } from 'node:fs/promises'

/** Links that are read at a time: a few, so that other work of the event loop's thread pool gets its turn. */
const AT_A_TIME = 16

/** What reading about a process gives that has ended, or a descriptor that was closed. */
const GONE: ReadonlySet<string> = new Set(['ENOENT', 'ESRCH'])

/** Processes as they were at one moment, by the inode of their network namespace. */
export interface ProcessTable {
  readonly all: readonly number[]
  in(namespace: number): readonly number[]
}

/** undefined: it is gone. */
async function linkTarget(path: string): Promise<string | undefined> {
  try {
    return await readlink(path)
  } catch (error) {
    if (GONE.has((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

async function entries(directory: string): Promise<number[]> {
  try {
    return (await readdir(directory)).map(Number).filter(Number.isInteger)
  } catch (error) {
    if (GONE.has((error as NodeJS.ErrnoException).code ?? '')) return []
    throw error
  }
}

async function inChunks<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (let start = 0; start < items.length; start += AT_A_TIME) await Promise.all(items.slice(start, start + AT_A_TIME).map(work))
}

/** The number in "net:[4026531840]", "socket:[12345]". */
function inodeIn(kind: 'net' | 'socket', target = ''): number | undefined {
  const [, inode] = target.startsWith(`${kind}:[`) ? (/\[(\d+)\]$/.exec(target) ?? []) : []
  return inode === undefined ? undefined : Number(inode)
}

/** A process whose namespace may not be read is only in `all`. */
export async function processTable(): Promise<ProcessTable> {
  const all = await entries('/proc')
  const byNamespace = new Map<number, number[]>()
  await inChunks(all, async (pid) => {
    const namespace = inodeIn('net', await linkTarget(`/proc/${pid}/ns/net`).catch(() => undefined))
    if (namespace === undefined) return
    const members = byNamespace.get(namespace)
    if (members === undefined) byNamespace.set(namespace, [pid])
    else members.push(pid)
  })
  return { all, in: (namespace) => byNamespace.get(namespace) ?? [] }
}

/** The process's descriptor of each socket, by inode, nothing of a process that has ended; undefined: it may not be looked into. */
export async function socketsOf(pid: number): Promise<ReadonlyMap<number, number> | undefined> {
  const found = new Map<number, number>()
  try {
    await readSockets(pid, found)
  } catch {
    // EACCES is also what a link of a process gives that ended while it was read.
    return access(`/proc/${pid}`).then(
      () => undefined,
      () => new Map(),
    )
  }
  return found
}

async function readSockets(pid: number, found: Map<number, number>): Promise<void> {
  await inChunks(await entries(`/proc/${pid}/fd`), async (descriptor) => {
    const inode = inodeIn('socket', await linkTarget(`/proc/${pid}/fd/${descriptor}`))
    if (inode !== undefined) found.set(inode, descriptor)
  })
}
