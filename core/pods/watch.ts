/**
 * What is in the listed pods' namespaces, kept up to date at little cost: the kernel tells which of them changed (an address, a route, a link), and
 * only those are read again. Whether a path leads to another namespace, or to none any more, nobody tells: every look asks for its inode, 1 or
 * 2 us for each path.
 *
 * A watch keeps its namespace alive. That makes the inode a name that cannot change its meaning while it is watched; and it is why a look closes
 * the watch of a path that is gone, so that the namespace can end.
 */
import { readFileSync, statSync } from 'node:fs'
import type { StaticPod } from '../config/schema.ts'
import type { Log } from '../datapath/datapath.ts'
import type { Handle, NamespaceState, Namespaces, NativeError } from '../native/api.ts'
import { type Placement, podAddresses, type Snapshot, takeSnapshot } from './static.ts'

/** Every so many looks all namespaces are read, in case the kernel lost or never sent a message. */
const readAllEvery = 30
/** Milliseconds from the end of one call of `onChange` to the next, at least. */
const pace = 100
/** A namespace with more routes than a pod needs is read once a second however often they change: it must not keep the agent from the others. */
const manyRoutes = 4096
/** So many addresses of a pod are remembered. */
const mostAddresses = 64
/** Descriptors that watches leave to everything else that the agent opens. */
const reserve = 160

/** What is known of a path. */
interface Known {
  /** undefined: no namespace is there. */
  inode: number | undefined
  result?: NamespaceState | NativeError
  watch?: Handle | undefined
  /** Something happened in the namespace since it was read. */
  changed: boolean
}

/** What could not be read is tried again. */
function hasState({ result }: Known): boolean {
  return result !== undefined && !(result instanceof Error) && !(result.users instanceof Error)
}

/** The soft limit of this process. */
function descriptorLimit(): number {
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
  return limit === undefined ? Number.POSITIVE_INFINITY : Number(limit)
}

export class PodWatch implements Disposable {
  readonly #namespaces: Namespaces
  readonly #onChange: () => Promise<void>
  readonly #log: Log
  readonly #node = statSync('/proc/self/ns/net').ino
  readonly #known = new Map<string, Known>()
  /** By netns cookie, in the order in which they were seen. */
  readonly #everSeen = new Map<bigint, readonly string[]>()
  #looks = 0
  #warned = false
  #closed = false
  /** Something has changed since the last call. */
  #due = false
  /** Set until the call that it makes has ended. */
  #timer: NodeJS.Timeout | undefined
  #lastCall = Number.NEGATIVE_INFINITY

  /** `onChange`: another look would find something new. It is called again when it has ended, at the earliest, and must not reject. */
  constructor(namespaces: Namespaces, onChange: () => Promise<void>, log: Log) {
    this.#namespaces = namespaces
    this.#onChange = onChange
    this.#log = log
  }

  /** One after the other: a look must have ended before the next begins. */
  async look(pods: readonly StaticPod[]): Promise<Snapshot> {
    const readAll = ++this.#looks % readAllEvery === 0
    await this.#identify(new Set(pods.map((pod) => pod.netns)))
    const stale = [...this.#known].filter(([, known]) => readAll || known.changed || !hasState(known) || !this.#isQuiet(known))
    await this.#watchAll(stale) // before they are read, so that what happens meanwhile is not missed
    for (const [, known] of stale) known.changed = false
    const results = await this.#namespaces.inspect(stale.map(([path]) => path))
    for (const [index, [, known]] of stale.entries()) known.result = results[index] as NamespaceState | NativeError // one result for each path
    const states = pods.map((pod) => this.#known.get(pod.netns)?.result as NamespaceState | NativeError) // each has been read at least once
    const { placements, signature } = takeSnapshot(pods, states, this.#node)
    return { placements: this.#rememberAddresses(placements), signature }
  }

  /**
   * A mesh decides by the pod's addresses whether it captures IPv6, once, when the pod starts. An address that goes away for a moment, or for good, must
   * not take the capture with it; one that comes later may add to it.
   */
  #rememberAddresses(placements: readonly Placement[]): Placement[] {
    const before = new Map(this.#everSeen)
    this.#everSeen.clear()
    return placements.map((placement) => {
      if (!('state' in placement)) return placement
      const { cookie } = placement.state
      const everSeen = [...new Set([...(before.get(cookie) ?? []), ...podAddresses(placement.state)])].slice(0, mostAddresses)
      this.#everSeen.set(cookie, everSeen)
      return { ...placement, everSeen }
    })
  }

  /** Twice is a no-op. A look that is under way ends, and leaves no watch. */
  [Symbol.dispose](): void {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const known of this.#known.values()) known.watch?.close()
  }

  /** What is not listed any more is forgotten; so is what was known of a path that leads elsewhere now. */
  async #identify(listed: ReadonlySet<string>): Promise<void> {
    const paths = [...listed]
    const inodes = await this.#namespaces.inodes(paths)
    const now = new Map(paths.map((path, index) => [path, inodes[index]]))
    for (const [path, known] of this.#known) {
      if (listed.has(path) && known.inode === now.get(path)) continue
      known.watch?.close()
      this.#known.delete(path)
    }
    for (const [path, inode] of now) if (!this.#known.has(path)) this.#known.set(path, { inode, changed: false })
  }

  /** The kernel tells when it changes; or it is the node's own namespace, of which only that it is this one matters. */
  #isQuiet(known: Known): boolean {
    return known.watch !== undefined || known.inode === this.#node
  }

  async #watchAll(places: readonly (readonly [string, Known])[]): Promise<void> {
    const unwatched = places.filter(([, known]) => known.inode !== undefined && !this.#isQuiet(known))
    if (unwatched.length === 0) return
    const most = descriptorLimit() - reserve
    await Promise.all(unwatched.map(([path, known]) => this.#watch(path, known, most)))
  }

  async #watch(path: string, known: Known, most: number): Promise<void> {
    try {
      const watch = await this.#namespaces.watch(path, () => this.#changed(known))
      if (!this.#closed && watch.fd < most) known.watch = watch
      else watch.close()
      if (!this.#closed && known.watch === undefined) this.#warn(path, 'the limit of open files is near')
    } catch (error) {
      // A path that is gone, or no network namespace: reading it says so, and says it better.
      const { code, message } = error as NativeError
      if (code !== 'ENOENT' && code !== 'EINVAL') this.#warn(path, message)
    }
  }

  #warn(path: string, reason: string): void {
    if (this.#warned) return
    this.#warned = true
    this.#log('warn', 'a network namespace cannot be watched; it, and others like it, are read once a second instead', { path, reason })
  }

  #changed(known: Known): void {
    known.changed = true
    if (known.result !== undefined && !(known.result instanceof Error) && known.result.routes.length > manyRoutes) return
    this.#due = true
    this.#schedule()
  }

  #schedule(): void {
    if (this.#timer !== undefined || !this.#due || this.#closed) return
    const wait = Math.max(0, this.#lastCall + pace - performance.now())
    this.#timer = setTimeout(() => void this.#call(), wait).unref()
  }

  /** What happens during a call is for the next one. */
  async #call(): Promise<void> {
    this.#due = false
    await this.#onChange()
    this.#lastCall = performance.now()
    this.#timer = undefined
    this.#schedule()
  }
}
