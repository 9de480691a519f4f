/** `merbridge monitor`: live decisions, one after the other, until somebody has seen enough. */
import { stringify } from 'yaml'
import { listed, nearest } from '../config/nearest.ts'
import { printable } from '../config/printable.ts'
import { askAgent } from '../control/client.ts'
import { follow } from '../control/follow.ts'
import { MerbridgeError } from '../errors.ts'
import { filterOf } from '../observe/filter.ts'
import { findPod } from '../pods/named.ts'
import type { EndpointView, EventView, LostView, PodView } from '../views.ts'
import type { Outcome, Output } from './outcome.ts'

export interface MonitorOptions {
  readonly verdict?: readonly string[]
  readonly direction?: string
  readonly proto?: string
  readonly family?: string
  readonly from?: string
  readonly to?: string
  readonly port?: string
  readonly rule?: string
  readonly sample?: string
  readonly count?: string
}

/** Prints at once; false: nobody reads any more. */
export type Write = (text: string) => Promise<boolean>

type Line = EventView | LostView

const at = ({ address, port }: EndpointView): string =>
  `${address.includes(':') && port !== undefined ? `[${address}]` : address}${port === undefined ? '' : `:${port}`}`

function verdictText({ verdict, target, reason, error }: EventView): string {
  if (verdict === 'redirect' && target !== undefined)
    return `redirect to ${target.address === undefined ? `port ${target.port}` : at({ ...target, address: target.address })}`
  if (verdict === 'refused') return `REFUSED: ${reason}${error === undefined ? '' : ` (${error})`}`
  return verdict === 'drop' && error !== undefined ? `drop (${error})` : verdict
}

function ruleText({ rule }: EventView): string {
  if (rule === undefined) return '-'
  if (rule === null) return 'none matched'
  return rule.name === undefined ? `#${rule.index}` : `#${rule.index} ${rule.name}`
}

function callerText({ process, owner }: EventView): string {
  if (process === undefined) return '-'
  return `${process.command} (pid ${process.pid}${owner === undefined ? '' : `, uid ${owner.uid}, gid ${owner.gid}`})`
}

const clock = (time: string): string => {
  const date = new Date(time)
  const two = (number: number) => String(number).padStart(2, '0')
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`
}

const header = ['TIME', 'POD', 'WAY', 'PROTO', 'FROM', 'TO', 'VERDICT', 'RULE', 'CALLER', 'FACTS']
const startWidths = [12, 16, 3, 5, 15, 18, 28, 24, 36, 0]

/** Columns that grow with what has been seen, because what comes is not known. */
function columns(): (cells: readonly string[]) => string {
  const widths = [...startWidths]
  return (cells) =>
    cells
      .map((cell, index) => {
        const text = printable(cell)
        widths[index] = Math.max(widths[index] ?? 0, Math.min(text.length, 60))
        return index === cells.length - 1 ? text : text.padEnd(widths[index] ?? 0)
      })
      .join('  ')
      .trimEnd()
}

export function textPrinter(): { readonly head: string; readonly line: (line: Line) => string } {
  const row = columns()
  return {
    head: `${row(header)}\n`,
    line: (line) => {
      if ('lost' in line) return `-- ${line.lost} ${line.lost === 1 ? 'event was' : 'events were'} lost: more than could be told (see --sample)\n`
      const { time, pod, direction, protocol = '-', source, destination, facts } = line
      const way = direction === 'outbound' ? 'out' : 'in'
      const ends = [at(source), at(destination)]
      const cells = [clock(time), pod, way, protocol, ...ends, verdictText(line), ruleText(line), callerText(line), facts.join(', ')]
      return `${row(cells)}\n`
    },
  }
}

function printer(output: Output): { readonly head: string; readonly line: (line: Line) => string } {
  if (output === 'json') return { head: '', line: (line) => `${JSON.stringify(line)}\n` }
  return output === 'yaml' ? { head: '', line: (line) => `---\n${stringify(line)}` } : textPrinter()
}

function countOf(count: string | undefined): number {
  if (count === undefined) return Number.POSITIVE_INFINITY
  if (/^\d{1,9}$/.test(count) && Number(count) > 0) return Number(count)
  throw new MerbridgeError('USAGE', `--count: "${count}" is not a number of events`, 'Give a whole number from 1 on.')
}

function queryOf(options: MonitorOptions): URLSearchParams {
  const query = new URLSearchParams()
  for (const name of ['direction', 'proto', 'family', 'from', 'to', 'port', 'rule', 'sample'] as const) {
    const value = options[name]
    if (value !== undefined) query.set(name, value)
  }
  for (const verdict of options.verdict ?? []) query.append('verdict', verdict)
  return query
}

/** A misspelt rule would be waited for in vain. */
function requireRule(rule: string, pods: readonly PodView[]): void {
  const names = [...new Set(pods.flatMap((pod) => pod.rules.map(({ name }) => name)))]
  if (names.length === 0 || names.includes(rule)) return
  const close = nearest(rule, names).slice(0, 3)
  const hint = close.length > 0 ? `Did you mean ${listed(close)}?` : 'Show the rules of a pod with: merbridge pods NAME'
  throw new MerbridgeError('USAGE', `--rule: no pod has a rule "${rule}"`, hint)
}

async function checked(socket: string, name: string | undefined, options: MonitorOptions): Promise<URLSearchParams> {
  const query = queryOf(options)
  filterOf(query) // what makes no sense is said without an agent, too
  if (name === undefined && options.rule === undefined) return query
  const pods = await askAgent<PodView[]>(socket, '/v1/pods')
  const pod = name === undefined ? undefined : findPod(pods, name)
  if (pod !== undefined) query.set('pod', `${pod.namespace}/${pod.name}`)
  if (options.rule !== undefined) requireRule(options.rule, pod === undefined ? pods : [pod])
  return query
}

/** Ends well when `stop` aborts, when `--count` events were printed, and when nobody reads any more. */
export async function monitor(
  socket: string,
  name: string | undefined,
  options: MonitorOptions,
  output: Output,
  write: Write,
  stop: AbortSignal,
): Promise<Outcome> {
  let left = countOf(options.count)
  const query = await checked(socket, name, options)
  const { head, line } = printer(output)
  const enough = new AbortController()
  const print = async (text: string): Promise<void> => {
    if (text !== '' && !(await write(text))) enough.abort()
  }
  for await (const event of follow<Line>(socket, query, AbortSignal.any([stop, enough.signal]), () => print(head))) {
    await print(line(event))
    if (!('lost' in event)) left--
    if (left <= 0 || enough.signal.aborted || stop.aborted) break
  }
  return { code: 0 }
}
