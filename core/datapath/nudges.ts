/**
 * Has readers told again that wait for bytes which they were told of already (bpf/nudge.bpf.c). The iterator sees the namespace in which it is read, and walks
 * all of its sockets; so it is read once for each time that mb_late has found a reader there that stands still.
 */
import { rest } from './looks.ts'

export class Nudges implements Disposable {
  readonly #look: (netns: bigint) => Promise<void>
  /** In the order in which they were told. */
  readonly #waiting = new Set<bigint>()
  #timer: NodeJS.Timeout | undefined
  #looking = false
  #ended = false
  #notBefore = 0

  constructor(look: (netns: bigint) => Promise<void>) {
    this.#look = look
  }

  /** A reader stands still in this namespace. */
  tell(netns: bigint): void {
    this.#waiting.add(netns)
    this.#plan()
  }

  #plan(): void {
    clearTimeout(this.#timer)
    if (this.#ended || this.#looking || this.#waiting.size === 0) return
    this.#timer = setTimeout(() => void this.#next(), Math.max(0, this.#notBefore - performance.now()))
    this.#timer.unref()
  }

  /** One namespace. What is told meanwhile is looked at after it. */
  async #next(): Promise<void> {
    const [netns] = this.#waiting
    if (netns === undefined) return
    this.#waiting.delete(netns)
    const began = performance.now()
    this.#looking = true
    await this.#look(netns)
    this.#looking = false
    this.#notBefore = performance.now() + rest * (performance.now() - began)
    this.#plan()
  }

  [Symbol.dispose](): void {
    this.#ended = true
    clearTimeout(this.#timer)
    this.#waiting.clear()
  }
}
