/** What `merbridge status` shows: gathered from the kernel at the moment it is asked. */
import { release } from 'node:os'
import type { Agent } from '../agent.ts'
import { deadPods, loadedHooks } from '../datapath/attach.ts'
import { decisions, readCounts, refusals } from '../datapath/counters.ts'
import { allMaps, type Datapath } from '../datapath/datapath.ts'
import type { Feature } from '../features/probe.ts'
import { podTitle } from '../pods/static.ts'
import { packageVersion } from '../root.ts'
import { using } from '../scope.ts'
import type { StatusView } from '../views.ts'
import { nodeAcceleration, readTraffic } from './acceleration.ts'

export interface Started {
  readonly at: string
  readonly configPath: string
  readonly stateDir: string
  readonly cgroup: string
  readonly features: readonly Feature[]
}

function notReady(agent: Agent, attached: StatusView['attachments'], cgroup: string): string[] {
  const { outcome, reason } = agent.lastReload
  const lastGood = outcome === 'last-good' ? [`running with the last good config, because the present one is refused: ${reason ?? 'unknown'}`] : []
  const missing = attached.filter(({ programs }) => !programs.some(({ ours }) => ours))
  const pinned = new Set(agent.datapath.layout.pods())
  const dead = new Set(deadPods(agent.datapath))
  const blind = agent.outcomes.filter(({ state, netns }) => state === 'enrolled' && netns !== undefined && (dead.has(netns) || !pinned.has(netns)))
  const detached = blind.map(({ pod }) => `the inbound program of ${podTitle(pod)} is not attached; it is attached again within seconds`)
  const unseen = agent.unseen.map((pod) => `no process of ${pod} runs below ${cgroup}, where the programs are attached (see: merbridge pods)`)
  const { trouble } = agent
  return [
    ...lastGood,
    ...(trouble === undefined ? [] : [`the pods could not be brought up to date, which is tried again every second: ${trouble}`]),
    ...detached,
    ...unseen,
    ...missing.map(({ hook }) => `${hook} is not attached: somebody detached it; it is attached again within seconds`),
  ]
}

/** Ids of the programs behind our pinned links. */
function ownPrograms(datapath: Datapath): Set<number> {
  return new Set(
    datapath.layout.linkNames().map((hook) => using(datapath.native.pinnedLink(datapath.layout.link(hook)), (link) => link.info.programId)),
  )
}

function attachments(datapath: Datapath, cgroup: string): StatusView['attachments'] {
  const own = ownPrograms(datapath)
  return loadedHooks(datapath.object).map((hook) => ({
    hook: hook.name,
    at: cgroup,
    programs: datapath.native.queryCgroup(cgroup, hook.attachType, true).map((id) => ({
      id,
      name: datapath.native.programById(id)?.name ?? '(gone)',
      ours: own.has(id),
    })),
  }))
}

async function titlesWithRules(agent: Agent): Promise<string[]> {
  await agent.rules.lookAgain()
  return agent.outcomes.filter(({ netns }) => agent.rules.has(netns)).map(({ pod }) => podTitle(pod))
}

/** Those of sockets cannot be listed, and the others are no measure of anything. */
const ofSockets = ['origins', 'asked', 'sides']
const single = ['pointers', 'monitoring', 'events', 'events_lost', 'accel_settings', 'accelerators', 'readers', 'verdicts', 'meta']
const uncounted = [...ofSockets, ...single, 'pending', 'asker_counts']
const countable = allMaps.filter((name) => !uncounted.includes(name))

function configView(agent: Agent, path: string): StatusView['config'] {
  const { meshes, warnings } = agent.config
  const { applied, unchanged, refused } = agent.reloads
  const taken = (entry: string) => agent.outcomes.filter(({ selection }) => selection?.mesh.entry === entry).length
  return {
    path,
    generation: Number(agent.datapath.meta().generation),
    lastReload: agent.lastReload,
    reloads: { applied, unchanged, refused },
    meshes: meshes.map(({ entry, plugin }) => ({ entry, mesh: plugin.name, pods: taken(entry) })),
    warnings: warnings.map((warning) => `line ${warning.line}: ${warning.path} ${warning.message}`),
  }
}

export async function statusView(agent: Agent, started: Started): Promise<StatusView> {
  const { datapath } = agent
  const states = agent.outcomes.map((outcome) => outcome.state)
  const attached = attachments(datapath, started.cgroup)
  const counts = await readCounts(datapath.maps.counters)
  const reasons = notReady(agent, attached, started.cgroup)
  const fill = async (name: (typeof countable)[number]) => ({
    name,
    entries: (await datapath.maps[name].entries()).length,
    capacity: datapath.maps[name].info.maxEntries,
  })
  const maps = await Promise.all(countable.map(fill))
  return {
    agent: { version: packageVersion(), pid: process.pid, startedAt: started.at, ready: reasons.length === 0, notReady: reasons },
    config: configView(agent, started.configPath),
    kernel: { release: release(), features: [...started.features, ...datapath.features] },
    attachments: attached,
    pods: {
      listed: states.length,
      enrolled: states.filter((state) => state === 'enrolled').length,
      waiting: states.filter((state) => state === 'waiting').length,
      failed: states.filter((state) => state === 'failed' || state === 'cannot').length,
      iptables: await titlesWithRules(agent),
      warnings: agent.outcomes.reduce((sum, outcome) => sum + outcome.warnings.length, 0),
    },
    acceleration: nodeAcceleration(agent, await readTraffic(agent)),
    maps,
    decisions: decisions(counts),
    refusals: refusals(counts),
  }
}
