/** Joins sockets when they have shown how they are used, soon after they were first read, and lets them leave; and looks again once in a while. */
import { readFile } from 'node:fs/promises'
import { u64Codec } from '../codec.ts'
import type { BpfMap, Handle, Native } from '../native/api.ts'
import type { Layout } from './layout.ts'
import { marksIn, rest } from './looks.ts'

/** After the first read of a socket; those of others are taken together. */
const soonMs = 20
/**
 * Sockets that stay as they are (a blocking one does for its life) are looked at less and less often; but joined ones that turn to what they must not be, and only
 * read, leave when they are looked at.
 */
const longestPauseMs = 1000
const shortestPauseMs = 250

export class Latecomers implements Disposable {
  readonly #native: Native
  readonly #layout: Layout
  readonly #readers: BpfMap
  readonly #told: (netns: bigint) => void
  #ring: Handle | undefined
  #timer: NodeJS.Timeout | undefined
  /** Of performance.now(): when the timer fires. */
  #due = Number.POSITIVE_INFINITY
  #looking: Promise<void> | undefined
  #still = 0
  #pauseMs = shortestPauseMs
  #notBefore = 0

  /** `told`: something has happened in this namespace, a first read or bytes that are behind. */
  constructor(native: Native, layout: Layout, readers: BpfMap, told: (netns: bigint) => void) {
    this.#native = native
    this.#layout = layout
    this.#readers = readers
    this.#told = told
  }

  begin(): void {
    this.#ring ??= this.#native.ringBuffer(this.#readers, (record) => {
      this.#plan(soonMs)
      this.#told(u64Codec.decode(record))
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
    const due = Math.max(performance.now() + delayMs, this.#notBefore)
    if (due >= this.#due) return
    clearTimeout(this.#timer)
    this.#due = due
    this.#timer = setTimeout(() => void this.look(), due - performance.now())
    this.#timer.unref()
  }

  /** Once a second, while something is joined: what must leave is not seen otherwise, when it only reads. */
  async mend(): Promise<void> {
    if (performance.now() >= this.#notBefore) await this.look()
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
    const began = performance.now()
    try {
      await this.#read() // of two ends that are ready, the second joins at once
      const still = await this.#read()
      this.#pauseMs = still !== this.#still ? shortestPauseMs : Math.min(longestPauseMs, 2 * this.#pauseMs)
      this.#still = still
    } catch {
      this.#still = 1 // somebody has unpinned it, and it is put back
    }
    this.#notBefore = performance.now() + rest * (performance.now() - began)
    this.#plan(this.#still > 0 ? this.#pauseMs : longestPauseMs)
  }

  /** How many sockets wait. */
  async #read(): Promise<number> {
    return marksIn(await readFile(this.#layout.acceleration('late')))
  }
}
