/** The BPF file system, which a plain machine or container may not have mounted. */
import { readdirSync, readFileSync } from 'node:fs'
import { must } from './process.ts'

const DIRECTORY = '/sys/fs/bpf'

/** Mounts it if nobody has; true if it was mounted now. */
export async function mountBpffs(): Promise<boolean> {
  if (readFileSync('/proc/self/mounts', 'utf8').includes(` ${DIRECTORY} bpf `)) return false
  await must(['mount', '-t', 'bpf', 'bpf', DIRECTORY])
  return true
}

/** The kernel puts these into every new mount (bpf_preload). */
const PRELOADED = ['maps.debug', 'progs.debug']

/** Unmounts it, unless somebody has pinned something there in the meantime: that would be lost. */
export async function unmountBpffs(): Promise<void> {
  if (readdirSync(DIRECTORY).every((name) => PRELOADED.includes(name))) await must(['umount', DIRECTORY])
}
