/** A datapath in a pinned directory of its own, driven without the command line, and pods with listeners for it. */
import type { Agent, AgentConfig, Reload } from '../../core/agent.ts'
import { attachCgroup } from '../../core/cgroup.ts'
import { asConfig, configSchema } from '../../core/config/schema.ts'
import { createAgent } from '../../core/container.ts'
import { readCounts, refusals } from '../../core/datapath/counters.ts'
import type { Datapath, Log, Setting } from '../../core/datapath/datapath.ts'
import { currentLayout } from '../../core/datapath/layout.ts'
import { detach, planDetach } from '../../core/detach.ts'
import { probeKernel } from '../../core/features/probe.ts'
import { native } from '../../core/native/index.ts'
import type { AnyPlugin } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { requireKernel } from '../../core/requirements.ts'
import { objectPath } from '../../core/root.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { btf, without } from '../lab/without.ts'
import { type Listening, startApp, startProxy } from '../mesh/sidecar.ts'
import { connectOnce, type Step } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'

const root = attachCgroup('auto')
export const cgroup = root.path
export const kernel = await probeKernel(native, { btf, without })
/** There is no getpeername hook: a redirected app sees the proxy. */
export const seesProxy = kernel.skip.has('mb_getpeername4')
const how: Reload = { at: '', outcome: 'applied' }

export interface Logged {
  readonly level: string
  readonly message: string
  readonly fields: object
}

export class DatapathUnderTest implements AsyncDisposable {
  readonly bpffs: string
  readonly logged: Logged[] = []
  readonly #agents: Agent[] = []

  constructor(name: string) {
    this.bpffs = `/sys/fs/bpf/merbridge-test-${name}-${process.pid}`
    requireKernel(native, cgroup, this.bpffs)
  }

  config(pods: readonly LabPod[], options: object = {}, acceleration: object = {}): AgentConfig {
    const written = {
      version: 1,
      mesh: 'istio',
      workloads: { static: pods.map(({ name, netns }) => ({ name, netns })) },
      attach: { bpffs: this.bpffs },
      acceleration,
    }
    const plugin = plugins.istio
    if (plugin === undefined) throw new Error('no istio plugin')
    const config = asConfig(configSchema(['istio']).parse(written))
    return { config, meshes: [{ plugin, options: plugin.options.parse(options), entry: 'mesh' }], warnings: [] }
  }

  /** The pods under a plugin that is not one of the built-in ones. */
  withPlugin(pods: readonly LabPod[], plugin: AnyPlugin, options: unknown = {}): AgentConfig {
    return { ...this.config(pods), meshes: [{ plugin, options, entry: 'mesh' }] }
  }

  /** A test may dispose of the agent at any time, which leaves everything in the kernel. */
  async start(config: AgentConfig, setting: Partial<Setting> = {}, strict = true): Promise<Agent> {
    const log: Log = (level, message, fields = {}) => void this.logged.push({ level, message, fields })
    const full = { bpffs: this.bpffs, cgroup, object: objectPath('merbridge.bpf.o'), kernel, ...setting }
    const agent = await createAgent({ native, log, setting: full, cgroup: root, config, reload: how })
    this.#agents.push(agent)
    await agent.start(config, how, strict)
    return agent
  }

  /** The directory of the pins. */
  get pins(): string {
    return currentLayout(this.bpffs).directory
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) await agent[Symbol.asyncDispose]()
    await detach(native, await planDetach(native, { bpffs: this.bpffs, mode: 'bypass', podNames: new Map() }))
  }
}

/** Who accepted, or what the client got instead. */
export const reached = (step: Step) => (typeof step.seen === 'object' ? step.seen.listener : (step.seen ?? step.error))

export const refusalsOf = async (datapath: Datapath) =>
  new Map(refusals(await readCounts(datapath.maps.counters)).map(({ reason, count }) => [reason, count]))

/** Three pods with proxies, two of them with an app, for the tests of one `describe`. */
export async function threePods(name: string) {
  const lab = await Lab.create(name)
  const [client, server, third] = [await lab.pod('client'), await lab.pod('server'), await lab.pod('third')]
  const proxies: Listening[] = []
  for (const pod of [client, server, third]) proxies.push(await startProxy(pod))
  const servers = [...proxies, await startApp(server), await startApp(client)]
  return {
    lab,
    client,
    server,
    third,
    servers,
    /** An app of the client connects to the server pod. */
    out: (port = 8080) => connectOnce(client, app, [server.address, port]),
    close: async () => {
      for (const each of servers) await each.stop()
      await lab.close()
    },
  }
}

export { native }
