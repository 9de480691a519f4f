/** Medians, percentiles and confidence intervals; all pure but `shuffled`. */

export interface Interval {
  readonly estimate: number
  readonly low: number
  readonly high: number
}

const RESAMPLES = 5_000
const SEED = 0x6d657262

/** The value below which `fraction` of the samples lie; nearest rank. */
export function quantile(samples: readonly number[], fraction: number): number {
  const sorted = Float64Array.from(samples).sort()
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))]
  if (value === undefined) throw new Error('a quantile of no samples')
  return value
}

export const median = (samples: readonly number[]): number => quantile(samples, 0.5)

/**
 * Median of the ratios run by run, with a 95 % bootstrap interval. The runs are the independent units: the samples of one share its noise, and
 * dividing neighbouring runs removes what disturbed the machine at that time.
 */
export const pairedRatio = (numerators: readonly number[], denominators: readonly number[]): Interval =>
  medianOf(numerators.map((numerator, run) => numerator / (denominators[run] ?? Number.NaN)))

/** Median with a 95 % bootstrap interval. */
export function medianOf(values: readonly number[]): Interval {
  const random = generator(SEED) // the same numbers give the same interval
  const resample = () => median(values.map(() => values[Math.floor(random() * values.length)] ?? Number.NaN))
  const medians = Array.from({ length: RESAMPLES }, resample)
  return { estimate: median(values), low: quantile(medians, 0.025), high: quantile(medians, 0.975) }
}

/** Numbers in [0, 1): mulberry32. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A random order. */
export function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, order: Math.random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ item }) => item)
}
