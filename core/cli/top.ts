/** `merbridge top`: how much is accelerated just now, pod by pod. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Mode } from '../acceleration/api.ts'
import type { AccelerationView, NodeAccelerationView, SentView, TrafficView } from '../acceleration/view.ts'
import { askAgent } from '../control/client.ts'
import { MerbridgeError } from '../errors.ts'
import { plugins } from '../plugins.ts'
import { bytesText, headline, shareText } from './accelerated.ts'
import { type Common, example, type Finish, type MakeCommand } from './common.ts'
import { fittedTable, wrapped } from './fitted.ts'
import type { Write } from './monitor.ts'
import { type Outcome, type Output, render } from './outcome.ts'
import { findSettings } from './settings.ts'

interface Rate {
  /** A second. */
  readonly messages: number
  readonly bytes: number
}

interface Rates {
  readonly connections: TrafficView['connections']
  readonly accelerated: Rate
  readonly tcp: Rate
  /** Why most messages of this time went by TCP. */
  readonly mostly?: string
}

export interface TopView {
  readonly seconds: number
  readonly node: Rates & Pick<NodeAccelerationView, 'mode' | 'on' | 'off'>
  /** The busiest first. */
  readonly pods: readonly (Rates & { readonly pod: string; readonly mode: Mode; readonly on: boolean })[]
}

const none: TrafficView = {
  connections: { joined: 0, accelerating: 0 },
  accelerated: { messages: 0, bytes: 0, connections: 0 },
  tcp: { messages: 0, bytes: 0, connections: 0 },
  reasons: [],
}

/** A count that began anew (another agent version, a pod that came back) is no negative rate. */
const perSecond = (before: number, after: number, seconds: number) => Math.round(Math.max(0, after - before) / seconds)

const rate = (before: SentView, after: SentView, seconds: number): Rate => ({
  messages: perSecond(before.messages, after.messages, seconds),
  bytes: perSecond(before.bytes, after.bytes, seconds),
})

function mostly(before: TrafficView, after: TrafficView): string | undefined {
  const known = new Map(before.reasons.map(({ reason, messages }) => [reason, messages]))
  const grown = after.reasons.map(({ reason, messages }) => ({ reason, more: messages - (known.get(reason) ?? 0) })).filter(({ more }) => more > 0)
  return grown.sort((a, b) => b.more - a.more)[0]?.reason
}

function rates(before: TrafficView, after: TrafficView, seconds: number): Rates {
  const why = mostly(before, after)
  return {
    connections: after.connections,
    accelerated: rate(before.accelerated, after.accelerated, seconds),
    tcp: rate(before.tcp, after.tcp, seconds),
    ...(why === undefined ? {} : { mostly: why }),
  }
}

const messages = ({ accelerated, tcp }: Rates) => accelerated.messages + tcp.messages

export function topView(before: AccelerationView, after: AccelerationView): TopView {
  const seconds = Math.max((after.at - before.at) / 1000, 0.001)
  const earlier = new Map(before.pods.map((pod) => [pod.pod, pod]))
  const pods = after.pods.map((now) => ({ pod: now.pod, mode: now.mode, on: now.on, ...rates(earlier.get(now.pod) ?? none, now, seconds) }))
  const { mode, on, off } = after.node
  return {
    seconds,
    node: { mode, on, off, ...rates(before.node, after.node, seconds) },
    pods: pods.sort(
      (a, b) => messages(b) - messages(a) || b.accelerated.bytes + b.tcp.bytes - a.accelerated.bytes - a.tcp.bytes || (a.pod < b.pod ? -1 : 1),
    ),
  }
}

const cells = (each: Rates): string[] => [
  shareText(each.accelerated.messages, messages(each)),
  each.mostly ?? '-',
  String(each.accelerated.messages),
  String(each.tcp.messages),
  bytesText(each.accelerated.bytes),
  bytesText(each.tcp.bytes),
  String(each.connections.joined),
  String(each.connections.accelerating),
]

