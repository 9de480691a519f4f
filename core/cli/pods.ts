import { printable } from '../config/printable.ts'
import { askAgent } from '../control/client.ts'
import { findPod } from '../pods/named.ts'
import type { PodState, PodView } from '../views.ts'
import { acceleratedCell, podAccelerationText } from './accelerated.ts'
import { type Outcome, type Output, render } from './outcome.ts'
import { indent, sections, table } from './table.ts'
import { kindColumns } from './tally.ts'

/** What needs somebody's attention comes first. */
const urgency: readonly PodState[] = ['failed', 'cannot', 'waiting', 'enrolled']

const title = (pod: PodView) => `${pod.namespace}/${pod.name}`

export const inOrder = (pods: readonly PodView[]) =>
  [...pods].sort((a, b) => urgency.indexOf(a.state) - urgency.indexOf(b.state) || (title(a) < title(b) ? -1 : 1))

const also = ({ selection }: PodView): string[] =>
  selection === undefined || selection.also.length === 0 ? [] : [`${selection.also.join(', ')} would have taken it, too, but comes later`]

/** With the entry of the config and why it took the pod, where there is a list of them. */
const meshOf = ({ mesh, selection }: PodView): string =>
  selection === undefined || selection.entry === 'mesh' ? mesh || '-' : `${mesh} (${selection.entry}, ${selection.why})`

const whys = { only: 'the only mesh of the config', match: 'its match', selects: "the plugin's own selection" }

function meshFact(pod: PodView): string {
  const { selection } = pod
  return selection === undefined ? 'none' : `${pod.mesh}, by ${selection.entry}: ${whys[selection.why]}`
}

const notes = (pod: PodView): string =>
  [
    ...(pod.reason === undefined ? [] : [pod.reason]),
    ...also(pod),
    ...(pod.iptables ? ['has NAT rules of its own as well'] : []),
    ...pod.warnings,
  ].join('; ')

function listText(pods: readonly PodView[]): string {
  if (pods.length === 0) return 'no pods are listed in the config\n'
  const rows = inOrder(pods).map((pod) => [title(pod), pod.state, meshOf(pod), pod.addresses.join(' ') || '-', acceleratedCell(pod), notes(pod)])
  return `${table(['POD', 'STATE', 'MESH', 'ADDRESSES', 'ACCELERATED', 'NOTES'], rows)}\n`
}

function rulesText(pod: PodView, direction: 'outbound' | 'inbound'): string {
  const rules = pod.rules.filter((rule) => rule.direction === direction).sort((a, b) => a.index - b.index)
  if (rules.length === 0) return ''
  const { header, cells } = kindColumns(pod.rules.map(({ by }) => by))
  const rows = rules.map((rule) => [String(rule.index), rule.name, rule.condition || 'always', rule.then, String(rule.hits), ...cells(rule.by)])
  return `${direction} (first match wins)\n${indent(table(['#', 'RULE', 'WHEN', 'THEN', 'HITS', ...header], rows))}`
}

export function refusalsText(refusals: PodView['refusals']): string {
  if (refusals.length === 0) return ''
  const { header, cells } = kindColumns(refusals.map(({ by }) => by))
  const rows = refusals.map(({ reason, count, by }) => [reason, String(count), ...cells(by)])
  return table(['REFUSED BECAUSE', 'CONNECTIONS', ...header], rows)
}

export function podText(pod: PodView): string {
  const facts = [
    ...(pod.reason === undefined ? [] : [['reason', pod.reason]]),
    ...pod.warnings.map((warning) => ['warning', warning]),
    ['mesh', meshFact(pod)],
    ...also(pod).map((note) => ['overlap', note]),
    ['netns', pod.netns],
    ['addresses', pod.addresses.join(' ') || 'none'],
    ['listeners', pod.listeners.join(' ') || 'none'],
    ...(pod.loopback.length === 0 ? [] : [['lo', pod.loopback.join('; ')]]),
    ['policy', pod.policy ?? 'none'],
    ['iptables', pod.iptables ? 'the pod has NAT rules of its own as well' : 'no NAT rules'],
  ]
  return sections([
    table([printable(title(pod)), pod.state === 'enrolled' ? 'enrolled' : pod.state.toUpperCase()], facts),
    podAccelerationText(pod.acceleration),
    refusalsText(pod.refusals),
    rulesText(pod, 'outbound'),
    rulesText(pod, 'inbound'),
  ])
}

export async function pods(socket: string, name: string | undefined, output: Output): Promise<Outcome> {
  const views = await askAgent<PodView[]>(socket, '/v1/pods')
  if (name === undefined) return { code: 0, stdout: render(views, output, () => listText(views)) }
  const view = findPod(views, name)
  return { code: 0, stdout: render(view, output, () => podText(view)) }
}
