/** Rules as rows of the ternary match, and the same rules in words for `pods` and `explain`. */
import { Fact, Limit, type RuleRecord, Verdict } from '../contract.ts'
import type { Interception, Match, Rule } from '../plugin.ts'
import type { RuleView } from '../views.ts'
import { compileError } from './maps.ts'
import type { SetTable } from './sets.ts'
import { targetText } from './targets.ts'

export type RuleText = Omit<RuleView, 'hits' | 'by'>

/** Names of sets are all that rules know of them. */
type Rules = Omit<Interception, 'sets'>

/** The facts that are no sets, as rules name them. */
export const builtInFacts: readonly { readonly fact: Fact; readonly use: 'proto' | 'family' | 'to' | 'from'; readonly name: string }[] = [
  { fact: Fact.TCP, use: 'proto', name: 'tcp' },
  { fact: Fact.UDP, use: 'proto', name: 'udp' },
  { fact: Fact.IPV6, use: 'family', name: 'ipv6' },
  { fact: Fact.TO_POD, use: 'to', name: 'pod' },
  { fact: Fact.TO_LOOPBACK, use: 'to', name: 'loopback' },
  { fact: Fact.FROM_PASSTHROUGH, use: 'from', name: 'passthrough' },
  { fact: Fact.FROM_LOOPBACK, use: 'from', name: 'loopback' },
]

/** The same by the number of their bit, each in a word or two: "tcp", "to pod". */
export const factWords: ReadonlyMap<number, string> = new Map(
  builtInFacts.map(({ fact, use, name }) => [fact, use === 'to' || use === 'from' ? `${use} ${name}` : name]),
)

const namesIn = (wanted: 'to' | 'from'): Readonly<Record<string, Fact>> =>
  Object.fromEntries(builtInFacts.filter(({ use }) => use === wanted).map(({ fact, name }) => [name, fact]))

/** Names in `to:` and `from:` that are facts, not sets. */
export const factNames = { to: namesIn('to'), from: namesIn('from') }

export const asList = (names: string | readonly string[] | undefined): readonly string[] =>
  names === undefined ? [] : typeof names === 'string' ? [names] : names

export const ruleTitle = (direction: 'outbound' | 'inbound', index: number, name: string): string => `${direction} rule ${index} '${name}'`

/** The rows of a policy's table of targets, in an order that does not depend on how the plugin wrote them: equal rules have one policy. */
export const targetNames = ({ targets = {} }: Pick<Interception, 'targets'>): string[] => Object.keys(targets).sort()

const bitOf = (fact: Fact): bigint => 1n << BigInt(fact)

/** One fact that a rule speaks of, and what the rule calls it. */
export interface Literal {
  /** Of the fact word, as a number with only that bit. */
  readonly bit: bigint
  /** What the rule wants of it. */
  readonly on: boolean
  readonly use: 'proto' | 'family' | 'port' | 'to' | 'from'
  readonly name: string
}

/** The facts that a match speaks of, and those among them that must be on for it to hold. */
function literals(match: Match, sets: SetTable): readonly Literal[] {
  const named = (use: 'port' | 'to' | 'from') =>
    asList(match[use]).map((name): Literal => {
      const fact = use !== 'port' && Object.hasOwn(factNames[use], name) ? factNames[use][name] : undefined
      return { bit: fact === undefined ? sets.bit(use, name) : bitOf(fact), on: true, use, name }
    })
  const { family, proto } = match
  return [
    ...(family === undefined ? [] : [{ bit: bitOf(Fact.IPV6), on: family === 'ipv6', use: 'family', name: family } as const]),
    ...named('port'),
    ...named('to'),
    ...named('from'),
    ...(proto === undefined ? [] : [{ bit: bitOf(proto === 'tcp' ? Fact.TCP : Fact.UDP), on: true, use: 'proto', name: proto } as const]),
  ]
}

/** Everything that the rule wants, in the kernel's terms. */
export const wantedBy = (rule: Rule, sets: SetTable): Literal[] => [
  ...literals(rule.when ?? {}, sets),
  ...literals(rule.unless ?? {}, sets).map((literal) => ({ ...literal, on: !literal.on })), // none of these holds: each fact the other way round
]

function compileRule(rule: Rule, title: string, sets: SetTable, targets: readonly string[]): RuleRecord {
  const wanted = wantedBy(rule, sets)
  let [mask, value] = [0n, 0n]
  for (const { bit, on } of wanted) {
    if ((mask & bit) !== 0n && (value & bit) !== (on ? bit : 0n)) {
      throw compileError(title, 'can never match: it wants a fact both on and off', 'Remove the condition that stands in when and in unless.')
    }
    mask |= bit
    if (on) value |= bit
  }
  if (rule.then === 'pass') return { mask, value, verdict: Verdict.PASS, target: 0 }
  if (rule.then === 'drop') return { mask, value, verdict: Verdict.DROP, target: 0 }
  const target = targets.indexOf(rule.then)
  if (target === -1) throw compileError(title, `unknown target '${rule.then}'`, 'Define the target or correct its name.')
  return { mask, value, verdict: Verdict.TARGET, target }
}

export function compileRules(interception: Rules, direction: 'outbound' | 'inbound', sets: SetTable, subject: string): RuleRecord[] {
  const rules = interception[direction]
  if (rules.length > Limit.RULES) {
    throw compileError(subject, `${rules.length} ${direction} rules: at most ${Limit.RULES} fit`, 'Join rules by putting their members into one set.')
  }
  const targets = targetNames(interception)
  return rules.map((rule, index) => compileRule(rule, `${subject}: ${ruleTitle(direction, index, rule.name)}`, sets, targets))
}

function conditionText(match: Match, not: string): string[] {
  const one = (what: string, name: string | undefined) => (name === undefined ? [] : [`${not}${what} ${name}`])
  const each = (what: 'from' | 'to' | 'port') => asList(match[what]).map((name) => `${not}${what} ${name}`)
  return [...one('proto', match.proto), ...one('family', match.family), ...each('from'), ...each('to'), ...each('port')]
}

/** The rules in the kernel's order, in words. */
export function describeRules(interception: Rules): RuleText[] {
  const targets = interception.targets ?? {}
  return (['outbound', 'inbound'] as const).flatMap((direction) =>
    interception[direction].map((rule, index) => {
      const { name, when = {}, unless = {}, then } = rule
      const condition = [...conditionText(when, ''), ...conditionText(unless, 'not ')].join(', ')
      const target = Object.hasOwn(targets, then) ? targets[then] : undefined
      return { direction, index, name, condition: condition || 'any', then: target === undefined ? then : targetText(rule, target, direction) }
    }),
  )
}
