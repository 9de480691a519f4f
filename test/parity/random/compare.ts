/** One set: both pods get it, make the same connections, and are compared. */
import type { PodView } from '../../../core/views.ts'
import { readPod } from '../../lab/istio-options.ts'
import { type Plan, runPlan, settledDifferences } from '../columns.ts'
import { type Difference, judge, type Named } from '../compare.ts'
import { type Connections, connectionsFor } from './connections.ts'
import type { PodSet } from './pods.ts'
import type { World } from './world.ts'

export type Outcome =
  | { readonly kind: 'alike' | 'different'; readonly connections: number; readonly differences: readonly Difference[] }
  /** `wrong`: what should have been otherwise */
  | { readonly kind: 'refused' | 'unsupported'; readonly wrong?: string }

const planOf =
  ({ outbound, fromPeer, fromNode }: Connections): Plan =>
  (site) => [
    [site.pod, outbound],
    [site.peer, fromPeer],
    [site.lab.node, fromNode],
  ]

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

export async function compareSet(world: World, set: PodSet, named: readonly Named[]): Promise<Outcome> {
  const reading = readPod(set.pod, set.options)
  if ('refused' in reading) return withWrong('refused', notEnrolled(await world.setPod(set, true), reading.refused))
  if ('unsupported' in reading) return withWrong('unsupported', notEnrolled(await world.setPod(set, true), reading.unsupported))
  const { rules } = reading
  const [view] = await Promise.all([world.setPod(set, false), world.setRules(rules, set.backend)])
  // What comes in from a virtual machine may be beyond what can be done at sockets; then the pod says so.
  const [machine] = rules.rerouteInterfaces
  if (view.state === 'cannot' && machine !== undefined) return withWrong('unsupported', notEnrolled(view, machine))
  if (view.state !== 'enrolled') throw new Error(`the pod is ${view.state}: ${view.reason ?? ''}`)
  const connections = connectionsFor(rules, set.salt)
  const plan = planOf(connections)
  const rows = withPorts(named, rules.outboundPort, rules.inboundPort)
  const [iptables, merbridge] = await Promise.all([runPlan(world.withRules, plan, 'any'), runPlan(world.withAgent, plan, 'any')])
  const differences = await settledDifferences(iptables, merbridge, rows, (only) => runPlan(world.withRules, plan, 'any', only))
  const { unnamed } = judge(differences, rows)
  return { kind: unnamed.length === 0 ? 'alike' : 'different', connections: merbridge.size, differences: unnamed }
}
