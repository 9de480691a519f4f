/** Joins sockets when they have shown how they are used, soon after they were first read, and lets them leave; and looks again once in a while. */
import { u64Codec } from '../codec.ts'
import type { BpfMap, Handle, Native } from '../native/api.ts'
import { Allowance } from './looks.ts'

/** After the first reads of a socket, or when one wants to leave; those of others are taken together. */
const soonMs = 2
/**
 * Sockets that stay as they are (a blocking one does for its life) are looked at less and less often; but joined ones that turn to what they must not be, and only
 * read, leave when they are looked at.
 */
const longestPauseMs = 1000
/** When others come or go meanwhile. */
const usualPauseMs = 250
/** When one has just asked, and could not join or leave yet. */
const shortestPauseMs = 10

export interface Watcher {
  /** How many sockets wait. */
  readonly look: () => Promise<number>
  /** With the cookie of a namespace where a reader is behind; with 0 when there is something to look at. */
  readonly told: (netns: bigint) => void
}

export class Latecomers implements Disposable {
  readonly #native: Native
  readonly #readers: BpfMap
  readonly #watcher: Watcher
  #ring: Handle | undefined
  #timer: NodeJS.Timeout | undefined
  /** Of performance.now(): when the timer fires. */
  #due = Number.POSITIVE_INFINITY
  #looking: Promise<void> | undefined
  #asked = false
  #still = 0
  #pauseMs = shortestPauseMs
  readonly #allowance = new Allowance()

  constructor(native: Native, readers: BpfMap, watcher: Watcher) {
    this.#native = native
    this.#readers = readers
    this.#watcher = watcher
  }

  begin(): void {
    this.#ring ??= this.#native.ringBuffer(this.#readers, (record) => {
      const netns = u64Codec.decode(record)
      if (netns === 0n) {
        this.#asked = true
        this.#plan(soonMs)
      }
      this.#watcher.told(netns)
    })
    this.#plan(longestPauseMs) // an earlier agent may have joined some
  }

  [Symbol.dispose](): void {
    this.#ring?.close()
    this.#ring = undefined
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#due = Number.POSITIVE_INFINITY
  }

  #plan(delayMs: number): void {
    if (this.#ring === undefined) return
    const due = performance.now() + Math.max(delayMs, this.#allowance.pause())
    if (due >= this.#due) return
    clearTimeout(this.#timer)
    this.#due = due
    this.#timer = setTimeout(() => {
      this.#due = Number.POSITIVE_INFINITY // also when a look lasts already, which plans the next one
      void this.look()
    }, due - performance.now())
    this.#timer.unref()
  }

  /** Once a second, while something is joined: what must leave is not seen otherwise, when it only reads. */
  async mend(): Promise<void> {
    if (this.#allowance.pause() === 0) await this.look()
  }

  /** Now. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async #look(): Promise<void> {
    clearTimeout(this.#timer)
    this.#due = Number.POSITIVE_INFINITY
    const [began, asked] = [performance.now(), this.#asked]
    this.#asked = false
    try {
      await this.#watcher.look() // of two ends that are ready, the second joins at once
      const still = await this.#watcher.look()
      this.#pauseMs = asked ? shortestPauseMs : Math.min(still === this.#still ? longestPauseMs : usualPauseMs, 2 * this.#pauseMs)
      this.#still = still
    } catch {
      this.#still = 1 // somebody has unpinned it, and it is put back
    }
    this.#allowance.spend(performance.now() - began)
    this.#plan(this.#asked ? soonMs : this.#still > 0 ? this.#pauseMs : longestPauseMs)
  }
}
