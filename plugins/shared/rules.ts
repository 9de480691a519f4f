/** What the rules of meshes have in common. */
import type { Match, Rule } from '../../core/plugin.ts'

export const pass = (name: string, when: Match, unless?: Match): Rule => ({ name, when, ...(unless && { unless }), then: 'pass' })

/** The rule, when the list that it is about has elements. */
export const given = (list: readonly unknown[], rule: Rule): Rule[] => (list.length === 0 ? [] : [rule])

const listOf = (names: string | readonly string[] | undefined): readonly string[] => [names ?? []].flat()

/** The entries, sets or targets, that the rules name: one that nothing uses is an error. */
export function named<T>(entries: Readonly<Record<string, T>>, rules: readonly Rule[]): Record<string, T> {
  const names = new Set(
    rules.flatMap(({ when, unless, then }) => [then, ...[when, unless].flatMap((match) => [match?.port, match?.to, match?.from].flatMap(listOf))]),
  )
  return Object.fromEntries(Object.entries(entries).filter(([name]) => names.has(name)))
}
