/**
 * Has readers told again that wait for bytes which they were told of already (bpf/nudge.bpf.c). The iterator sees the namespace in which it is read, and walks
 * all of its sockets; so it is read for pods of which the programs have said that something happened, and for as long as something is behind there.
 */
import { rest } from './looks.ts'

/** While something is behind: the reader is busy, and may be at any time there again. */
const pausesMs = [20, 50, 100, 250, 500, 1000]
/** A pod where nothing was behind is looked at once more; one where something was, for some seconds: it is likely to happen there again. */
const quietLooks = 1
const quietLooksAfterwards = 10

interface Watched {
  /** Of performance.now() */
  due: number
  /** Looks that found something in a row, and that found nothing. */
  found: number
  quiet: number
  wasBehind: boolean
  toldMeanwhile: boolean
}

export class Nudges implements Disposable {
  readonly #look: (netns: bigint) => Promise<number | undefined>
  readonly #pods = new Map<bigint, Watched>()
  #timer: NodeJS.Timeout | undefined
  #looking = false
  #ended = false
  #notBefore = 0

  /** `look`: how many sockets of the namespace are behind still; undefined: it is not known where it is. */
  constructor(look: (netns: bigint) => Promise<number | undefined>) {
    this.#look = look
  }

  /** Something may be behind in this namespace: looks there soon. */
  tell(netns: bigint): void {
    const known = this.#pods.get(netns)
    if (known === undefined) this.#pods.set(netns, { due: performance.now(), found: 0, quiet: 0, wasBehind: false, toldMeanwhile: false })
    else Object.assign(known, { due: performance.now(), found: 0, quiet: 0, toldMeanwhile: true })
    this.#plan()
  }

  #plan(): void {
    clearTimeout(this.#timer)
    if (this.#ended || this.#looking || this.#pods.size === 0) return
    const due = Math.max(this.#notBefore, Math.min(...[...this.#pods.values()].map((pod) => pod.due)))
    this.#timer = setTimeout(() => void this.#next(), Math.max(0, due - performance.now()))
    this.#timer.unref()
  }

  /** One namespace, the one that has waited longest. */
  async #next(): Promise<void> {
    const [first] = [...this.#pods].sort(([, one], [, other]) => one.due - other.due)
    if (first === undefined) return
    const [netns, pod] = first
    const began = performance.now()
    pod.toldMeanwhile = false
    this.#looking = true
    const behind = await this.#look(netns)
    this.#looking = false
    this.#notBefore = performance.now() + rest * (performance.now() - began)
    this.#settle(netns, pod, behind)
    this.#plan()
  }

  #settle(netns: bigint, pod: Watched, behind: number | undefined): void {
    if (behind) pod.wasBehind = true
    if (pod.toldMeanwhile) return // it may be about what was passed already
    const lasting = pod.wasBehind || behind === undefined
    pod.quiet = behind ? 0 : pod.quiet + 1
    if (pod.quiet > (lasting ? quietLooksAfterwards : quietLooks)) {
      this.#pods.delete(netns)
      return
    }
    const pause = behind ? pausesMs[Math.min(pod.found++, pausesMs.length - 1)] : pausesMs.at(lasting ? -1 : 0)
    pod.due = performance.now() + (pause ?? 0)
  }

  [Symbol.dispose](): void {
    this.#ended = true
    clearTimeout(this.#timer)
    this.#pods.clear()
  }
}
