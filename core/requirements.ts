/** What must be there before anything is loaded: rights, cgroup v2, a BPF file system. Each missing necessity is an error with the way out. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { makeDirectory } from './directories.ts'
import { MerbridgeError } from './errors.ts'
import type { Native } from './native/api.ts'

export const BPF_FS_MAGIC = 0xcafe4a11
/** statfs(2).f_type of cgroup v2 */
export const CGROUP2_MAGIC = 0x63677270
/** CAP_SYS_ADMIN, CAP_NET_ADMIN: without either nothing can be loaded or entered. */
const NEEDED_CAPABILITIES = [
  [21, 'CAP_SYS_ADMIN'],
  [12, 'CAP_NET_ADMIN'],
] as const

export function requireCapabilities(): void {
  const status = readFileSync('/proc/self/status', 'utf8')
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`)
  const missing = NEEDED_CAPABILITIES.filter(([bit]) => (effective & (1n << BigInt(bit))) === 0n).map(([, name]) => name)
  if (missing.length === 0) return
  throw new MerbridgeError(
    'NOT_PERMITTED',
    `this process may not load BPF programs or enter namespaces: ${missing.join(', ')} missing`,
    'run as root (sudo merbridge ...), in a container with these capabilities or privileged',
  )
}

/** A cgroup directory that is not cgroup v2 would make every attach fail with EBADF, which says nothing. */
export function requireCgroup(native: Native, cgroup: string): void {
  if (!statSync(cgroup, { throwIfNoEntry: false })?.isDirectory() || native.filesystemType(cgroup) !== CGROUP2_MAGIC) {
    throw new MerbridgeError(
      'KERNEL_UNSUPPORTED',
      `${cgroup} is not a directory of cgroup v2`,
      'set attach.cgroup to one (grep cgroup2 /proc/self/mountinfo shows the mounts), or leave it at auto',
    )
  }
}

/** The file system that shall hold the pins. /sys/fs/bpf is mounted when nothing is there; any other place is the operator's. */
export function requireBpffs(native: Native, directory: string): void {
  const parent = dirname(directory)
  const isBpffs = (): boolean => existsSync(parent) && native.filesystemType(parent) === BPF_FS_MAGIC
  if (isBpffs()) return
  try {
    if (parent === '/sys/fs/bpf' && existsSync(parent)) native.mountBpffs(parent)
    else if (native.filesystemType('/sys/fs/bpf') === BPF_FS_MAGIC && parent.startsWith('/sys/fs/bpf/')) makeDirectory(parent, 0o700)
  } catch (cause) {
    throw new MerbridgeError('BPFFS_UNUSABLE', `cannot mount a BPF file system at ${parent}`, 'run "mount -t bpf bpf /sys/fs/bpf" on the node', cause)
  }
  if (isBpffs()) return
  throw new MerbridgeError(
    'BPFFS_UNUSABLE',
    `${parent} is not on a BPF file system, so nothing can be pinned there`,
    'run "mount -t bpf bpf /sys/fs/bpf", and let attach.bpffs be a directory below it',
  )
}

/** What is on another file system is not ours to remove, whatever its name. */
export function requirePins(native: Native, directory: string): void {
  requireCapabilities()
  if (!existsSync(directory) || native.filesystemType(directory) === BPF_FS_MAGIC) return
  throw new MerbridgeError(
    'BPFFS_UNUSABLE',
    `${directory} is not on a BPF file system, so no datapath is pinned there; nothing was removed`,
    'correct attach.bpffs, or name the directory with --bpffs',
  )
}

/** Everything that must be there before anything is loaded. */
export function requireKernel(native: Native, cgroup: string, bpffs: string): void {
  requireCapabilities()
  requireCgroup(native, cgroup)
  requireBpffs(native, bpffs)
}
