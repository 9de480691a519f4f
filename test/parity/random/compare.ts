/** One set: both pods get it, make the same connections, and are compared. */
import type { PodView } from '../../../core/views.ts'
import type { IstioRuleOptions } from '../../lab/istio-iptables.ts'
import { readPod } from '../../lab/istio-options.ts'
import { type Plan, runPlan, settledDifferences } from '../columns.ts'
import { type Column, type Difference, judge, type Named } from '../compare.ts'
import { exchangeColumn } from '../exchange.ts'
import type { Kind, Site } from '../shape.ts'
import { connectionsFor } from './connections.ts'
import type { PodSet } from './pods.ts'
import { datagramsFor, sixCases } from './sixes.ts'
import type { World } from './world.ts'

export type Outcome =
  | { readonly kind: 'alike' | 'different'; readonly connections: number; readonly differences: readonly Difference[] }
  /** `wrong`: what should have been otherwise */
  | { readonly kind: 'refused' | 'unsupported'; readonly wrong?: string }

export type FamilySet = PodSet & { readonly kind: Kind }

/** Everything that the set's pod is asked, or what is in `only`. */
async function columnOf(site: Site, { kind, salt }: FamilySet, rules: Required<IstioRuleOptions>, only?: ReadonlySet<string>): Promise<Column> {
  const setup = kind === 'dual' && !rules.ipv6 ? 'v4-first' : kind
  const { outbound, fromPeer, fromNode } = connectionsFor(rules, kind, salt)
  const plan: Plan = () => [
    [site.pod, [...outbound, ...sixCases(rules, kind, salt)]],
    [site.peer, fromPeer],
    [site.lab.node, fromNode],
  ]
  const datagrams = datagramsFor(rules, kind, salt).filter(({ id }) => only === undefined || only.has(`${setup}: ${id}`))
  return new Map([...(await runPlan(site, plan, setup, only)), ...(await exchangeColumn(setup, site.pod, datagrams))])
}

/** A pod that is not enrolled must say so, and name what is at fault, with or without its prefix, in a warning or in the reason. */
function notEnrolled({ state, reason = '', warnings }: PodView, about: string): string | undefined {
  if (state !== 'cannot') return `its state is ${state}; expected cannot, because of ${about}`
  const name = about.replace(/^.*\//, '')
  return [reason, ...warnings].some((text) => text.includes(name)) ? undefined : `neither its reason nor a warning names ${about}: ${reason}`
}

const withWrong = (kind: 'refused' | 'unsupported', wrong: string | undefined): Outcome => ({ kind, ...(wrong === undefined ? {} : { wrong }) })

/** The rows name the usual ports of the proxy. */
const withPorts = (named: readonly Named[], outbound: number, inbound: number): readonly Named[] =>
  named.map((row) => ({ ...row, iptables: row.iptables.replace('15006', String(inbound)).replace('15001', String(outbound)) }))

export async function compareSet(world: World, set: FamilySet, named: readonly Named[]): Promise<Outcome> {
  const reading = readPod(set.pod, set.options)
  if ('refused' in reading) return withWrong('refused', notEnrolled(await world.setPod(set, true), reading.refused))
  if ('unsupported' in reading) return withWrong('unsupported', notEnrolled(await world.setPod(set, true), reading.unsupported))
  const { rules } = reading
  const [view] = await Promise.all([world.setPod(set, false), world.setRules(set.kind, rules, set.backend)])
  // What comes in from a virtual machine may be beyond what can be done at sockets; then the pod says so.
  const [machine] = rules.rerouteInterfaces
  if (view.state === 'cannot' && machine !== undefined) return withWrong('unsupported', notEnrolled(view, machine))
  if (view.state !== 'enrolled') throw new Error(`the pod is ${view.state}: ${view.reason ?? ''}`)
  const rows = withPorts(named, rules.outboundPort, rules.inboundPort)
  const [withRules, withAgent] = [world.withRules[set.kind], world.withAgent[set.kind]]
  const [iptables, merbridge] = await Promise.all([columnOf(withRules, set, rules), columnOf(withAgent, set, rules)])
  const differences = await settledDifferences(iptables, merbridge, rows, (only) => columnOf(withRules, set, rules, only))
  const { unnamed } = judge(differences, rows)
  return { kind: unnamed.length === 0 ? 'alike' : 'different', connections: merbridge.size, differences: unnamed }
}
