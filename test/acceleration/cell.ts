/** What becomes of one exchange in one place: the same as over plain TCP, or what a user would see of the difference. */
import type { AccelReason } from '../../core/contract.ts'
import { compareHalves, differs } from '../../core/selftest/compare.ts'
import type { Exchange, Half } from '../../core/selftest/program.ts'
import { asksFionread } from './expected.ts'
import type { Place } from './places.ts'
import type { Ran } from './suite.ts'

export interface Cell {
  readonly problems: readonly string[]
  /** The named difference of the exchange is there. */
  readonly different: boolean
  readonly accelerated: boolean
  readonly reason: AccelReason | undefined
  /** This kernel does not have what it is about. */
  readonly skipped: boolean
}

/** Two proxies are joined whatever their programs ask; there is no other end that could be spared. */
const miscounts = ({ name }: Exchange, { proxies }: Place) => name === asksFionread && proxies.length === 2

const withoutCounts = (half: Half): Half => ({
  ...half,
  transcript: half.transcript.filter((line) => !line.includes('FIONREAD')),
  failures: half.failures.filter((line) => !line.includes('FIONREAD')),
})

export function cellOf(exchange: Exchange, place: Place, plain: Ran, other: Ran): Cell {
  const told = miscounts(exchange, place) ? [plain, other].map(({ halves }) => halves.map(withoutCounts)) : [plain.halves, other.halves]
  const problems = (['client', 'server'] as const).flatMap((side) => {
    const [before, after] = told.map((halves) => halves.find((half) => half.side === side))
    if (before === undefined || after === undefined) return [`${side}: did not end`]
    return [...before.failures.map((failure) => `${side}, over plain TCP: ${failure}`), ...compareHalves(before, after, exchange.differs)]
  })
  const skipped = [...plain.halves, ...other.halves].some((half) => half.skipped.length > 0)
  const different = exchange.differs !== '' && differs(plain.halves, other.halves, exchange.differs)
  return { problems, different, skipped, accelerated: other.accelerated, reason: other.reason }
}
