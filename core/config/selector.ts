/** Label selectors with Kubernetes' semantics: which labels they match, and which of them no labels can match. Pure. */
import type { Expression, Match, Selector } from './meshes.ts'

type Labels = Readonly<Record<string, string>>

/** What a match sees of a pod. */
export interface Labelled {
  readonly labels: Labels
  readonly namespace: { readonly name: string; readonly labels: Labels }
}

/** Kubernetes gives it to every namespace. */
export const namespaceNameLabel = 'kubernetes.io/metadata.name'

const namespaceLabels = ({ name, labels }: Labelled['namespace']): Labels => ({ ...labels, [namespaceNameLabel]: name })

const labelOf = (labels: Labels, key: string): string | undefined => (Object.hasOwn(labels, key) ? labels[key] : undefined)

function holds({ key, operator, values }: Expression, labels: Labels): boolean {
  const value = labelOf(labels, key)
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value)
    case 'NotIn':
      return value === undefined || !values.includes(value) // as Kubernetes has it: a label that is not there is not among the values
    case 'Exists':
      return value !== undefined
    case 'DoesNotExist':
      return value === undefined
  }
}

const isEmpty = (selector: Selector | undefined): boolean =>
  selector === undefined || (Object.keys(selector.matchLabels).length === 0 && selector.matchExpressions.length === 0)

export const matchesEverything = ({ podSelector, namespaceSelector }: Match): boolean => isEmpty(podSelector) && isEmpty(namespaceSelector)

/** One requirement of a selector, with its place below the selector. */
interface Requirement extends Expression {
  readonly path: readonly (string | number)[]
}

export interface Contradiction {
  readonly key: string
  /** Below the selector; the earlier one, and the one that leaves nothing over. */
  readonly first: readonly (string | number)[]
  readonly second: readonly (string | number)[]
}

function requirementsOf({ matchLabels, matchExpressions }: Selector): Requirement[] {
  return [
    ...Object.entries(matchLabels).map(([key, value]) => ({ key, operator: 'In' as const, values: [value], path: ['matchLabels', key] })),
    ...matchExpressions.map((expression, index) => ({ ...expression, path: ['matchExpressions', index] })),
  ]
}

const written = ({ key, operator, values }: Expression): string =>
  values.length === 0 ? `${key} ${operator}` : `${key} ${operator} [${values.join(', ')}]`

function firstUnmet(selector: Selector | undefined, labels: Labels): string | undefined {
  const unmet = selector && requirementsOf(selector).find((requirement) => !holds(requirement, labels))
  if (unmet === undefined) return undefined
  const value = labelOf(labels, unmet.key)
  return `"${written(unmet)}", but the label ${value === undefined ? 'is not there' : `is "${value}"`}`
}

/** Which condition the pod does not meet; undefined: it matches. */
export function mismatch({ podSelector, namespaceSelector }: Match, pod: Labelled): string | undefined {
  const ofPod = firstUnmet(podSelector, pod.labels)
  if (ofPod !== undefined) return `podSelector wants ${ofPod}`
  const ofNamespace = firstUnmet(namespaceSelector, namespaceLabels(pod.namespace))
  return ofNamespace && `namespaceSelector wants ${ofNamespace}`
}

/** Can a label with some value, or one that is not there, meet all of these? */
function satisfiable(requirements: readonly Requirement[]): boolean {
  if (requirements.every(({ operator }) => operator === 'NotIn' || operator === 'DoesNotExist')) return true // without the label
  if (requirements.some(({ operator }) => operator === 'DoesNotExist')) return false
  const allowed = requirements.filter(({ operator }) => operator === 'In').map(({ values }) => values)
  const [first, ...others] = allowed
  if (first === undefined) return true // Exists and NotIn: there are more values than any list has
  const excluded = requirements.filter(({ operator }) => operator === 'NotIn').flatMap(({ values }) => values)
  return first.some((value) => others.every((values) => values.includes(value)) && !excluded.includes(value))
}

/** For each label the first requirement that, with those before it, no label can meet. `always`: labels that are there whatever happens. */
export function contradictions(selector: Selector, always: readonly string[] = []): Contradiction[] {
  const byKey = Map.groupBy(requirementsOf(selector), ({ key }) => key)
  return [...byKey].flatMap(([key, requirements]) => {
    const given: Requirement[] = always.includes(key) ? [{ key, operator: 'Exists', values: [], path: [] }] : []
    const length = requirements.findIndex((_, index) => !satisfiable([...given, ...requirements.slice(0, index + 1)]))
    const last = requirements[length]
    if (last === undefined) return []
    // The one that it contradicts by itself, where there is one; otherwise all of them together do, and the first stands for them.
    const first = requirements.slice(0, length).find((other) => !satisfiable([...given, other, last])) ?? requirements[0]
    return [{ key, first: first?.path ?? last.path, second: last.path }]
  })
}
