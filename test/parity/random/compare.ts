/** One set: both pods get it, make the same connections, and are compared. */
import { type Plan, runPlan, settledDifferences } from '../columns.ts'
import { type Column, type Difference, judge, type Named } from '../compare.ts'
import { exchangeColumn } from '../exchange.ts'
import type { MeshUnderTest } from '../mesh.ts'
import { rowsOfPod } from '../rows.ts'
import type { Site } from '../shape.ts'
import { connectionsFor } from './connections.ts'
import type { RandomSet } from './sets.ts'
import { datagramsFor, sixCases } from './sixes.ts'
import { keepsOldRules, unnamed as notNamed, wrongWarnings } from './told.ts'
import type { World } from './world.ts'
import { type Subject, subjectOf } from './worth.ts'

export type Outcome =
  | {
      readonly kind: 'alike' | 'different'
      readonly connections: number
      readonly repeated: number
      readonly differences: readonly Difference[]
      readonly wrong?: string
    }
  /** `wrong`: what should have been otherwise */
  | { readonly kind: 'refused' | 'unsupported'; readonly wrong?: string }

/** Everything that the set's pod is asked; a column has all of it, or what is in `only`. */
function questionsFor({ kind, salt }: RandomSet, subject: Subject): (site: Site, only?: ReadonlySet<string>) => Promise<Column> {
  const setup = kind === 'dual' && !subject.interest.ipv6 ? 'v4-first' : kind
  const { outbound, fromPeer, fromNode } = connectionsFor(subject, kind, salt)
  const fromPod = [...outbound, ...sixCases(subject, kind, salt)]
  const datagrams = datagramsFor(subject, kind, salt)
  const plan: Plan = (site) => [
    [site.pod, fromPod],
    [site.peer, fromPeer],
    [site.lab.node, fromNode],
  ]
  return async (site, only) => {
    const chosen = datagrams.filter(({ id }) => only === undefined || only.has(`${setup}: ${id}`))
    return new Map([...(await runPlan(site, plan, setup, only)), ...(await exchangeColumn(setup, site.pod, chosen, subject.layout.dns?.port))])
  }
}

const withWrong = <Kind extends string>(kind: Kind, wrong: string | undefined) => ({ kind, ...(wrong === undefined ? {} : { wrong }) })

/** A pod that was never enrolled (others keep the rules of the set before) stays out, must say so, and name what is at fault. */
async function notEnrolled(world: World, set: RandomSet, kind: 'refused' | 'unsupported', about: string): Promise<Outcome> {
  const view = await world.setPod(set, true)
  const state = view.state === 'cannot' ? undefined : `its state is ${view.state}; expected cannot, because of ${about}`
  return withWrong(kind, state ?? notNamed(view, about))
}

export async function compareSet<Rules>(mesh: MeshUnderTest<Rules>, world: World, set: RandomSet, named: readonly Named[]): Promise<Outcome> {
  const reading = mesh.read({ pod: set.pod, options: set.options, addresses: world.addresses[set.kind] })
  if ('refused' in reading) return notEnrolled(world, set, 'refused', reading.refused)
  if ('unsupported' in reading) return notEnrolled(world, set, 'unsupported', reading.unsupported)
  const { rules, warned } = reading
  const [view] = await Promise.all([world.setPod(set, false), world.setRules(set.kind, mesh.tables(rules), set.backend)])
  if (view.state !== 'enrolled') throw new Error(`the pod is ${view.state}: ${view.reason ?? ''}`)
  const old = keepsOldRules(view)
  if (old !== undefined) throw new Error(`the pod did not get the set's rules: ${old}`)
  const subject = subjectOf(mesh, rules)
  const rows = rowsOfPod(named, { ...subject.ports, dns: subject.layout.dns?.port }, subject.interest.ipv6)
  const ask = questionsFor(set, subject)
  const [withRules, withAgent] = [world.withRules[set.kind], world.withAgent[set.kind]]
  const [iptables, merbridge] = await Promise.all([ask(withRules), ask(withAgent)])
  const { differences, repeated } = await settledDifferences(iptables, merbridge, rows, (only) => ask(withRules, only))
  const { unnamed } = judge(differences, rows)
  const told = withWrong(unnamed.length === 0 ? 'alike' : 'different', wrongWarnings(view, warned))
  return { ...told, connections: merbridge.size, repeated, differences: unnamed }
}
