/** Runs what is compared in turns, so that whatever disturbs the machine disturbs all of it alike. */
import { type Interval, median, pairedRatio, quantile, shuffled } from './statistics.ts'

/** What one run found, by name: nanoseconds of its median, of its 99th percentile. */
export type Figures = Readonly<Record<string, number>>

export interface Comparison {
  readonly title: string
  /** Measurements in one run of one variant */
  readonly count: number
  /** Runs in one round, each of them paired with those of the other variants */
  readonly runs: number
  readonly variants: Readonly<Record<string, () => Promise<Figures>>>
}

/** Everything that the comparisons need, until it is disposed of. */
export interface Setting extends AsyncDisposable {
  readonly comparisons: readonly Comparison[]
}

export interface Budget {
  readonly rounds: number
  /** No round starts later than this many milliseconds after the first one. */
  readonly milliseconds: number
}

/** The runs of one comparison, in the same order for each variant. */
export class Result {
  readonly title: string
  readonly count: number
  readonly variants: readonly string[]
  readonly #runs = new Map<string, Figures[]>()

  constructor({ title, count, variants }: Pick<Comparison, 'title' | 'count'> & { readonly variants: object }) {
    this.title = title
    this.count = count
    this.variants = Object.keys(variants)
  }

  add(variant: string, figures: Figures): void {
    this.#runs.set(variant, [...(this.#runs.get(variant) ?? []), figures])
  }

  /** How often each variant ran. */
  get size(): number {
    return Math.min(...this.variants.map((variant) => this.#runs.get(variant)?.length ?? 0))
  }

  values(variant: string, figure: string): number[] {
    return (this.#runs.get(variant) ?? []).map((figures) => figures[figure] ?? Number.NaN)
  }

  typical(variant: string, figure: string): number {
    return median(this.values(variant, figure))
  }

  ratio(figure: string, numerator: string, denominator: string): Interval {
    return pairedRatio(this.values(numerator, figure), this.values(denominator, figure))
  }
}

/** A run of one variant is followed by those of the others, in random order. `earlier`: what the same comparisons found before, to which it is added. */
export async function interleave(
  comparisons: readonly Comparison[],
  { rounds, milliseconds }: Budget,
  progress: (round: number) => void,
  earlier: readonly Result[] = [],
): Promise<Result[]> {
  const results = new Map(comparisons.map((comparison, index) => [comparison, earlier[index] ?? new Result(comparison)]))
  const end = Date.now() + milliseconds
  for (let round = 1; round <= rounds && Date.now() < end; round++) {
    const turns = comparisons.flatMap((comparison) => Array.from({ length: comparison.runs }, () => comparison))
    for (const comparison of shuffled(turns)) {
      for (const [variant, run] of shuffled(Object.entries(comparison.variants))) results.get(comparison)?.add(variant, await run())
    }
    progress(round)
  }
  return [...results.values()]
}

export const figuresOf = (nanoseconds: readonly number[]): Figures => ({ median: median(nanoseconds), p99: quantile(nanoseconds, 0.99) })
