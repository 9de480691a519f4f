/** The fact word and the rules of a policy in words. Pure. */
import { formatAddress, isZero } from '../address.ts'
import type { CompiledPod } from '../compile/compile.ts'
import { type Condition, conditionText } from '../compile/conditions.ts'
import { builtInFacts } from '../compile/rules.ts'
import { verdictText } from '../compile/targets.ts'
import { Fact, type PolicyRecord } from '../contract.ts'
import type { SetSpec } from '../plugin.ts'
import type { Connection, Evaluation } from './evaluate.ts'
import type { ExplainedRule, Finding } from './view.ts'

/** A bit whose name is not known: the policy was not compiled from anything that this agent has seen. */
function unnamed(bit: number, wanted: boolean): Condition {
  if (bit === Fact.IPV6) return { bit, wanted, use: 'family', name: wanted ? 'ipv6' : 'ipv4', kinds: [] }
  const { use, name } = builtInFacts.find(({ fact }) => fact === bit) ?? { use: 'from', name: `set ${bit - Fact.SET} of the policy` }
  return { bit, wanted, use, name, kinds: [] }
}

export interface RuleInWords extends ExplainedRule {
  readonly conditions: readonly Condition[]
}

function bitsOf(mask: bigint): number[] {
  return Array.from({ length: Fact.BITS }, (_, bit) => bit).filter((bit) => (mask & (1n << BigInt(bit))) !== 0n)
}

/** The rules of one direction. `compiled`: what this policy was compiled from, if that is known. */
export function rulesInWords(record: PolicyRecord, direction: 'outbound' | 'inbound', compiled: CompiledPod | undefined): RuleInWords[] {
  const used = direction === 'outbound' ? record.outbound.slice(0, record.outboundRules) : record.inbound.slice(0, record.inboundRules)
  return used.map((rule, index) => {
    const { mask, value } = rule
    const at = compiled?.rules.findIndex((each) => each.direction === direction && each.index === index) ?? -1
    const [text, named] = [compiled?.rules[at], compiled?.source?.conditions[at]]
    const conditions = named ?? bitsOf(mask).map((bit) => unnamed(bit, (value & (1n << BigInt(bit))) !== 0n))
    return {
      direction,
      index,
      name: text?.name ?? `rule ${index}`,
      condition: conditions.map(conditionText).join(', ') || 'any',
      then: text?.then ?? verdictText(rule, record, direction),
      conditions,
    }
  })
}

const isOn = ({ facts }: Evaluation, bit: number): boolean => (facts & (1n << BigInt(bit))) !== 0n

const holds = (evaluation: Evaluation, { bit, wanted }: Condition): boolean => isOn(evaluation, bit) === wanted

const interfaceText = ({ interfaces = [] }: Connection, { interface: way }: Evaluation): string =>
  way === 0 ? 'no interface' : (interfaces.find(({ index }) => index === way)?.name ?? `interface ${way}`)

/** What of a connection is compared with the members of a `from` set. */
function ownerText(kinds: readonly (keyof SetSpec)[], connection: Connection, evaluation: Evaluation): string {
  const { direction, family, uid, gid, mark } = connection
  const { source: words } = evaluation
  const parts: Partial<Record<keyof SetSpec, string>> = {
    ...(direction === 'outbound'
      ? { uid: `uid ${uid}`, gid: `gid ${gid}`, mark: `mark 0x${mark.toString(16)}`, cgroup: 'a cgroup that is not asked about' }
      : {}),
    interfaces: `in by ${interfaceText(connection, evaluation)}`,
    cidrs: isZero({ words }) ? 'a source that is not known' : `source ${formatAddress({ family, words })}`,
  }
  return kinds.flatMap((kind) => parts[kind] ?? []).join(', ')
}

/** What the connection has where the condition looks. */
function actualOf(condition: Condition, connection: Connection, evaluation: Evaluation): string {
  const { use, name, bit, kinds } = condition
  const { source: words, direction, protocol, family } = connection
  const dest = formatAddress({ family, words: evaluation.dest })
  if (use === 'proto') return `proto ${protocol}`
  if (use === 'family') return `family ipv${family}`
  if (use === 'port') return `port ${connection.port}`
  if (bit === Fact.TO_POD) return `${dest} is ${evaluation.local ? "the pod's own" : "not the pod's own"}`
  if (use === 'to' && kinds.includes('interfaces')) return `${dest}, out by ${interfaceText(connection, evaluation)}`
  if (use === 'to') return dest
  if (kinds.length > 0) return ownerText(kinds, connection, evaluation)
  if (bit >= Fact.SET) return `${isOn(evaluation, bit) ? 'in' : 'not in'} ${name}`
  return direction === 'inbound' || !isZero({ words }) ? `source ${formatAddress({ family, words })}` : 'the socket is not bound to an address'
}

const findings = (conditions: readonly Condition[], connection: Connection, evaluation: Evaluation): Finding[] =>
  conditions.map((condition) => ({ condition: conditionText(condition), actual: actualOf(condition, connection, evaluation) }))

/** Why the rule matches: every condition of it, with what the connection has. */
export const matchedBy = (rule: RuleInWords, connection: Connection, evaluation: Evaluation): Finding[] =>
  findings(rule.conditions, connection, evaluation)

/** Why it does not match: the conditions that do not hold. */
export const failedBy = (rule: RuleInWords, connection: Connection, evaluation: Evaluation): Finding[] =>
  findings(
    rule.conditions.filter((condition) => !holds(evaluation, condition)),
    connection,
    evaluation,
  )

/** Every fact that is on, under every name that the rules have for it. */
export function factsInWords(evaluation: Evaluation, rules: readonly RuleInWords[]): string[] {
  const named = new Map<number, Set<string>>()
  for (const { bit, use, name } of rules.flatMap(({ conditions }) => conditions)) {
    if (bit >= Fact.SET) named.set(bit, (named.get(bit) ?? new Set()).add(use === 'from' && name.startsWith('set ') ? name : `${use} ${name}`))
  }
  const facts = builtInFacts.filter(({ fact }) => isOn(evaluation, fact)).map(({ use, name }) => `${use} ${name}`)
  return [...facts, ...[...named].filter(([bit]) => isOn(evaluation, bit)).flatMap(([, names]) => [...names])]
}
