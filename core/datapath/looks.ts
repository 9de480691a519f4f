/** How often the agent reads an iterator of the datapath, and what it finds. */

/** Looking costs a twentieth of the time at most: milliseconds of rest for each that a look took. */
export const rest = 19

/** Milliseconds that may be spent at once after quiet times: what is told then is looked at at once. */
const saved = 20

/** How much may be spent on looking now; not positive: it has to wait. */
export class Allowance {
  /** Milliseconds, of any beginning. */
  readonly #now: () => number
  #spent = 0
  #at: number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
    this.#at = now()
  }

  #refill(): void {
    const now = this.#now()
    this.#spent = Math.max(0, this.#spent - (now - this.#at) / rest)
    this.#at = now
  }

  /** `milliseconds`: what a look took. Of those that came without asking for the pause, as for a view of the counters, only the last one counts. */
  spend(milliseconds: number): void {
    this.#refill()
    this.#spent = Math.min(this.#spent, saved) + milliseconds
  }

  /** Milliseconds until there may be another look. */
  pause(): number {
    this.#refill()
    return Math.max(0, (this.#spent - saved) * rest)
  }
}

/** A __u32 (write_mark in bpf/iterator.bpf.h) */
const markBytes = 4

/** How many an iterator has marked. */
export const marksIn = ({ length }: { readonly length: number }): number => Math.floor(length / markBytes)
