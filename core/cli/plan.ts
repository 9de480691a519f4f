import { u64Codec } from '../codec.ts'
import { type LoopbackWant, loopbackChanges } from '../compile/loopback.ts'
import type { Capacities } from '../compile/maps.ts'
import { mapNames } from '../compile/maps.ts'
import { readLastGood } from '../config/lastgood.ts'
import { type AgentConfig, parseConfig } from '../config/load.ts'
import { restartKeys } from '../config/restart.ts'
import type { Config } from '../config/schema.ts'
import { Ability } from '../contract.ts'
import type { InForceView } from '../control/api.ts'
import { askAgent } from '../control/client.ts'
import { enrol, inForce } from '../enrol.ts'
import { MerbridgeError } from '../errors.ts'
import { hasAbility, probeKernel } from '../features/probe.ts'
import { plan } from '../plan/plan.ts'
import type { PlanView } from '../plan/view.ts'
import type { PluginSource } from '../plugins.ts'
import { RuleWatch } from '../pods/rules.ts'
import { type Outcome, type Output, render } from './outcome.ts'
import { planText } from './plantext.ts'
import { type ConfigPlace, findSettings } from './settings.ts'
import { readConfig } from './validate.ts'

export interface PlanOptions extends ConfigPlace {
  /** Absolute, or '-' for standard input. */
  readonly file: string
  readonly verbose: boolean
  readonly output: Output
}

interface Running {
  readonly inForce?: InForceView
  readonly notes: readonly string[]
}

/** The agent that has the socket of the present config, else of the planned one; undefined: none runs. */
async function runningAgent(sockets: readonly string[]): Promise<Running | undefined> {
  for (const socket of new Set(sockets)) {
    try {
      return { inForce: await askAgent<InForceView>(socket, '/v1/config'), notes: [] }
    } catch (error) {
      if (!(error instanceof MerbridgeError)) throw error
      if (error.code !== 'AGENT_NOT_RUNNING') {
        return {
          notes: [`the agent at ${socket} does not say which config is in force (${error.message}); keys that need a restart are not compared`],
        }
      }
    }
  }
  return undefined
}

/** The config that made what is in the kernel, as far as it was kept: its rules have the names of those in the kernel. */
async function configBefore(stateDir: string, path: string, plugins: PluginSource): Promise<AgentConfig | undefined> {
  try {
    const text = await readLastGood(stateDir, path)
    return text === undefined ? undefined : await parseConfig(text, path, plugins)
  } catch {
    return undefined // of another version: what is in the kernel goes without names
  }
}

const boundless = Object.fromEntries(mapNames.map((name) => [name, Number.POSITIVE_INFINITY])) as Capacities

async function view(options: PlanOptions, stdin: () => AsyncIterable<Buffer>, plugins: PluginSource): Promise<PlanView> {
  const { config, meshes } = await readConfig(options.file, stdin, plugins)
  const { bpffs } = config.attach
  const [{ native }, { lookAtMaps, lookAtPods, requireSight }] = await Promise.all([import('../native/index.ts'), import('../plan/gather.ts')])
  requireSight(native, bpffs)
  const settings = await findSettings(options, plugins.builtIn)
  const running = await runningAgent([settings.socket, config.control.socket])
  const present = await configBefore(running?.inForce?.stateDir ?? options.stateDir, running?.inForce?.path ?? options.config, plugins)
  const inPlace = await lookAtMaps(native, bpffs)
  const [found = [], placementsBefore = []] = await lookAtPods(native, config, [config.pods, present?.config.pods ?? []])
  const { contents: have, capacities, placeOf, loopbackOf, halted, generation, notes } = inPlace
  const rules = new RuleWatch(
    native.namespaces,
    [...have.nat_pods.values()].map(({ key }) => u64Codec.decode(key)),
    () => {},
  )
  await rules.look(found)
  const placements = rules.marked(found)
  const kernel = await probeKernel(native, config.attach)
  const able = { seesArrival: hasAbility(kernel.abilities, Ability.ARRIVAL), hooksLoopback: kernel.loopback !== 'none' }
  const allowed = ({ acceleration }: Config) => ({ acceleration: { most: acceleration.mode, halted } })
  const before = present && enrol(present.meshes, placementsBefore, { capacities: boundless, strict: false, ...able, ...allowed(present.config) })
  const after = enrol(meshes, placements, { capacities, strict: true, ...able, ...allowed(config), inForce: inForce(have, before, loopbackOf) })
  const states = new Map([...placementsBefore, ...found].flatMap((each) => ('state' in each ? [[each.state.cookie, each.state] as const] : [])))
  const atLoopback = (netns: bigint, want: LoopbackWant) =>
    loopbackChanges(want, loopbackOf(netns), states.get(netns) ?? { addresses: [], routes: [] })
  return {
    file: options.file,
    bpffs,
    ...plan({ have, capacities, after, before, placeOf, atLoopback }),
    datapath: { inPlace: generation !== undefined, ...(generation === undefined ? {} : { generation }) },
    agentRuns: running !== undefined,
    needsRestart: running?.inForce === undefined ? [] : restartKeys(running.inForce, config),
    notes: [...notes, ...(running?.notes ?? [])],
  }
}

export async function planCommand(options: PlanOptions, stdin: () => AsyncIterable<Buffer>, plugins: PluginSource): Promise<Outcome> {
  const planned = await view(options, stdin, plugins)
  return { code: 0, stdout: render(planned, options.output, () => planText(planned, options.verbose)) }
}
