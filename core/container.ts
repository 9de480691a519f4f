/** The wiring, and the only file that knows tsyringe: factories by token, no decorators. */
import 'reflect-metadata'
import { container, instanceCachingFactory } from 'tsyringe'
import { Agent, type AgentConfig, type Reload } from './agent.ts'
import type { AttachPoint } from './cgroup.ts'
import { Datapath, type Log, type Setting } from './datapath/datapath.ts'
import type { Native } from './native/api.ts'
import { StrayWatch } from './pods/strays.ts'

export interface Wiring {
  readonly native: Native
  readonly log: Log
  readonly setting: Setting
  readonly cgroup: AttachPoint
  readonly config: AgentConfig
  readonly reload: Reload
}

const tokens = { datapath: Symbol('datapath'), agent: Symbol('agent') }

/** One agent with the datapath that it owns. */
export async function createAgent(wiring: Wiring): Promise<Agent> {
  const scope = container.createChildContainer()
  scope.register(tokens.datapath, {
    useFactory: instanceCachingFactory(() => Datapath.open(wiring.native, wiring.setting, wiring.log)),
  })
  scope.register(tokens.agent, {
    useFactory: instanceCachingFactory(async (own) => {
      const { native, cgroup, log } = wiring
      const strays = new StrayWatch(native.namespaces, cgroup, log)
      return new Agent(await own.resolve<Promise<Datapath>>(tokens.datapath), strays, wiring.config, wiring.reload, log)
    }),
  })
  return scope.resolve<Promise<Agent>>(tokens.agent)
}
