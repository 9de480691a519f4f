/** Compares exchanges with plain TCP, and says in sentences what is not as it should be. */
import { AccelReason } from '../../core/contract.ts'
import type { Exchange } from '../../core/selftest/program.ts'
import { type Cell, cellOf } from './cell.ts'
import { wayOf } from './expected.ts'
import type { Family, Place } from './places.ts'
import type { Mode, Ran, Suite } from './suite.ts'

export interface Task {
  readonly exchange: Exchange
  readonly place: Place
  readonly family: Family
  readonly mode: Exclude<Mode, 'none'>
}

export interface Compared extends Task {
  readonly cell: Cell
  /** Empty: as expected. */
  readonly problems: readonly string[]
}

/** Whether bytes are redirected can depend on a busy machine, what a program sees never. So only the first may be asked again. */
const attempts = 3

/** In mode proxies, toward an app nothing goes but by TCP: which of the exchanges then redirect something depends on the exchange. */
const isCertain = ({ mode, place }: Task) => mode === 'all' || place.proxies.length === 2

function unexpected(task: Task, { accelerated, different, skipped, reason }: Cell): string[] {
  const { redirected } = wayOf(task.exchange, task.place)
  if (skipped || !isCertain(task)) return []
  const words = reason === undefined ? '' : ` (${Object.entries(AccelReason).find(([, value]) => value === reason)?.[0]})`
  return [
    ...(redirected === true && !accelerated ? [`went over TCP, and nothing says why${words}`] : []),
    ...(redirected === false && accelerated ? ['was redirected, against what test/acceleration/expected.ts says'] : []),
    ...(task.exchange.differs !== '' && !different ? [`its named difference, ${task.exchange.differs}, is not there`] : []),
  ]
}

export class Comparison {
  readonly #suite: Suite
  readonly #options: readonly string[]
  readonly #plain = new Map<string, Promise<Ran>>()

  constructor(suite: Suite, options: readonly string[]) {
    this.#suite = suite
    this.#options = options
  }

  #overTcp({ exchange, place, family }: Task): Promise<Ran> {
    const key = `${exchange.name} ${place.name} ${family}`
    const ran = this.#plain.get(key) ?? this.#suite.run(exchange, place, family, 'none', false, this.#options)
    this.#plain.set(key, ran)
    return ran
  }

  /** `switching`: the switch is turned meanwhile, so nothing is said about which way the bytes go. */
  async compare(task: Task, switching = false): Promise<Compared> {
    const { exchange, place, family, mode } = task
    const title = `${exchange.name}, ${place.name}, ${family}, ${mode}`
    const joins = !switching && wayOf(exchange, place).redirected !== false
    for (let attempt = 1; ; attempt++) {
      const [plain, other] = await Promise.all([this.#overTcp(task), this.#suite.run(exchange, place, family, mode, joins, this.#options)])
      const cell = cellOf(exchange, place, plain, other)
      const strange = switching ? [] : unexpected(task, cell)
      const problems = [...cell.problems, ...strange].map((problem) => `${title}: ${problem}`)
      if (strange.length === 0 || cell.problems.length > 0 || attempt === attempts) return { ...task, cell, problems }
    }
  }

  all(tasks: readonly Task[], switching = false): Promise<Compared[]> {
    return Promise.all(tasks.map((task) => this.compare(task, switching)))
  }
}
