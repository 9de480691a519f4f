/** Insertions, deletions, replacements and swaps of neighbours that turn one word into the other (optimal string alignment). */
export function distance(from: string, to: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; row++) {
    const current = [row]
    for (let column = 1; column <= to.length; column++) {
      const same = from[row - 1] === to[column - 1]
      const swapped = row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]
      const step = Math.min((last[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, (last[column - 1] ?? 0) + (same ? 0 : 1))
      current.push(swapped ? Math.min(step, (beforeLast[column - 2] ?? 0) + 1) : step)
    }
    beforeLast = last
    last = current
  }
  return last[to.length] ?? 0
}

/** Longer words are not typing errors of anything here, and comparing them would cost time. */
const longestWord = 256

/** Known words close enough to be meant, the nearest first; letters' case does not count. */
export function nearest(word: string, known: readonly string[]): string[] {
  if (word.length > longestWord) return []
  const lower = word.toLowerCase()
  const allowed = Math.max(1, Math.floor(word.length / 3))
  return known
    .map((candidate) => ({ candidate, cost: distance(lower, candidate.slice(0, longestWord).toLowerCase()) }))
    .filter(({ cost }) => cost <= allowed)
    .sort((a, b) => a.cost - b.cost)
    .map(({ candidate }) => candidate)
}

/** "a, b or c" */
export function listed(words: readonly string[], joint = 'or'): string {
  const last = words.at(-1) ?? ''
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} ${joint} ${last}`
}
