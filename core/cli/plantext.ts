/** A plan as text for a terminal. */
import { printable } from '../config/printable.ts'
import type { PlannedEntry, PlannedPod, PlannedRules, PlanView, PodChange } from '../plan/view.ts'
import { count, indent, sections, table } from './table.ts'

/** What needs somebody's attention comes first. */
const order: readonly PodChange[] = ['leaves', 'stays out', 'joins', 'new rules', 'new routes', 'unchanged']

const verbs: Readonly<Record<PodChange, readonly [one: string, several: string, more?: string]>> = {
  leaves: ['LEAVES', 'LEAVE', ', and no connection is intercepted there any more'],
  'stays out': ['stays out', 'stay out'],
  joins: ['joins', 'join'],
  'new rules': ['gets other rules', 'get other rules'],
  'new routes': ['gets other routes or proxy ports', 'get other routes or proxy ports'],
  unchanged: ['stays as it is', 'stay as they are'],
}

function summary(pods: readonly PlannedPod[]): string[] {
  return order.flatMap((change) => {
    const number = pods.filter((pod) => pod.change === change).length
    const [one, several, more = ''] = verbs[change]
    return number === 0 ? [] : [`${count(number, 'pod')} ${number === 1 ? one : several}${more}`]
  })
}

function headText({ file, bpffs, datapath, agentRuns, needsRestart, notes, changes, pods }: PlanView): string {
  const place = datapath.inPlace
    ? `the datapath in place, generation ${datapath.generation}`
    : `nothing is in place there${changes ? ': everything is new' : ''}`
  const how = agentRuns ? 'when the running agent takes the config' : 'when an agent starts with the config'
  const lines = [
    `plan for ${file === '-' ? 'standard input' : file}: what changes ${how}`,
    `against ${bpffs}: ${place}`,
    ...(needsRestart.length === 0
      ? []
      : [`NEEDS A RESTART: ${needsRestart.join(', ')} cannot change while the agent runs; until it is restarted, the agent refuses this config`]),
    ...notes.map((note) => `note: ${note}`),
    ...(changes ? summary(pods) : ['nothing to change', ...summary(pods)]),
  ]
  return lines.map(printable).join('\n')
}

function podsText(pods: readonly PlannedPod[]): string {
  const rows = [...pods]
    .sort((a, b) => order.indexOf(a.change) - order.indexOf(b.change) || (a.name < b.name ? -1 : 1))
    .filter(({ change, warnings, loopback = [] }) => change !== 'unchanged' || warnings.length + loopback.length > 0)
    .map(({ name, change, state, reason, warnings, loopback = [] }) => {
      const why = reason === undefined ? [] : [state === undefined || state === 'enrolled' ? reason : `${state}: ${reason}`]
      return [name, change, [...why, ...loopback, ...warnings].join('; ')]
    })
  return rows.length === 0 ? '' : table(['POD', 'CHANGE', 'NOTES'], rows)
}

const mostNamed = 5

function namesText(pods: readonly string[]): string {
  const more = pods.length > mostNamed ? ` and ${pods.length - mostNamed} more` : ''
  return printable(`${pods.slice(0, mostNamed).join(', ')}${more}`)
}

/** Rules of pods that keep some; those of a pod that joins or leaves are many, and come with --verbose. */
function rulesText({ pods, policyBefore, policyAfter, rules }: PlannedRules, verbose: boolean): string {
  const { added, removed, changed, reordered, known } = rules
  const isWhole = policyBefore === undefined || policyAfter === undefined
  if (isWhole && !verbose) return ''
  const lines = [
    ...(known ? [] : ['the names of the rules of before are not known; all of the new ones:']),
    ...removed.map((rule) => `- ${rule}`),
    ...changed.flatMap(({ before, after }) => [`~ ${before}`, `  becomes ${after}`]),
    ...added.map((rule) => `+ ${rule}`),
    ...(reordered ? ['the rules that stay have another order'] : []),
  ]
  return `rules of ${namesText(pods)}: policy ${policyBefore ?? 'none'} becomes ${policyAfter ?? 'none'}\n${indent(lines.map(printable).join('\n'))}`
}

function mapsText({ maps }: PlanView): string {
  const rows = maps
    .filter(({ added, changed, removed }) => added + changed + removed > 0)
    .map(({ map, added, changed, removed, entries, capacity }) => [map, `+${added}`, `~${changed}`, `-${removed}`, String(entries), String(capacity)])
  return rows.length === 0 ? '' : table(['MAP', 'ADDED', 'CHANGED', 'REMOVED', 'ENTRIES THEN', 'CAPACITY'], rows)
}

const signs = { add: '+', change: '~', remove: '-' } as const

function entriesText(entries: readonly PlannedEntry[]): string {
  const lines = entries.flatMap(({ map, change, entry, before, details = [] }) => [
    `${signs[change]} ${map}: ${entry}`,
    ...(before === undefined ? [] : [`    was ${before}`]),
    ...details.map((detail) => `    ${detail}`),
  ])
  return lines.length === 0 ? '' : `entries\n${indent(lines.map(printable).join('\n'))}`
}

export function planText(view: PlanView, verbose: boolean): string {
  return sections([
    headText(view),
    podsText(view.pods),
    ...view.rules.map((each) => rulesText(each, verbose)),
    mapsText(view),
    verbose ? entriesText(view.entries) : '',
  ])
}
