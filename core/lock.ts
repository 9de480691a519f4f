/** One agent per datapath: an flock that ends with its process, however that ends. */
import { fstatSync, readFileSync, statSync, unlinkSync } from 'node:fs'
import { makeDirectory } from './directories.ts'
import { MerbridgeError } from './errors.ts'
import type { Handle, Native } from './native/api.ts'

const directory = '/run/merbridge'
const attempts = 5

/** /sys/fs/bpf/merbridge -> /run/merbridge/sys%2Ffs%2Fbpf%2Fmerbridge.lock: no two directories have one name. */
export const lockPath = (bpffs: string): string => `${directory}/${encodeURIComponent(bpffs.slice(1))}.lock`

/** detach removes the file: a lock on a file that is not there any more is none. */
function isCurrent(lock: Handle, path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(lock.fd).ino
}

export function lockDatapath(native: Native, bpffs: string): Handle {
  const path = lockPath(bpffs)
  makeDirectory(directory, 0o755)
  for (let attempt = 0; attempt < attempts; attempt++) {
    const lock = native.lock(path)
    if (lock === undefined) break
    if (isCurrent(lock, path)) return lock
    lock.close()
  }
  const pid = readFileSync(path, 'utf8').trim()
  throw new MerbridgeError(
    'AGENT_RUNNING',
    `another agent (pid ${pid}) owns the datapath ${bpffs}`,
    'one agent runs on a node: stop that one first (systemctl stop merbridge, or kill it); traffic goes on meanwhile',
  )
}

/** For the holder of the lock, when there is nothing left that it guards. */
export function removeLock(bpffs: string): void {
  unlinkSync(lockPath(bpffs))
}
