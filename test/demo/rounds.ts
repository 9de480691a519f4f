/** The client of apps/rounds.c, and what its rounds say. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import { kill } from '../lab/process.ts'

/** What the client answers. */
interface Asked {
  readonly requests: number
  readonly ns: number
  readonly p50: number
  readonly ports: readonly number[]
}

/** What the client sees of a round. */
export interface Answered {
  /** Microseconds of a request, the median */
  readonly latency: number
  /** Requests a second */
  readonly rate: number
  readonly requests: number
  /** Local ports of the connections: the same as long as these are the same. */
  readonly ports: readonly number[]
}

export interface Round extends Answered {
  /** Processor time of both pods for one request, in microseconds: what other work on the machine disturbs the least */
  readonly cpu: number
}

export class Rounds implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #lines: Interface
  readonly #ended: Promise<undefined>
  #errors = ''

  constructor(child: ChildProcess) {
    if (child.stdout === null || child.stdin === null) throw new Error('no pipes')
    this.#child = child
    this.#lines = createInterface({ input: child.stdout })
    this.#ended = new Promise((resolve) => this.#lines.once('close', () => resolve(undefined)))
    child.stdin.on('error', () => {}) // it has ended: no answer comes, which is the error
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text
    })
  }

  async run(milliseconds: number): Promise<Answered> {
    const line = once(this.#lines, 'line', { signal: AbortSignal.timeout(milliseconds + 20_000) })
    line.catch(() => {}) // nobody waits for it any more when the client has ended
    this.#child.stdin?.write(`${milliseconds}\n`)
    const answer = (await Promise.race([line, this.#ended])) as [string] | undefined
    if (answer === undefined) throw new Error(`a client of the client pod has ended: ${this.#errors.trim()}`)
    const { requests, ns, p50, ports } = JSON.parse(answer[0]) as Asked
    return { latency: p50 / 1e3, rate: (requests * 1e9) / ns, requests, ports }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await kill(this.#child)
  }
}

/** Rounds, taken in turns. */
export interface Pair {
  readonly off: Round
  readonly on: Round
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2
}

/** "310 (295 to 402)" */
function spread(values: readonly number[]): string {
  const [least, middle, most] = [Math.min(...values), median(values), Math.max(...values)].map((value) => value.toFixed(0))
  return `${middle} (${least} to ${most})`
}

/** One row of the table: of each round, and how much it is with acceleration, as part of what it is without, in the same pair. */
export function compared(what: string, pairs: readonly Pair[], of: (round: Round) => number): readonly string[] {
  const ratio = median(pairs.map(({ off, on }) => of(on) / of(off)))
  return [what, spread(pairs.map(({ off }) => of(off))), spread(pairs.map(({ on }) => of(on))), ratio.toFixed(2)]
}

/** Whether the rounds tell: in all pairs but at most one of five, the same side is the faster one. */
export function tells(pairs: readonly Pair[], of: (round: Round) => number): boolean {
  const more = pairs.filter(({ off, on }) => of(on) > of(off)).length
  return Math.min(more, pairs.length - more) <= pairs.length / 5
}
