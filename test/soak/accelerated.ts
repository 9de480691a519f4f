/** How much of the traffic went past TCP, by what the agent says now and then. */
export interface Accelerated {
  /** At least so many: what a pod had sent when it ended is forgotten with it. */
  readonly messages: number
  readonly bytes: number
  /** That went by TCP. */
  readonly others: number
  /** Why the kernel cannot; absent: it can */
  readonly cannot?: string
}

interface Counts {
  readonly messages: number
  readonly bytes: number
}

interface View {
  readonly acceleration?: { kernel: { can: boolean; reason?: string }; off?: readonly string[]; accelerated: Counts; tcp: Counts }
}

/** Fewer than this many accelerated messages a minute: it was not tried. */
const LEAST = 1000

export class Tally {
  #last: { redirected: Counts; others: number } = { redirected: { messages: 0, bytes: 0 }, others: 0 }
  #off: readonly string[] = []
  #sum: Accelerated | undefined

  /** `status`: of the agent, which may know nothing of acceleration. */
  add(status: object): void {
    const { acceleration } = status as View
    if (acceleration === undefined) return
    const { accelerated, tcp, kernel, off = [] } = acceleration
    const { redirected, others } = this.#last
    const { messages, bytes, others: before } = this.#sum ?? { messages: 0, bytes: 0, others: 0 }
    this.#off = off
    this.#last = { redirected: accelerated, others: tcp.messages }
    this.#sum = {
      messages: messages + Math.max(0, accelerated.messages - redirected.messages),
      bytes: bytes + Math.max(0, accelerated.bytes - redirected.bytes),
      others: before + Math.max(0, tcp.messages - others),
      ...(!kernel.can && { cannot: kernel.reason ?? 'the agent does not say why' }),
    }
  }

  /** undefined: this agent accelerates nothing. */
  get sum(): Accelerated | undefined {
    return this.#sum
  }

  /** The kernel can, and yet it was not tried. */
  failures(minutes: number): string[] {
    if (this.#sum === undefined || this.#sum.cannot !== undefined || this.#sum.messages >= LEAST * minutes) return []
    return [`only ${this.#sum.messages} messages were accelerated, though this kernel can: ${this.#off.join('; ') || 'acceleration is on'}`]
  }
}

/** For people. */
export function acceleratedText(accelerated: Accelerated | undefined): string {
  if (accelerated === undefined) return 'nothing is accelerated here'
  const { messages, bytes, others, cannot } = accelerated
  return cannot === undefined ? `${messages} messages (${bytes} bytes) past TCP, ${others} by TCP` : `nothing is accelerated here: ${cannot}`
}
