/**
 * Which rules can ever decide. A rule is unreachable when each connection that it would take is taken by an earlier rule; what can hold together (a port is in
 * one set and therefore in another, a destination on loopback is local to the pod) is taken into account.
 */
import { asList } from '../compile/rules.ts'
import type { Interception, Match, Rule } from '../plugin.ts'
import { contains, containsAddress, disjoint, has, isEmpty, isFull, type Members, membersOf, type Use } from './members.ts'

/** A fact by name, such as "port web", "tcp": on or off. */
type Literal = readonly [fact: string, on: boolean]
type Conjunction = readonly Literal[]

const builtIn: Readonly<Record<Use, readonly string[]>> = { port: [], to: ['pod', 'loopback'], from: ['passthrough', 'loopback'] }
const uses = ['port', 'to', 'from'] as const

function literalsOf(match: Match): Literal[] {
  const proto: Literal[] = match.proto === undefined ? [] : [['tcp', match.proto === 'tcp']]
  const family: Literal[] = match.family === undefined ? [] : [['ipv6', match.family === 'ipv6']]
  return [...proto, ...family, ...uses.flatMap((use) => asList(match[use]).map((name): Literal => [`${use} ${name}`, true]))]
}

const conditionOf = ({ when = {}, unless = {} }: Rule): Conjunction => [
  ...literalsOf(when),
  ...literalsOf(unless).map(([fact, on]): Literal => [fact, !on]),
]

interface NamedSet {
  readonly fact: string
  readonly use: Use
  readonly members: Members
}

function usedSets(interception: Interception, rules: readonly Rule[]): NamedSet[] {
  const facts = new Map<string, NamedSet>()
  for (const { when = {}, unless = {} } of rules) {
    for (const use of uses) {
      for (const name of [...asList(when[use]), ...asList(unless[use])]) {
        const fact = `${use} ${name}`
        if (!builtIn[use].includes(name)) facts.set(fact, { fact, use, members: membersOf(use, interception.sets?.[name] ?? {}) })
      }
    }
  }
  return [...facts.values()]
}

/** What cannot be, of one set: a port outside of all ports; an address of a family of which it has none; ... */
function limitsOf({ fact, use, members }: NamedSet): Conjunction[] {
  const on: Literal = [fact, true]
  const off: Literal = [fact, false]
  if (isEmpty(members)) return [[on]]
  if (use === 'port') return isFull(members, 'port') ? [[off]] : []
  const families = (['ipv4', 'ipv6'] as const).flatMap((family): Conjunction[] => {
    const six: Literal = ['ipv6', family === 'ipv6']
    const never: Conjunction[] = use === 'to' && members.others.size === 0 && !has(members, family) ? [[on, six]] : []
    return isFull(members, family) ? [...never, [off, six]] : never
  })
  if (use === 'from') return families
  const loopback = (['127.0.0.1', '::1'] as const).flatMap((address): Conjunction[] => {
    const facts: Literal[] = [
      ['to loopback', true],
      ['ipv6', address === '::1'],
    ]
    if (containsAddress(members, address)) return [[off, ...facts]]
    return members.others.size === 0 ? [[on, ...facts]] : []
  })
  return [...families, ...loopback]
}

function relationsOf(a: NamedSet, b: NamedSet): Conjunction[] {
  if (a.use !== b.use || a === b || isEmpty(a.members)) return []
  if (contains(b.members, a.members))
    return [
      [
        [a.fact, true],
        [b.fact, false],
      ],
    ]
  if (a.fact < b.fact && disjoint(a.use, a.members, b.members))
    return [
      [
        [a.fact, true],
        [b.fact, true],
      ],
    ]
  return []
}

/** Facts that never hold together. */
function impossible(interception: Interception, direction: 'outbound' | 'inbound'): Conjunction[] {
  const sets = usedSets(interception, interception[direction])
  const always: Conjunction[] = [
    [
      ['to loopback', true],
      ['to pod', false],
    ],
    [
      ['from passthrough', true],
      ['from loopback', true],
    ],
  ]
  const outside: Conjunction[] = direction === 'inbound' ? [[['to pod', false]]] : []
  return [...always, ...outside, ...sets.flatMap(limitsOf), ...sets.flatMap((a) => sets.flatMap((b) => relationsOf(a, b)))]
}

/** More steps than any list of rules that somebody wrote needs. */
const maxSteps = 50_000

/** Can all facts of `wanted` hold, and none of the conjunctions of `never`? In doubt: yes. */
function possible(wanted: Conjunction, never: readonly Conjunction[]): boolean {
  let steps = 0
  const solve = (known: ReadonlyMap<string, boolean>): boolean => {
    if (++steps > maxSteps) return true
    let next: Conjunction | undefined
    for (const conjunction of never) {
      if (conjunction.some(([fact, on]) => known.get(fact) === !on)) continue
      const open = conjunction.filter(([fact]) => !known.has(fact))
      if (next === undefined || open.length < next.length) next = open
    }
    if (next === undefined) return true
    const assumed = new Map(known)
    return next.some(([fact, on]) => {
      const holds = solve(new Map(assumed).set(fact, !on))
      assumed.set(fact, on)
      return holds
    })
  }
  const start = new Map<string, boolean>()
  for (const [fact, on] of wanted) {
    if (start.get(fact) === !on) return false
    start.set(fact, on)
  }
  return solve(start)
}

/** "outbound rule 3 'x'" of those that can decide, by direction and name. */
export function reachable(interception: Interception, direction: 'outbound' | 'inbound'): Set<string> {
  const limits = impossible(interception, direction)
  const earlier: Conjunction[] = []
  const found = new Set<string>()
  for (const rule of interception[direction]) {
    const condition = conditionOf(rule)
    if (possible(condition, [...earlier, ...limits])) found.add(rule.name)
    earlier.push(condition)
  }
  return found
}