/** What matters most comes first: a narrow terminal shows no more. */
const header = ['POD', 'MODE', 'FAST', 'TCP BECAUSE', 'FAST MSG/S', 'TCP MSG/S', 'FAST B/S', 'TCP B/S', 'JOINED', 'ACCELERATING']
const needed = 4

export function topText({ seconds, node, pods }: TopView, columns = Number.POSITIVE_INFINITY): string {
  const first = wrapped(`${headline(node)}; over ${seconds.toFixed(1)} s`, columns)
  const rows = pods.map((pod) => [pod.pod, pod.on ? pod.mode : 'off', ...cells(pod)])
  return `${first}\n\n${fittedTable(header, [['(node)', node.mode, ...cells(node)], ...rows], columns, needed)}\n`
}

export interface Screen {
  readonly columns: number
  readonly rows: number
}

/** From the top left corner; each line ends the rest of what stood there, so that nothing flickers. */
export function frame(text: string, { columns, rows }: Screen): string {
  const lines = text
    .trimEnd()
    .split('\n')
    .slice(0, Math.max(1, rows - 1))
  return `\x1b[H${lines.map((line) => `${[...line].slice(0, columns).join('')}\x1b[K\n`).join('')}\x1b[J`
}

export interface TopOptions {
  readonly interval: string
  readonly once?: boolean
}

export function intervalOf(text: string): number {
  const seconds = /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN
  if (seconds >= 0.2 && seconds <= 3600) return seconds
  throw new MerbridgeError('USAGE', `--interval: "${text}" is not a time`, 'Give seconds, from 0.2 to 3600.')
}

/** Where `top` prints. */
export interface Terminal {
  readonly write: Write
  /** undefined: it is no terminal. */
  readonly screen: () => Screen | undefined
  readonly stop: AbortSignal
}

/** Seconds until a terminal has its first picture. */
const soon = 1

/** false: it shall end. */
const pause = (seconds: number, signal: AbortSignal): Promise<boolean> => sleep(seconds * 1000, true, { signal }).catch(() => false)

/** Ends well when `stop` aborts and when nobody reads any more. */
export async function top(socket: string, { interval, once = false }: TopOptions, output: Output, terminal: Terminal): Promise<Outcome> {
  const seconds = intervalOf(interval)
  const { write, screen, stop } = terminal
  let before = await askAgent<AccelerationView>(socket, '/v1/acceleration')
  const next = async (): Promise<TopView> => {
    const after = await askAgent<AccelerationView>(socket, '/v1/acceleration')
    const view = topView(before, after)
    before = after
    return view
  }
  if (once || output !== 'text' || screen() === undefined) {
    if (!(await pause(seconds, stop))) return { code: 0 }
    const view = await next()
    return { code: 0, stdout: render(view, output, () => topText(view, screen()?.columns)) }
  }
  await write('\x1b[2J')
  for (let wait = Math.min(seconds, soon); await pause(wait, stop); wait = seconds) {
    const view = await next()
    const size = screen() ?? { columns: 80, rows: 24 }
    if (!(await write(frame(topText(view, size.columns), size)))) break
  }
  return { code: 0 }
}

export function addTop(command: MakeCommand, terminal: () => Terminal, finish: Finish): void {
  const about = '\nOn a terminal it goes on until Ctrl-C; elsewhere, with --once, and with json or yaml it prints one sample.'
  command('top', 'show what is accelerated just now, the busiest pods first', `${about}\n${example('merbridge top', 'merbridge top --once')}`)
    .option('--interval <seconds>', 'how long a sample takes', '2')
    .option('--once', 'one sample')
    .action(async (options: Common & TopOptions) => {
      intervalOf(options.interval) // what makes no sense is said without an agent, too
      const { socket } = await findSettings(options, plugins)
      finish(await top(socket, options, options.output, terminal()))
    })
}
