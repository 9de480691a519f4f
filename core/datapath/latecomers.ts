/** Joins sockets when they have shown how they are used, soon after they were first read, and lets them leave; and looks again once in a while. */
import { u64Codec } from '../codec.ts'
import { AccelAsk } from '../contract.ts'
import type { BpfMap, Handle, Native } from '../native/api.ts'
import { Allowance } from './looks.ts'

/** After the first reads of a socket, or when one wants to leave; those of others are taken together. */
const soonMs = 2
const [soon, later] = [BigInt(AccelAsk.SOON), BigInt(AccelAsk.LATER)]

/** After bytes have come by TCP behind redirected ones: most readers are there by then. */
const laterMs = 10
/**
 * Sockets that stay as they are (a blocking one does for its life) are looked at less and less often; but joined ones that turn to what they must not be, and only
 * read, leave when they are looked at.
 */
const longestPauseMs = 1000
/** When others come or go meanwhile. */
const usualPauseMs = 250
/** While readers may be busy, behind whose queue bytes have come by TCP: until so long after the last ones came, and so often. */
const busyMs = 10_000
const busyPauseMs = 100
/** When one has just asked, and could not join or leave yet. */
const shortestPauseMs = 10

export interface Watcher {
  /** How many sockets wait. */
  readonly look: () => Promise<number>
  /** There is something to look at soon: perhaps a socket whose program nobody has judged. */
  readonly asked: () => void
  /** A reader stands still in the namespace of this cookie. */
  readonly still: (netns: bigint) => void
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
  /** Only who may stand still was told of. */
  #later = false
  /** Of performance.now(): when that was, last. */
  #laterAt = Number.NEGATIVE_INFINITY
  /** How many waited when it was last looked; undefined: not looked yet. */
  #still: number | undefined
  #pauseMs = shortestPauseMs
  readonly #allowance = new Allowance()

  constructor(native: Native, readers: BpfMap, watcher: Watcher) {
    this.#native = native
    this.#readers = readers
    this.#watcher = watcher
  }

  begin(): void {
    this.#ring ??= this.#native.ringBuffer(this.#readers, (record) => {
      const told = u64Codec.decode(record)
      if (told === soon) {
        this.#asked = true
        this.#plan(soonMs)
        this.#watcher.asked()
      } else if (told === later) {
        this.#later = true
        this.#laterAt = performance.now()
        this.#plan(laterMs)
      } else {
        this.#watcher.still(told)
      }
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
    const [began, asked, later] = [performance.now(), this.#asked, this.#later]
    this.#asked = false
    this.#later = false
    try {
      let still = await this.#watcher.look()
      if (still > 0 && (asked || !later)) still = await this.#watcher.look() // of two ends that are ready, the second joins at once
      if (this.#still === undefined && still > 0) this.#laterAt = began // what waits may have been told of to an earlier agent
      const usual = still === this.#still ? longestPauseMs : usualPauseMs
      const longest = began - this.#laterAt < busyMs ? busyPauseMs : usual
      this.#pauseMs = asked ? shortestPauseMs : Math.min(longest, 2 * this.#pauseMs)
      this.#still = still
    } catch {
      this.#still = 1 // somebody has unpinned it, and it is put back
    }
    this.#allowance.spend(performance.now() - began)
    this.#plan(this.#asked ? soonMs : this.#later ? laterMs : (this.#still ?? 0) > 0 ? this.#pauseMs : longestPauseMs)
  }
}
