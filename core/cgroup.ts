/** Where cgroup v2 is mounted. Hybrid hosts mount it beside v1, so nothing is assumed: /proc/self/mountinfo says it. */
import { readFileSync } from 'node:fs'
import { MerbridgeError } from './errors.ts'

/** mountinfo escapes space, tab, newline and backslash as \040 and so on (proc(5)). */
function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}

/** Mount points of cgroup v2 that show the hierarchy from its root, in the order of mounting. */
export function cgroupMounts(mountinfo: string): string[] {
  const mounts: string[] = []
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ')
    if (before === undefined || after === undefined || !after.startsWith('cgroup2 ')) continue
    const fields = before.split(' ')
    const root = fields[3]
    const mount = fields[4]
    if (root === '/' && mount !== undefined) mounts.push(unescapeMount(mount))
  }
  return mounts
}

/** The cgroup at which the programs are attached: the one of the config, else the root of cgroup v2. */
export function attachCgroup(configured: string): string {
  if (configured !== 'auto') return configured
  const [mount] = cgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'))
  if (mount === undefined) {
    throw new MerbridgeError(
      'KERNEL_UNSUPPORTED',
      'cgroup v2 is not mounted: connect() cannot be hooked',
      'mount it (mount -t cgroup2 none /sys/fs/cgroup/unified), or name a mount under attach.cgroup',
    )
  }
  return mount
}
