/** What `merbridge pods` shows: each pod with its rules in the kernel's order, and how often each decided. */
import type { Agent } from '../agent.ts'
import { shownId } from '../compile/localize.ts'
import type { RuleText } from '../compile/rules.ts'
import { endpointText } from '../compile/targets.ts'
import { type PodCounts, podCounts, readCounts } from '../datapath/counters.ts'
import { nothing } from '../datapath/tally.ts'
import type { Outcome } from '../enrol.ts'
import type { PodView } from '../views.ts'
import { nodeOff, podAcceleration, readTraffic } from './acceleration.ts'

const noCounts: PodCounts = { outbound: new Map(), inbound: new Map(), refusals: [] }

function withHits(rules: readonly RuleText[], counts: PodCounts): PodView['rules'] {
  return rules.map((rule) => {
    const { count, by } = counts[rule.direction].get(rule.index) ?? nothing
    return { ...rule, hits: count, by }
  })
}

/** All TCP listeners, as "127.0.0.1:15001 (uid 1337)". One of [::] takes IPv4 as well, unless it says otherwise. */
async function listenersOf(agent: Agent, outcome: Outcome): Promise<string[]> {
  if (outcome.netns === undefined) return []
  try {
    const listeners = await agent.datapath.native.namespaces.listeners(outcome.pod.netns)
    const shown = listeners.map(
      ({ address, port, uid, ipv6Only }) =>
        `${endpointText(address, port)} (uid ${shownId(uid, outcome.users?.uid)}${ipv6Only && address === '::' ? ', IPv6 only' : ''})`,
    )
    return shown.sort()
  } catch {
    return [] // the namespace went away: the next tick says so
  }
}

function selectionOf({ selection }: Outcome): Pick<PodView, 'mesh' | 'selection'> {
  if (selection === undefined) return { mesh: '' }
  const { mesh, why, also } = selection
  return { mesh: mesh.plugin.name, selection: { entry: mesh.entry, why, also } }
}

export async function podViews(agent: Agent): Promise<PodView[]> {
  const counts = await readCounts(agent.datapath.maps.counters)
  await agent.rules.lookAgain()
  const [traffic, off] = [await readTraffic(agent), nodeOff(agent)]
  return Promise.all(
    agent.outcomes.map(async (outcome): Promise<PodView> => {
      const compiled = outcome.netns === undefined ? undefined : agent.enrolment?.desired.pods.get(outcome.netns)
      const enrolled = outcome.state === 'enrolled' || outcome.kept ? compiled : undefined
      const own = enrolled === undefined || outcome.netns === undefined ? noCounts : podCounts(counts, outcome.netns, enrolled.policy)
      return {
        name: outcome.pod.name,
        namespace: outcome.pod.namespace.name,
        ...selectionOf(outcome),
        netns: outcome.pod.netns,
        state: outcome.state,
        ...(outcome.reason === undefined ? {} : { reason: outcome.reason }),
        addresses: outcome.addresses,
        ...(enrolled === undefined ? {} : { policy: enrolled.policy.toString(16).padStart(16, '0') }),
        warnings: outcome.warnings,
        iptables: agent.rules.has(outcome.netns),
        loopback: enrolled === undefined || outcome.netns === undefined ? [] : agent.datapath.loopbacks.inWords(outcome.netns, enrolled.loopback),
        listeners: await listenersOf(agent, outcome),
        rules: enrolled === undefined ? [] : withHits(enrolled.rules, own),
        refusals: own.refusals,
        acceleration: podAcceleration(agent, outcome, off, traffic),
      }
    }),
  )
}
