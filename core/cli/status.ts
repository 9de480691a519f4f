import { printable } from '../config/printable.ts'
import { askAgent } from '../control/client.ts'
import { kinds, type PodView, type StatusView } from '../views.ts'
import { nodeText } from './accelerated.ts'
import { type Outcome, type Output, render } from './outcome.ts'
import { inOrder, refusalsText } from './pods.ts'
import { age, count, indent, sections, table } from './table.ts'
import { kindTitles } from './tally.ts'

const since = (time: string) => age(Date.now() - Date.parse(time))

function head({ agent }: StatusView): string {
  const state = agent.ready ? 'ready' : 'NOT READY'
  const reasons = agent.notReady.map((reason) => `  ${printable(reason)}`)
  return [`merbridge ${printable(agent.version)}: ${state}, pid ${agent.pid}, up ${since(agent.startedAt)}`, ...reasons].join('\n')
}

function configPart({ config }: StatusView): string {
  const { at, outcome, reason } = config.lastReload
  const { reloads, meshes, warnings } = config
  const loud = outcome === 'refused' || outcome === 'last-good'
  const last = `${loud ? outcome.toUpperCase() : outcome} ${since(at)} ago${reason === undefined ? '' : `: ${printable(reason)}`}`
  return table(
    ['config', printable(config.path)],
    [
      ['generation', String(config.generation)],
      ['last reload', last],
      ['reloads', `${reloads.applied} applied, ${reloads.unchanged} unchanged, ${reloads.refused} refused since the start, which counts as one`],
      ...meshes.map(({ entry, mesh, pods }) => [entry, `${mesh}, ${count(pods, 'pod')}`]),
      ...warnings.map((warning) => ['warning', warning]),
    ],
  )
}

function podsPart({ pods }: StatusView, views: readonly PodView[]): string {
  const summary = [
    `${count(pods.listed, 'pod')} listed: ${pods.enrolled} enrolled`,
    ...(pods.waiting > 0 ? [`${pods.waiting} waiting`] : []),
    ...(pods.failed > 0 ? [`${pods.failed} FAILED`] : []),
    ...(pods.warnings > 0 ? [`${count(pods.warnings, 'warning')} (see: merbridge pods)`] : []),
  ].join(', ')
  const own = pods.iptables.length === 0 ? '' : `\nwith iptables rules of their own as well: ${pods.iptables.map(printable).join(', ')}`
  const out = inOrder(views).filter((pod) => pod.state !== 'enrolled')
  if (out.length === 0) return `${summary}${own}`
  const rows = out.map((pod) => [`${pod.namespace}/${pod.name}`, pod.state, pod.reason ?? ''])
  return `${summary}${own}\n\n${indent(table(['NOT ENROLLED', 'STATE', 'WHY'], rows))}`
}

/** Always with the kinds: which protocols and families are in use is what one wants to see of a node. */
function decisionsPart({ decisions }: StatusView): string {
  const directions = (['outbound', 'inbound'] as const).filter((direction) => Object.keys(decisions[direction]).length > 0)
  const rows = directions.map((direction) => [direction, ...kinds.map((kind) => String(decisions[direction][kind] ?? 0))])
  return rows.length === 0 ? '' : table(['DECIDED', ...kinds.map((kind) => kindTitles[kind])], rows)
}

function attachmentsPart({ attachments }: StatusView): string {
  const rows = attachments.map(({ hook, at, programs }) => {
    const names = programs.map(({ id, name, ours }) => `${name} (${id}${ours ? '' : ', foreign'})`)
    return [hook, at, names.join(', then ') || 'NOTHING ATTACHED']
  })
  return rows.length === 0 ? '' : table(['HOOK', 'AT', 'PROGRAMS IN ORDER'], rows)
}

function kernelPart({ kernel }: StatusView): string {
  const rows = kernel.features.map(({ name, state, detail }) => [name, state, detail])
  return `kernel ${printable(kernel.release)}${rows.length === 0 ? '' : `\n\n${indent(table(['FEATURE', 'STATE', 'DETAIL'], rows))}`}`
}

const share = (entries: number, capacity: number) => (capacity === 0 ? '' : `${Math.ceil((entries / capacity) * 100)} %`)

/** Passed is what is expected, and stands with the kernel. */
export function selfTestPart({ selfTest }: Pick<StatusView, 'selfTest'>): string {
  if (selfTest === undefined || selfTest.state === 'unneeded') return ''
  const { state, at, failed, again } = selfTest
  const when = at === undefined ? '' : `, ${since(at)} ago`
  if (state !== 'failed') return `self-test of acceleration: ${state}${when}`
  const rows = failed.map(({ name, problems }) => [name, problems[0] ?? ''])
  return `self-test of acceleration: FAILED${when}; nothing is accelerated (see: merbridge selftest)${again === undefined ? '' : `; tried again at ${again}`}\n\n${indent(table(['CHECK', 'FIRST PROBLEM'], rows))}`
}

/** The fullest first. */
function mapsPart({ maps }: StatusView): string {
  const sorted = [...maps].sort((a, b) => b.entries / (b.capacity || 1) - a.entries / (a.capacity || 1))
  const rows = sorted.map(({ name, entries, capacity }) => [name, String(entries), String(capacity), share(entries, capacity)])
  return rows.length === 0 ? '' : table(['MAP', 'ENTRIES', 'CAPACITY', 'FULL'], rows)
}

export function statusText(status: StatusView, pods: readonly PodView[]): string {
  return sections([
    head(status),
    configPart(status),
    podsPart(status, pods),
    decisionsPart(status),
    refusalsText(status.refusals),
    nodeText(status),
    attachmentsPart(status),
    selfTestPart(status),
    kernelPart(status),
    mapsPart(status),
  ])
}

export async function status(socket: string, output: Output): Promise<Outcome> {
  const view = await askAgent<StatusView>(socket, '/v1/status')
  const pods = output === 'text' ? await askAgent<PodView[]>(socket, '/v1/pods') : []
  return { code: 0, stdout: render(view, output, () => statusText(view, pods)) }
}
