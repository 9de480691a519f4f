/** Runs the matrix, or other cases, at one pod. */
import type { LabPod } from '../lab/net.ts'
import { askAttendant } from './attendant.ts'
import { type Column, column, type Difference, differences, judge, type Named } from './compare.ts'
import { inboundCases, outboundCases } from './matrix.ts'
import type { Case, CaseResult } from './probe.ts'
import type { Mode, Site } from './shape.ts'

/** What is run where: the cases of one program that connects in the pod, in its neighbour or on the node. */
export type Plan = (site: Site) => readonly (readonly [from: LabPod, cases: readonly Case[]])[]

const matrix: Plan = (site) => [
  [site.pod, outboundCases()],
  [site.peer, inboundCases('peer')],
  [site.lab.node, inboundCases('node')],
  [site.pod, inboundCases('self')],
]

/** Every case, or those in `only` (by the names that a column uses), which begin with `setup`. The listeners are there. */
export async function runPlan(site: Site, plan: Plan, setup: string, only?: ReadonlySet<string>): Promise<Column> {
  const found: [string, ReadonlyMap<string, string>][] = []
  for (const [from, all] of plan(site)) {
    const cases = only === undefined ? all : all.filter((each) => only.has(`${setup}: ${each.id}`))
    if (cases.length > 0) found.push(...column(setup, cases, (await askAttendant(from, 'connect', cases)) as readonly CaseResult[]))
  }
  return new Map(found)
}

export async function runMatrix(site: Site, mode: Mode, only?: ReadonlySet<string>): Promise<Column> {
  await site.listen(mode)
  return runPlan(site, matrix, mode, only)
}

export interface Settled {
  readonly differences: readonly Difference[]
  /** Connections that the iptables side made once more. */
  readonly repeated: number
}

/** How often the iptables side of a difference is tried again. */
const ATTEMPTS = 3

/**
 * iptables has moments of chance: a connection whose port an earlier one had, which conntrack still remembers, gets another port, or that one's
 * redirection. So where an unnamed difference shows, the iptables side is run again, never the other one.
 */
export async function settledDifferences(
  first: Column,
  merbridge: Column,
  named: readonly Named[],
  again: (only: ReadonlySet<string>) => Promise<Column>,
): Promise<Settled> {
  const rules = new Map(first)
  let repeated = 0
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { unnamed } = judge(differences(rules, merbridge), named)
    if (unnamed.length === 0) break
    const only = new Set(unnamed.map((each) => withoutStep(each.case)))
    repeated += only.size
    for (const [name, seen] of await again(only)) rules.set(name, seen)
  }
  return { differences: differences(rules, merbridge), repeated }
}

/** The differences of one mode of the matrix. */
export function compareMode(
  rules: { readonly site: Site; readonly column: Column },
  merbridge: Column,
  mode: Mode,
  named: readonly Named[],
): Promise<Settled> {
  return settledDifferences(rules.column, merbridge, named, (only) => runMatrix(rules.site, mode, only))
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
