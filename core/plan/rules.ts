/** How the rules of a pod change, by name. Pure. */
import type { CompiledPod } from '../compile/compile.ts'
import { type Condition, conditionText } from '../compile/conditions.ts'
import type { RuleText } from '../compile/rules.ts'
import type { RulesChange } from './view.ts'

interface Titled {
  /** Names a rule in both policies: names are unique in a direction. */
  readonly id: string
  readonly text: string
  /** Everything that makes the rule what it is, but for its place. */
  readonly content: string
}

function titled({ direction, index, name, then }: RuleText, conditions: readonly Condition[]): Titled {
  const when = conditions.map(conditionText).join(', ') || 'any'
  return {
    id: `${direction} ${name}`,
    text: `${direction} rule ${index} '${name}': ${when} -> ${then}`,
    content: JSON.stringify([then, ...conditions.map(({ use, name, members, wanted }) => [use, name, members, wanted])]),
  }
}

const rulesOf = (compiled: CompiledPod | undefined): Titled[] =>
  (compiled?.rules ?? []).map((rule, index) => titled(rule, compiled?.source?.conditions[index] ?? []))

/** `known: false`: `before` is there in the kernel, and its names are not known. */
export function changeOfRules(before: CompiledPod | undefined, after: CompiledPod | undefined, known: boolean): RulesChange {
  const [old, now] = [rulesOf(before), rulesOf(after)]
  const [oldById, nowById] = [new Map(old.map((rule) => [rule.id, rule])), new Map(now.map((rule) => [rule.id, rule]))]
  const stays = (rules: readonly Titled[], others: ReadonlyMap<string, Titled>) => rules.filter(({ id }) => others.has(id)).map(({ id }) => id)
  return {
    added: now.filter(({ id }) => !oldById.has(id)).map(({ text }) => text),
    removed: old.filter(({ id }) => !nowById.has(id)).map(({ text }) => text),
    changed: now.flatMap((rule) => {
      const was = oldById.get(rule.id)
      return was === undefined || was.content === rule.content ? [] : [{ before: was.text, after: rule.text }]
    }),
    reordered: stays(old, nowById).join('\n') !== stays(now, oldById).join('\n'),
    known,
  }
}
