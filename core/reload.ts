/**
 * Reloads one at a time, whoever asks: a file watch, SIGHUP, the control socket. Two at once could finish in the wrong order, and the older text would stay in
 * force. Whoever asks while one is under way gets the next one, which reads the file after it was asked for; everybody who asks meanwhile shares it.
 */
export class Reloads {
  readonly #work: () => Promise<void>
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  /** `work` must not reject. */
  constructor(work: () => Promise<void>) {
    this.#work = work
  }

  /** Resolves when a reload has ended that began after this call. */
  request(): Promise<void> {
    if (this.#running === undefined) return this.#begin()
    this.#next ??= this.#running.then(() => {
      this.#next = undefined
      return this.#begin()
    })
    return this.#next
  }

  #begin(): Promise<void> {
    const run = this.#work().finally(() => {
      if (this.#running === run) this.#running = undefined
    })
    this.#running = run
    return run
  }
}
