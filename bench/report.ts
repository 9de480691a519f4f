/** What each part of the bench found: a table, and what is claimed of it. */
import { FAMILY_NAMES, type Family, titleOf, variantOf } from './cost.ts'
import type { Result } from './measure.ts'
import { OUTSIDE } from './outside.ts'
import { type Kind, nodes, SIZES } from './points.ts'
import { type Interval, medianOf } from './statistics.ts'
import { interval, microseconds, table } from './table.ts'
import { VARIANTS } from './variants.ts'

/** Something that has to be so; `good`: it is proven, as far as 95 % go. */
export interface Claim {
  readonly good: boolean
  readonly text: string
}

/** Upper bounds of ratios. */
const FASTER = 1
const NOT_SLOWER = 1.03
/** connect() with all of the rules or CIDRs, against connect() with one */
const FLAT = 1.1
/** Nanoseconds for one more node of a trie: a miss of the processor's caches; for one more rule */
const STEP: Readonly<Record<Kind, number>> = { CIDRs: 100, rules: 20 }

const QUANTILES = ['median', 'p99'] as const

export function trafficTable(results: readonly Result[]): string {
  const header = ['', '', ...VARIANTS.map((variant) => `${variant} [µs]`), 'merbridge / iptables', 'merbridge / none', 'iptables / none']
  const rows = results.flatMap((result) =>
    QUANTILES.map((quantile) => [
      result.title,
      quantile,
      ...VARIANTS.map((variant) => microseconds(result.typical(variant, quantile))),
      interval(result.ratio(quantile, 'merbridge', 'iptables')),
      interval(result.ratio(quantile, 'merbridge', 'none')),
      interval(result.ratio(quantile, 'iptables', 'none')),
    ]),
  )
  return table(header, rows)
}

export const verdict = (good: boolean) => (good ? 'proven' : 'NOT PROVEN')

function ratioClaim(what: string, ratio: Interval, bound: number): Claim {
  const good = ratio.high <= bound
  return { good, text: `${verdict(good)}: ${what}, ratio of the medians ${interval(ratio)}, upper bound at most ${bound.toFixed(2)}` }
}

/** Envoys take most of the time of requests through them, and vary more than what is to be seen. */
export function trafficClaims(results: readonly Result[]): Claim[] {
  return results
    .filter(({ title }) => !title.includes('Envoy'))
    .map((result) => {
      const bound = result.title === 'connect(), IPv4' ? FASTER : NOT_SLOWER
      return ratioClaim(`${result.title}: merbridge to iptables`, result.ratio('median', 'merbridge', 'iptables'), bound)
    })
}

interface Line {
  readonly kind: Kind
  readonly family: Family
  readonly result: Result
}

const lines = (results: readonly Result[]): Line[] =>
  (Object.keys(SIZES) as Kind[]).flatMap((kind) =>
    FAMILY_NAMES.flatMap((family) => results.filter(({ title }) => title === titleOf(kind, family)).map((result) => ({ kind, family, result }))),
  )

export function costTable(results: readonly Result[]): string {
  const header = [
    '',
    'nodes',
    'program [ns]',
    'to the first',
    'merbridge [µs]',
    'to the first',
    'iptables [µs]',
    'to the first',
    'merbridge / iptables',
  ]
  const rows = lines(results).flatMap(({ kind, family, result }) => {
    const [first = 0] = SIZES[kind]
    return SIZES[kind].map((size) => {
      const [own, other] = [variantOf('merbridge', size), variantOf('iptables', size)]
      return [
        `${size.toLocaleString('en')} ${size === 1 ? kind.slice(0, -1) : kind}, ${family}`,
        kind === 'CIDRs' ? String(nodes(size)) : '',
        result.typical(own, 'program').toFixed(0),
        interval(result.ratio('program', own, variantOf('merbridge', first))),
        microseconds(result.typical(own, 'median')),
        interval(result.ratio('median', own, variantOf('merbridge', first))),
        microseconds(result.typical(other, 'median')),
        interval(result.ratio('median', other, variantOf('iptables', first))),
        interval(result.ratio('median', own, other)),
      ]
    })
  })
  return table(header, rows)
}

/** What the program takes longer for the longest list than for the shortest, in nanoseconds for each node of the trie, or each rule. */
function slopeClaim({ kind, family, result }: Line): Claim {
  const [first = 0, last = 0] = [SIZES[kind][0], SIZES[kind].at(-1)]
  const steps = kind === 'CIDRs' ? nodes(last) - nodes(first) : last - first
  const shortest = result.values(variantOf('merbridge', first), 'program')
  const slope = medianOf(result.values(variantOf('merbridge', last), 'program').map((time, run) => (time - (shortest[run] ?? Number.NaN)) / steps))
  const good = slope.high <= STEP[kind]
  const what = kind === 'CIDRs' ? 'node of the trie' : 'rule'
  return { good, text: `${verdict(good)}: one more ${what}, ${family}, takes ${interval(slope, 0)} ns, upper bound at most ${STEP[kind]}` }
}

export function costClaims(results: readonly Result[]): Claim[] {
  return lines(results).flatMap((line) => {
    const { kind, family, result } = line
    const [first = 0, last = 0] = [SIZES[kind][0], SIZES[kind].at(-1)]
    const ratio = result.ratio('median', variantOf('merbridge', last), variantOf('merbridge', first))
    return [ratioClaim(`connect(), ${family}, with ${last.toLocaleString('en')} ${kind}: to one with ${first}`, ratio, FLAT), slopeClaim(line)]
  })
}

export function outsideTable(results: readonly Result[]): string {
  const [without, beside] = OUTSIDE
  const header = ['', '', 'without [µs]', 'with [µs]', 'with / without']
  const rows = results.flatMap((result) =>
    QUANTILES.map((quantile) => [
      result.title,
      quantile,
      microseconds(result.typical(without, quantile)),
      microseconds(result.typical(beside, quantile)),
      interval(result.ratio(quantile, beside, without)),
    ]),
  )
  return table(header, rows)
}
