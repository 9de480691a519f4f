/**
 * At which directory of cgroup v2 the programs are attached, and whose connections they see there. Hybrid hosts mount v2 beside v1, containers see
 * parts of it, mounts hide each other: /proc/self/mountinfo says what there is, and the directory itself what it is.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, realpathSync } from 'node:fs'
import { relative } from 'node:path'
import { MerbridgeError } from './errors.ts'

export interface CgroupMount {
  readonly id: number
  readonly path: string
  /** What it shows, relative to the root of the reader's cgroup namespace: "/", "/kubepods", and "/../.." for what is above that root. */
  readonly root: string
}

export interface AttachPoint {
  readonly path: string
  /** everything: the root of the hierarchy; namespace: the best that `auto` could see; named: a part of it that the config names */
  readonly reach: 'everything' | 'namespace' | 'named'
  /** The same directory as /proc/PID/cgroup would write it; absent: it is on a mount that this process cannot see */
  readonly cgroup?: string
  /** The path with what it means, for `merbridge status` */
  readonly detail: string
}

/** Inode of a directory, and the id of the mount on which it is reached. */
export interface Seen {
  readonly inode: number
  readonly mount: number
}

/** kernfs gives its root the first number; a cgroup's id is the inode number of its directory, so the root's is 1 in every namespace. */
const ROOT_INODE = 1

/** mountinfo escapes space, tab, newline and backslash as \040 and so on (proc(5)). */
function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}

/** All mounts of cgroup v2, hidden ones too, in the order of mounting. */
export function cgroupMounts(mountinfo: string): CgroupMount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ')
    const [id, , , root, path] = before?.split(' ') ?? []
    if (root === undefined || path === undefined || !after?.startsWith('cgroup2 ')) return []
    return [{ id: Number(id), path: unescapeMount(path), root: unescapeMount(root) }]
  })
}

/** How many levels above the root of the cgroup namespace it begins. */
const climb = (cgroup: string): number => (/^(\/\.\.(?=\/|$))*/.exec(cgroup)?.[0].length ?? 0) / 3

/** The names after the levels that go up; '' for the namespace's root and for an ancestor of it. */
const below = (cgroup: string): string => cgroup.slice(3 * climb(cgroup)).replace(/^\/$/, '')

/**
 * Whether processes of `cgroup` (a line of /proc/PID/cgroup) are seen by programs at `attached`. Both are relative to the namespace's root, and the
 * kernel writes what is outside with as few ".." as it can: a cgroup beside an ancestor has no single name. undefined: cannot be told.
 */
export function holds(attached: string, cgroup: string): boolean | undefined {
  const names = below(attached)
  if (names === '') return climb(cgroup) <= climb(attached)
  if (climb(attached) > 0) return undefined
  return cgroup === attached || cgroup.startsWith(`${attached}/`)
}

/** The visible mount that reaches highest: the root of the hierarchy where one shows it. Branches, own or others', are not for `auto`. */
export function chooseMount(mounts: readonly CgroupMount[], look: (path: string) => Seen | undefined): CgroupMount | undefined {
  const visible = mounts.filter(({ id, path }) => look(path)?.mount === id) // another id: a later mount hides it
  const ancestors = visible.filter(({ root }) => below(root) === '')
  return ancestors.sort((a, b) => climb(b.root) - climb(a.root))[0] // sort is stable: the first of equals
}

function look(path: string): Seen | undefined {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch {
    return undefined // gone, unreachable or no directory; whether that matters is for the caller to say
  }
  try {
    const mount = /^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]
    return { inode: fstatSync(fd).ino, mount: Number(mount) }
  } finally {
    closeSync(fd)
  }
}

/** Controllers of v1 that tag sockets, from the table in /proc/cgroups: a hierarchy's number other than 0 means v1. */
export function socketTags(table: string): string[] {
  return [...table.matchAll(/^(net_cls|net_prio)\s+([1-9]\d*)\s/gm)].map(([, name = '']) => name)
}

/**
 * Before Linux 5.15 a socket had room for its cgroup or for v1's tags: once a classid or a priority was used, new sockets counted for the root of v2,
 * whatever their process's cgroup. The function that switched over went with the fix (8520e224f547; Debian's 5.10.262 has it too), and its name from BTF.
 */
function tagsWarning(): string {
  try {
    const tags = socketTags(readFileSync('/proc/cgroups', 'utf8'))
    if (tags.length === 0 || !readFileSync('/sys/kernel/btf/vmlinux').includes('\0cgroup_sk_alloc_disable\0')) return ''
    return `; cgroup v1's ${tags.join(' and ')} is mounted: once it is used, this kernel counts sockets for the root, and none is intercepted here`
  } catch {
    return '' // no such table: this kernel has no v1
  }
}

const meanings: Readonly<Record<AttachPoint['reach'], string>> = {
  everything: 'root of the hierarchy',
  namespace: 'root of this cgroup namespace only: processes outside are not intercepted',
  named: 'a part of the hierarchy: processes outside are not intercepted',
}

/** What it means to attach at a directory. One that does not exist is left to `requireCgroup`, which says it better. */
export function attachPoint(path: string, mounts: readonly CgroupMount[], otherwise: 'namespace' | 'named' = 'named'): AttachPoint {
  const seen = look(path)
  if (seen === undefined) return { path, reach: otherwise, detail: path }
  const reach = seen.inode === ROOT_INODE ? 'everything' : otherwise
  const mount = mounts.find(({ id }) => id === seen.mount)
  const inside = mount && relative(mount.path, realpathSync(path))
  const cgroup = mount && `${mount.root}/${inside}`.replace(/\/+/g, '/').replace(/(.)\/$/, '$1')
  const checked = cgroup !== undefined && (below(cgroup) === '' || climb(cgroup) === 0)
  const notes = reach === 'everything' ? '' : `${checked ? '' : '; which these are cannot be told from here'}${tagsWarning()}`
  const meaning = meanings[reach === 'namespace' && cgroup !== '/' ? 'named' : reach] // an ancestor of the namespace's root
  return { path, reach, ...(cgroup === undefined ? {} : { cgroup }), detail: `${path} (${meaning}${notes})` }
}

/** Where the programs are attached: at the directory that the config names, else at the highest that can be seen. */
export function attachCgroup(configured: string): AttachPoint {
  const mounts = cgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'))
  if (configured !== 'auto') return attachPoint(configured, mounts)
  const mount = chooseMount(mounts, look)
  if (mount !== undefined) return attachPoint(mount.path, mounts, 'namespace')
  if (mounts.length === 0) {
    throw new MerbridgeError(
      'KERNEL_UNSUPPORTED',
      'cgroup v2 is not mounted: connect() cannot be hooked',
      'mount it (mount -t cgroup2 none /sys/fs/cgroup/unified), or name a mount under attach.cgroup',
    )
  }
  throw new MerbridgeError(
    'KERNEL_UNSUPPORTED',
    `no mount of cgroup v2 shows its root, only parts of it or what other mounts hide: ${mounts.map(({ path }) => path).join(', ')}`,
    "mount the host's cgroup v2 into the agent's container, or name the directory that holds the pods under attach.cgroup",
  )
}
