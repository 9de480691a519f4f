/** What `status`, `pods`, `top` and `accelerate` show of acceleration. */

import type { AccelCount, AccelPair } from '../acceleration/api.ts'
import { byConfig } from '../acceleration/mode.ts'
import type { AccelerationView, NodeAccelerationView, PodAccelerationView, ReasonView, SentView, TrafficView } from '../acceleration/view.ts'
import { stopWords, wordsOf } from '../acceleration/words.ts'
import type { Agent } from '../agent.ts'
import { u64Codec } from '../codec.ts'
import type { MapContent } from '../compile/maps.ts'
import { AccelMode, AccelPlace, AccelReason, AccelStop, acceleratedCodec } from '../contract.ts'
import type { Outcome } from '../enrol.ts'
import { podTitle } from '../pods/static.ts'

interface Sent {
  readonly counts: readonly AccelCount[]
  readonly pairs: readonly AccelPair[]
}

/** Of the node, and by netns cookie. */
export interface Traffic {
  readonly all: Sent
  readonly of: ReadonlyMap<bigint, Sent>
}

export function traffic(counts: readonly AccelCount[], pairs: readonly AccelPair[]): Traffic {
  const of = new Map<bigint, { readonly counts: AccelCount[]; readonly pairs: AccelPair[] }>()
  const own = (netns: bigint) => {
    const found = of.get(netns) ?? { counts: [], pairs: [] }
    of.set(netns, found)
    return found
  }
  for (const count of counts) own(count.netns).counts.push(count)
  for (const pair of pairs) for (const netns of new Set(pair.ends.map((end) => end.netns))) own(netns).pairs.push(pair)
  return { all: { counts, pairs }, of }
}

const nothingSent: SentView = { messages: 0, bytes: 0, connections: 0 }

function sum(counts: readonly AccelCount[]): SentView {
  return counts.reduce(
    (total, { messages, bytes, connections }) => ({
      messages: total.messages + Number(messages),
      bytes: total.bytes + Number(bytes),
      connections: total.connections + Number(connections),
    }),
    nothingSent,
  )
}

function reasonsOf(counts: readonly AccelCount[]): ReasonView[] {
  const views = [...Map.groupBy(counts, ({ reason }) => reason)].map(([reason, own]) => {
    const { name, sentence } = wordsOf(reason)
    return { reason: name, sentence, ...sum(own) }
  })
  return views
    .filter(({ messages, connections }) => messages + connections > 0)
    .sort((a, b) => b.messages - a.messages || b.connections - a.connections)
}

export function trafficView({ counts, pairs }: Sent = { counts: [], pairs: [] }): TrafficView {
  const [redirected, others] = [true, false].map((wanted) => counts.filter(({ reason }) => (reason === AccelReason.REDIRECTED) === wanted))
  const joined = pairs.filter(({ ends }) => ends.length === 2 && ends.every(({ place }) => place === AccelPlace.JOINED))
  return {
    connections: { joined: joined.length, accelerating: joined.filter(({ ends }) => ends.some(({ redirecting }) => redirecting)).length },
    accelerated: sum(redirected ?? []),
    tcp: sum(others ?? []),
    reasons: reasonsOf(others ?? []),
  }
}

/** What redirected with its last message, and would not with its next one, because a switch has been turned since. `on`: namespaces that have a mode. */
export const stilled = (pairs: readonly AccelPair[], nodeIsOff: boolean, on: ReadonlySet<bigint>): AccelPair[] =>
  pairs.map(({ ends }) => {
    const off = nodeIsOff || ends.some(({ netns }) => !on.has(netns))
    return { ends: ends.map((end) => (off ? { ...end, redirecting: false } : end)) }
  })

export async function readTraffic(agent: Agent): Promise<Traffic> {
  const { acceleration, have } = agent.datapath
  const [counts, pairs] = await Promise.all([acceleration.counts(), acceleration.pairs()])
  const modes = [...have.accelerated.values()].map(({ value }) => acceleratedCodec.decode(value))
  const on = new Set(modes.filter(({ mode }) => mode !== AccelMode.NONE).map(({ netns }) => netns))
  return traffic(counts, stilled(pairs, nodeOff(agent).length > 0, on))
}

/** Why nothing is accelerated on this node, whatever the pod; `except`: stops that are not asked about. */
export function nodeOff(agent: Agent, except = 0): string[] {
  const { unavailable } = agent.datapath.acceleration
  const stopped = agent.datapath.acceleration.stopped() & ~except
  if (unavailable !== undefined) return [`this kernel cannot: ${unavailable}`, ...stopWords(stopped & AccelStop.OPERATOR)]
  const figure = (stopped & AccelStop.PRESSURE) === 0 || agent.steering.pressure === undefined ? [] : [agent.steering.pressure]
  const config = agent.config.config.acceleration.mode === 'none' ? ['acceleration.mode of the config is none'] : []
  return [...stopWords(stopped), ...figure, ...config]
}

/** What keeps one pod from it beside what holds for the node. */
export function podOff({ acceleration, state, kept, netns }: Outcome, inKernel: MapContent): string[] {
  if (state !== 'enrolled' && kept !== true) return ['the pod is not enrolled']
  const { mode, why } = acceleration ?? { mode: 'none', why: '' }
  if (mode === 'none') return why === byConfig ? [] : [`its mode is none: ${why}`]
  const there = netns !== undefined && inKernel.has(u64Codec.encode(netns).toString('hex'))
  return there ? [] : ['it has rules of before, which do not say who its proxy is; it comes back when the pod has new rules']
}

/** `off`: of the node. */
export function podAcceleration({ datapath: { have } }: Agent, outcome: Outcome, off: readonly string[], { of }: Traffic): PodAccelerationView {
  const { mode = 'none', why = '' } = outcome.acceleration ?? {}
  const reasons = [...off, ...podOff(outcome, have.accelerated)]
  return { mode, why, on: reasons.length === 0, off: reasons, ...trafficView(outcome.netns === undefined ? undefined : of.get(outcome.netns)) }
}

export function nodeAcceleration(agent: Agent, { all }: Traffic): NodeAccelerationView {
  const { mode, budget } = agent.config.config.acceleration
  const { acceleration } = agent.datapath
  const off = nodeOff(agent)
  const halted = acceleration.halted()
  const reason = acceleration.unavailable
  return {
    mode,
    budget,
    on: off.length === 0,
    off,
    kernel: reason === undefined ? { can: true } : { can: false, reason },
    halted: agent.outcomes.flatMap(({ pod, netns }) => (netns !== undefined && halted.has(netns) ? [podTitle(pod)] : [])),
    ...trafficView(all),
  }
}

export async function accelerationView(agent: Agent): Promise<AccelerationView> {
  const found = await readTraffic(agent)
  const off = nodeOff(agent)
  const pods = agent.outcomes.map((outcome) => ({ pod: podTitle(outcome.pod), ...podAcceleration(agent, outcome, off, found) }))
  return { at: Number(process.hrtime.bigint() / 1000n) / 1000, node: nodeAcceleration(agent, found), pods }
}
