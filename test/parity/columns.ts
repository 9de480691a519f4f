/** Runs the matrix at one pod. */
import { type Column, column, type Difference, differences, judge, type Named } from './compare.ts'
import { inboundCases, outboundCases } from './matrix.ts'
import { type Case, connect } from './probe.ts'
import type { Mode, Site } from './shape.ts'

/** Every case, or those in `only` (by the names that a column uses). */
export async function runMatrix(site: Site, mode: Mode, only?: ReadonlySet<string>): Promise<Column> {
  await site.listen(mode)
  const found: [string, ReadonlyMap<string, string>][] = []
  for (const [from, all] of [
    [site.pod, outboundCases()],
    [site.peer, inboundCases('peer')],
    [site.lab.node, inboundCases('node')],
    [site.pod, inboundCases('self')],
  ] as const) {
    const cases = only === undefined ? all : all.filter((each) => only.has(`${mode}: ${each.id}`))
    found.push(...column(mode, cases, await connect(from, cases)))
  }
  return new Map(found)
}

/** How often the iptables side of a difference is tried again. */
const ATTEMPTS = 3

/**
 * The differences of one mode. iptables has moments of chance: a connection whose port an earlier one had, which conntrack still remembers, gets
 * another port, or that one's redirection. So where an unnamed difference shows, the iptables side is run again, never the other one.
 */
export async function compareMode(
  rules: { readonly site: Site; readonly column: Column },
  merbridge: Column,
  mode: Mode,
  named: readonly Named[],
): Promise<readonly Difference[]> {
  const column = new Map(rules.column)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { unnamed } = judge(differences(column, merbridge), named)
    if (unnamed.length === 0) break
    for (const [name, seen] of await runMatrix(rules.site, mode, new Set(unnamed.map((each) => withoutStep(each.case))))) column.set(name, seen)
  }
  return differences(column, merbridge)
}

function withoutStep(name: string): string {
  return name.replace(/ \(\d+\)$/, '')
}

export function caseCount(): number {
  return [outboundCases(), inboundCases('peer'), inboundCases('node'), inboundCases('self')].reduce(
    (sum, cases: readonly Case[]) => sum + cases.length,
    0,
  )
}
