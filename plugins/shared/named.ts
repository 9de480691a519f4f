/** What rules name, of sets and targets. */
import type { Rule } from '../../core/plugin.ts'

const listOf = (names: string | readonly string[] | undefined): readonly string[] => [names ?? []].flat()

/** The entries that the rules name: a set or a target that nothing uses is an error. */
export function named<T>(entries: Readonly<Record<string, T>>, rules: readonly Rule[]): Record<string, T> {
  const names = new Set(
    rules.flatMap(({ when, unless, then }) => [then, ...[when, unless].flatMap((match) => [match?.port, match?.to, match?.from].flatMap(listOf))]),
  )
  return Object.fromEntries(Object.entries(entries).filter(([name]) => names.has(name)))
}
