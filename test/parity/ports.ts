/** Cases and rows of docs/parity.md speak of Istio's ports; here they become those of a mesh. */
import type { Named } from './compare.ts'
import type { DatagramCase, Do } from './exchange.ts'
import type { Case, Endpoint } from './probe.ts'
import { istioLayout } from './shape.ts'

export interface Ports {
  readonly outbound: number
  readonly inbound: number
  /** Absent: the mesh takes no DNS. */
  readonly dns?: number | undefined
}

const { outboundPort, inboundPort, dns } = istioLayout
const spoken = new RegExp(`\\b(${outboundPort}|${inboundPort}|${dns?.port})\\b`, 'g')

/** The text or the number with the mesh's ports. */
function translator(ports: Ports) {
  const number = (port: number): number =>
    port === outboundPort ? ports.outbound : port === inboundPort ? ports.inbound : port === dns?.port ? (ports.dns ?? port) : port
  return { number, text: (text: string) => text.replace(spoken, (port) => String(number(Number(port)))) }
}

export function rowsFor(ports: Ports, rows: readonly Named[]): readonly Named[] {
  const { text } = translator(ports)
  return rows.map((row) => ({ ...row, case: text(row.case), iptables: text(row.iptables), merbridge: text(row.merbridge) }))
}

export function casesFor(ports: Ports, cases: readonly Case[]): readonly Case[] {
  const { text, number } = translator(ports)
  return cases.map((each) => ({ ...each, id: text(each.id), to: each.to.map(([host, port]): Endpoint => [host, number(port)]) }))
}

export function datagramsFor(ports: Ports, cases: readonly DatagramCase[]): readonly DatagramCase[] {
  const { text, number } = translator(ports)
  const step = (each: Do): Do => ('to' in each ? { ...each, to: [each.to[0], number(each.to[1])] } : each)
  return cases.map((each) => ({ ...each, id: text(each.id), steps: each.steps.map(step) }))
}
