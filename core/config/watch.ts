/**
 * Calls back when a config's content has changed, however it came about: edited in place, renamed over, removed and made again, or by the
 * kubelet, which swaps the `..data` link beside it. A burst of changes is one change, and touching the file is none.
 */
import { resolve } from 'node:path'
import { watch } from 'chokidar'
import { type Content, digest } from './load.ts'
import { readSource } from './source.ts'

/** Milliseconds without an event after which a burst is over. */
const quiet = 250
/** Milliseconds after which a burst that does not end is looked at all the same. */
const patience = 1000
/** Milliseconds between two looks where the kernel has no more watches to give. */
const pollInterval = 2000

export interface WatchOptions {
  /**
   * What the caller read last. It may have read something else than what it was called for, and again without being called; what counts is whether
   * the file still says that. Absent: what the file said when the watch began, and then what `onChange` was called for.
   */
  readonly known?: () => Content
  /** The kernel gives no watches (fs.inotify limits); the file is polled instead. */
  readonly onDegraded?: (error: Error) => void
}

async function contentOf(path: string): Promise<Content> {
  try {
    return digest(await readSource(path))
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

class Burst {
  private readonly settled: () => void
  private quietTimer: NodeJS.Timeout | undefined
  private patienceTimer: NodeJS.Timeout | undefined

  constructor(settled: () => void) {
    this.settled = settled
  }

  readonly event = (): void => {
    clearTimeout(this.quietTimer)
    this.quietTimer = setTimeout(this.end, quiet)
    this.patienceTimer ??= setTimeout(this.end, patience)
  }

  readonly cancel = (): void => {
    clearTimeout(this.quietTimer)
    clearTimeout(this.patienceTimer)
    this.patienceTimer = undefined
  }

  private readonly end = (): void => {
    this.cancel()
    this.settled()
  }
}

/** The file and the directories above it, in case they are not there yet; nothing below, should the path be a directory. */
function beginWatching(path: string, onEvent: () => void, onError: (error: unknown) => void) {
  const ignored = (other: string) => other !== path && !path.startsWith(other.endsWith('/') ? other : `${other}/`)
  const watcher = watch(path, { ignored, ignoreInitial: true, atomic: false })
  watcher.on('all', onEvent).on('raw', onEvent).on('error', onError)
  return { watcher, ready: new Promise<void>((done) => watcher.once('ready', done)) }
}

/**
 * Resolves when the watch is in place; it ends with the signal. `onChange` is called after the content has changed, and also when the file has
 * gone or has come; it must not throw. It is not called again until it has ended, and then the file is looked at once more.
 */
export async function watchConfig(path: string, onChange: () => unknown, signal: AbortSignal, options: WatchOptions = {}): Promise<void> {
  const absolute = resolve(path)
  let seen = options.known === undefined ? await contentOf(absolute) : ''
  const known = options.known ?? (() => seen)
  let looking = Promise.resolve()
  const look = async () => {
    const content = await contentOf(absolute)
    if (signal.aborted || content === known()) return
    seen = content
    await onChange()
    if (!signal.aborted) burst.event()
  }
  const burst = new Burst(() => {
    looking = looking.then(look)
  })
  const degraded = (error: unknown) => {
    if (polling !== undefined || signal.aborted) return
    polling = setInterval(burst.event, pollInterval)
    options.onDegraded?.(error instanceof Error ? error : new Error(String(error)))
  }
  let polling: NodeJS.Timeout | undefined
  const { watcher, ready } = beginWatching(absolute, burst.event, degraded)
  const end = () => {
    burst.cancel()
    clearInterval(polling)
    void watcher.close()
  }
  if (signal.aborted) return end()
  signal.addEventListener('abort', end, { once: true })
  await ready
  // What changed between the caller's reading and the watch.
  burst.event()
}
