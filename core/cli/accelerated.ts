/** Acceleration in words and tables, for `status`, `pods` and `top`. */
import type { NodeAccelerationView, PodAccelerationView, ReasonView, TrafficView } from '../acceleration/view.ts'
import { printable } from '../config/printable.ts'
import { sizeText } from '../config/size.ts'
import type { PodView, StatusView } from '../views.ts'
import { count, sections, table } from './table.ts'

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** "812 B", "5.6 MiB" */
export function bytesText(bytes: number): string {
  let [value, unit] = [bytes, 0]
  while (value >= 1023.95 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1]
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** "62 %"; "-" of nothing. Never 0 % or 100 % of what is not. */
export function shareText(part: number, whole: number): string {
  if (whole <= 0) return '-'
  const percent = Math.floor((part / whole) * 100)
  return percent === 0 && part > 0 ? '<1 %' : `${percent} %`
}

const share = ({ accelerated, tcp }: TrafficView) => shareText(accelerated.messages, accelerated.messages + tcp.messages)

/** A cell of the list of pods. */
export const acceleratedCell = ({ acceleration, state }: PodView): string =>
  acceleration.on || acceleration.accelerated.messages > 0
    ? `${share(acceleration)}${acceleration.on ? '' : ' (off)'}`
    : state === 'enrolled'
      ? 'off'
      : '-'

function trafficRows({ connections, accelerated, tcp }: TrafficView): string[][] {
  const live = `${connections.joined} joined now, ${connections.accelerating} of them accelerating`
  const ended = `${accelerated.connections} ended that were accelerated, ${tcp.connections} that were not`
  const total = accelerated.messages + tcp.messages
  return [
    ['connections', `${live}; ${ended}`],
    ['messages', `${accelerated.messages} of ${total} accelerated (${shareText(accelerated.messages, total)}), ${tcp.messages} by TCP`],
    ['bytes', `${bytesText(accelerated.bytes)} of ${bytesText(accelerated.bytes + tcp.bytes)} accelerated`],
  ]
}

function reasonsText(reasons: readonly ReasonView[]): string {
  if (reasons.length === 0) return ''
  const rows = reasons.map(({ reason, sentence, messages, bytes, connections }) => [
    reason,
    String(messages),
    bytesText(bytes),
    String(connections),
    sentence,
  ])
  return table(['BY TCP', 'MESSAGES', 'BYTES', 'CONNECTIONS', 'BECAUSE'], rows)
}

const because = (off: readonly string[]) => off.map((why) => ['off because', why])

export function nodeText({ acceleration }: StatusView): string {
  const { mode, budget, on, off, halted, kernel } = acceleration
  const switches = halted.map((pod) => ['switched off', `${pod}, by merbridge accelerate off ${pod}`])
  if (!kernel.can) return table(['acceleration', 'off'], [...because(off), ...switches])
  return sections([
    table(
      ['acceleration', on ? 'on' : 'OFF'],
      [...because(off), ['mode', mode], ['budget', `${sizeText(budget)} for each receiver`], ...switches, ...trafficRows(acceleration)],
    ),
    reasonsText(acceleration.reasons),
  ]).trimEnd()
}

/** Of one pod, where there is anything to say. */
export function podAccelerationText(acceleration: PodAccelerationView): string {
  const { mode, why, on, off } = acceleration
  return sections([
    table(['acceleration', on ? 'on' : 'off'], [...because(off), ['mode', why === '' ? mode : `${mode}: ${why}`], ...trafficRows(acceleration)]),
    reasonsText(acceleration.reasons),
  ]).trimEnd()
}

/** One line above the pods of `top`. */
export function headline({ on, off, mode, connections }: Pick<NodeAccelerationView, 'on' | 'off' | 'mode' | 'connections'>): string {
  const state = on ? `on, mode ${mode}` : `OFF: ${off.map(printable).join('; ')}`
  return `acceleration ${state}; ${count(connections.joined, 'connection')} joined, ${connections.accelerating} accelerating`
}
