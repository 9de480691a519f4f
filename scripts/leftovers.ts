/**
 * What a run must not leave behind on the machine: BPF programs, links, maps and pins, network namespaces and interfaces, cgroups, processes,
 * sockets and temporary directories of ours. A snapshot before, a comparison after. Something new is ignored only when it is proven to belong to
 * somebody else: see `foreign`.
 */
import { execFile, execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

interface Thing {
  /** Unique as long as the thing exists: "program 12", "cgroup /sys/fs/cgroup/x". */
  readonly key: string
  /** What a person wants to know beside the key. */
  readonly detail: string
  /** Processes that hold it, when that is known. */
  readonly holders: readonly number[]
}

/** Set in the environment of every process of a run by scripts/with-setup.sh, and inherited by what it starts. */
export const RUN_VARIABLE = 'MERBRIDGE_RUN'

/** How often and how long the kernel gets to free what was closed last: it waits for RCU grace periods. */
const ATTEMPTS = 20
const PAUSE_MS = 250
const MAX_DEPTH = 16

const cache = join(import.meta.dirname, '../.cache/')

function attempt<T>(read: () => T, otherwise: T): T {
  try {
    return read()
  } catch {
    return otherwise // no such file, or gone while we looked
  }
}

const entries = (directory: string) => attempt(() => readdirSync(directory, { withFileTypes: true }), [])
const text = (path: string) => attempt(() => readFileSync(path, 'utf8'), '')
const link = (path: string) => attempt(() => readlinkSync(path), '')

function below(directory: string, depth = 0): string[] {
  if (depth > MAX_DEPTH) return []
  return entries(directory).flatMap((entry) => {
    const path = join(directory, entry.name)
    return entry.isDirectory() ? [path, ...below(path, depth + 1)] : [path]
  })
}

/** The words of each line of /proc/self/mounts: device, mount point, type. */
const mounts = () =>
  text('/proc/self/mounts')
    .split('\n')
    .map((line) => line.split(' '))

const plain = (key: string, detail = ''): Thing => ({ key, detail, holders: [] })

interface BpfThing {
  readonly id: number
  readonly type?: string
  readonly name?: string
  readonly prog_id?: number
  readonly pids?: readonly { readonly pid: number }[]
}

async function bpfThings(kind: 'prog' | 'link' | 'map'): Promise<Thing[]> {
  const { stdout } = await promisify(execFile)('bpftool', ['-j', kind, 'show'], { maxBuffer: 64 << 20, timeout: 30_000 })
  return (JSON.parse(stdout) as readonly BpfThing[])
    .filter(({ name, type }) => !name?.startsWith('sd_') && type !== 'cgroup_device') // systemd's and the container runtimes' own
    .map(({ id, type = '', name = '', prog_id, pids = [] }) => ({
      key: `BPF ${kind} ${id}`,
      detail: [type, name, prog_id === undefined ? '' : `program ${prog_id}`].filter(Boolean).join(' '),
      holders: pids.map(({ pid }) => pid),
    }))
}

function cgroups(): Thing[] {
  const roots = mounts().flatMap(([, path, type]) => (type === 'cgroup2' && path !== undefined ? [path] : []))
  const directories = (path: string, depth = 0): string[] =>
    entries(path)
      .filter((entry) => entry.isDirectory() && depth < MAX_DEPTH)
      .flatMap((entry) => [join(path, entry.name), ...directories(join(path, entry.name), depth + 1)])
  return roots
    .flatMap((root) => directories(root))
    .map((path) => ({ key: `cgroup ${path}`, detail: '', holders: text(`${path}/cgroup.procs`).split('\n').filter(Boolean).map(Number) }))
}

/** Processes of a run: those that carry its mark, and those whose program file set-up has put into this checkout. */
function processes(): Thing[] {
  return entries('/proc').flatMap(({ name }) => {
    const pid = Number(name)
    if (!Number.isInteger(pid) || foreign(pid) || pid === process.pid) return []
    const command = text(`/proc/${name}/cmdline`).replaceAll('\0', ' ').trim()
    const state = text(`/proc/${name}/stat`).split(') ')[1] ?? ''
    return command === '' || state.startsWith('Z') ? [] : [plain(`process ${pid}`, command)]
  })
}

/**
 * True when the process is surely not of this run: it has another run's mark; or it has none and either its program is not one that set-up put
 * into this checkout, or it was started by such a process that still lives. (What a run leaves behind belongs to init.)
 */
function foreign(pid: number): boolean {
  if (pid === process.pid) return false
  const mark = text(`/proc/${pid}/environ`)
    .split('\0')
    .find((line) => line.startsWith(`${RUN_VARIABLE}=`))
  if (mark !== undefined) return mark !== `${RUN_VARIABLE}=${process.env[RUN_VARIABLE] ?? ''}`
  if (!link(`/proc/${pid}/exe`).startsWith(cache)) return true
  const parent = Number(text(`/proc/${pid}/stat`).split(') ')[1]?.split(' ')[1] ?? 1)
  return parent > 1 && foreign(parent)
}

/** Other users of the machine put files there too; scripts/rings.ts gives each run a directory of its own. */
const temporary = () => entries(tmpdir()).map(({ name }) => plain(`temporary ${join(tmpdir(), name)}`))

/** The kernel puts these into every new mount of bpffs (bpf_preload). */
const preloaded = ['/sys/fs/bpf/maps.debug', '/sys/fs/bpf/progs.debug']

function files(): Thing[] {
  const strange = mounts().filter(([, path, type]) => (type === 'bpf' && path !== '/sys/fs/bpf') || (type === 'nsfs' && !path?.includes('/netns/')))
  return [
    ...below('/run/merbridge').map((path) => plain(`file ${path}`)),
    ...below('/var/lib/merbridge').map((path) => plain(`file ${path}`)),
    ...below('/sys/fs/bpf')
      .filter((path) => !preloaded.includes(path))
      .map((path) => plain(`pin ${path}`)),
    ...strange.map(([, path]) => plain(`mount ${path}`)),
  ]
}

/** What the datapath adds to lo of pods, seen at the node's own lo and in namespaces with a name that were there before. */
function atLoopbacks(): Thing[] {
  const spaces = entries('/run/netns').map(({ name }) => name)
  const tell = (name: string | undefined, ...words: string[]) => {
    const where = name === undefined ? [] : ['-n', name]
    return attempt(() => execFileSync(words[0] ?? '', [...where, ...words.slice(1)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }), '')
  }
  return [undefined, ...spaces].flatMap((name) => {
    const place = name === undefined ? 'the node' : `network namespace ${name}`
    const addresses = [...tell(name, 'ip', '-6', '-o', 'address', 'show', 'dev', 'lo').matchAll(/inet6 (\S+)/g)].map(
      ([, address]) => `address ${address}`,
    )
    const routes = tell(name, 'ip', '-6', 'route', 'show', 'table', 'local', 'dev', 'lo', 'proto', '109')
      .split('\n')
      .filter(Boolean)
      .map((line) => `route ${line.trim()}`)
    const filters = tell(name, 'tc', 'filter', 'show', 'dev', 'lo', 'egress').includes('merbridge') ? ['filter merbridge'] : []
    return [...addresses, ...routes, ...filters].map((what) => plain(`${what} at lo of ${place}`))
  })
}

/** What only tests that need the kernel can leave, and what other programs of the machine make and remove as well. */
async function kernelThings(): Promise<Thing[]> {
  const bpf = await Promise.all([bpfThings('prog'), bpfThings('link'), bpfThings('map')])
  return [
    ...bpf.flat(),
    ...files(),
    ...cgroups(),
    ...atLoopbacks(),
    ...entries('/run/netns').map(({ name }) => plain(`network namespace ${name}`)),
    ...entries('/sys/class/net').map(({ name }) => plain(`network interface ${name}`)),
  ]
}

const things = async (kernel: boolean): Promise<Thing[]> => [...(kernel ? await kernelThings() : []), ...temporary(), ...processes()]

export interface Snapshot {
  readonly kernel: boolean
  readonly keys: ReadonlySet<string>
}

/** `kernel`: also what only root can see and only tests with the kernel can leave. */
export async function snapshot(kernel: boolean): Promise<Snapshot> {
  return { kernel, keys: new Set((await things(kernel)).map(({ key }) => key)) }
}

/** One line for each thing that was not there `before` and has not gone within a few seconds. */
export async function leftovers(before: Snapshot): Promise<string[]> {
  let left: Thing[] = []
  for (let tries = 0; tries < ATTEMPTS; tries++) {
    if (tries > 0) await sleep(PAUSE_MS)
    left = (await things(before.kernel)).filter(({ key, holders }) => !before.keys.has(key) && !(holders.length > 0 && holders.every(foreign)))
    if (left.length === 0) break
  }
  return left.map(({ key, detail }) => `${key} ${detail}`.trimEnd())
}
