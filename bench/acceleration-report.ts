/** What the modes of acceleration are worth: tables, and what is claimed of them. */
import { LEG, REQUESTS, STREAMS } from './acceleration.ts'
import type { Result } from './measure.ts'
import { type Claim, verdict } from './report.ts'
import { interval, microseconds, table } from './table.ts'

type Figure = 'p50' | 'p99' | 'rate' | 'cpu'

interface Row {
  readonly figure: Figure
  readonly name: string
  readonly written: (value: number) => string
}

const REQUEST_ROWS: readonly Row[] = [
  { figure: 'p50', name: 'p50 [µs]', written: microseconds },
  { figure: 'p99', name: 'p99 [µs]', written: microseconds },
  { figure: 'rate', name: '1/s', written: (value) => value.toFixed(0) },
  { figure: 'cpu', name: 'CPU [µs]', written: microseconds },
]
const STREAM_ROWS: readonly Row[] = [
  { figure: 'rate', name: 'MB/s', written: (value) => value.toFixed(1) },
  { figure: 'cpu', name: 'CPU [µs/MB]', written: microseconds },
]

/** The absolute figures of one mode, and the ratios of all others to it. */
function ratios(results: readonly Result[], rows: readonly Row[], base: string): string {
  const others = results[0]?.variants.filter((variant) => variant !== base) ?? []
  return table(
    ['', '', base, ...others.map((mode) => `${mode} / ${base}`)],
    results.flatMap((result) =>
      rows.map(({ figure, name, written }) => [
        result.title,
        name,
        written(result.typical(base, figure)),
        ...others.map((mode) => interval(result.ratio(figure, mode, base))),
      ]),
    ),
  )
}

const those = (results: readonly Result[], titles: readonly string[]) => results.filter(({ title }) => titles.includes(title))
const accelerated = (results: readonly Result[]) => results.filter(({ variants }) => variants.includes('all'))

export function accelerationTable(results: readonly Result[]): string {
  const streams = those(results, STREAMS)
  const sharp = accelerated(streams)
  const look = streams.filter((result) => !sharp.includes(result))
  return [
    ratios(those(results, REQUESTS), REQUEST_ROWS, 'iptables'),
    ...[look, sharp].flatMap((each) => (each.length === 0 ? [] : ratios(each, STREAM_ROWS, 'none'))),
  ].join('\n\n')
}

/** Of mode `all` to iptables. Times and processor time: at most; requests a second: at least. */
const TARGETS: readonly (readonly [string, Figure, number])[] = [
  ['16 connections, 100 B', 'p50', 0.79],
  ['16 connections, 100 B', 'rate', 1.32],
  ['16 connections, 100 B', 'cpu', 0.66],
  ['16 connections, 16 kB', 'p50', 0.77],
  ['16 connections, 16 kB', 'rate', 1.32],
  ['16 connections, 16 kB', 'cpu', 0.63],
  ['4 connections, 10 MB', 'rate', 1.81],
  [LEG, 'p50', 0.6],
]
const NAMES: Readonly<Record<Figure, string>> = { p50: 'p50', p99: 'p99', rate: 'requests/s', cpu: 'CPU time of a request' }

/** What goes one way is never slower than plain TCP. */
const NEVER_BELOW = 0.99
const ACCELERATED = ['proxies', 'all'] as const

interface Bound {
  readonly figure: Figure
  readonly of: string
  readonly to: string
  readonly bound: number
}

/** Proven by the whole interval: a rate by its lower end, a time by its upper one. Reached by the median. */
function claim(result: Result, what: string, { figure, of, to, bound }: Bound): Claim {
  const ratio = result.ratio(figure, of, to)
  const holds = (value: number) => (figure === 'rate' ? value >= bound : value <= bound)
  const good = holds(figure === 'rate' ? ratio.low : ratio.high)
  const says = good ? verdict(good) : holds(ratio.estimate) ? 'reached, not proven' : 'NOT REACHED'
  return {
    good,
    text: `${says}: ${result.title}: ${what}, ${of} to ${to}, ${interval(ratio)}, at ${figure === 'rate' ? 'least' : 'most'} ${bound.toFixed(2)}`,
  }
}

export function accelerationClaims(results: readonly Result[]): Claim[] {
  const measured = accelerated(results)
  const reached = TARGETS.flatMap(([title, figure, bound]) =>
    those(measured, [title]).map((result) => claim(result, NAMES[figure], { figure, of: 'all', to: 'iptables', bound })),
  )
  const notSlower = those(measured, STREAMS).flatMap((result) =>
    ACCELERATED.map((of) => claim(result, 'bytes/s', { figure: 'rate', of, to: 'none', bound: NEVER_BELOW })),
  )
  return [...reached, ...notSlower]
}
