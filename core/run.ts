/** `merbridge run`: everything around the pipeline: the first config, the lock, the control socket, the triggers. */
import { setInterval as every } from 'node:timers/promises'
import { accelerate } from './acceleration/accelerate.ts'
import { type Agent, type AgentConfig, describeError, type Reload } from './agent.ts'
import { type AttachPoint, attachCgroup } from './cgroup.ts'
import { readLastGood, saveLastGood } from './config/lastgood.ts'
import { type Content, type Loaded, loadConfig, parseConfig } from './config/load.ts'
import type { Config } from './config/schema.ts'
import { watchConfig } from './config/watch.ts'
import { createAgent } from './container.ts'
import type { Handlers } from './control/api.ts'
import { serveControl } from './control/server.ts'
import type { Log } from './datapath/datapath.ts'
import { MerbridgeError } from './errors.ts'
import { probeKernel } from './features/probe.ts'
import { lockDatapath } from './lock.ts'
import type { Log as Logger } from './log.ts'
import type { Native } from './native/api.ts'
import { accelerationView } from './observe/acceleration.ts'
import { explainView } from './observe/explain.ts'
import { filterOf } from './observe/filter.ts'
import { Monitor } from './observe/monitor.ts'
import { podViews } from './observe/pods.ts'
import { type Started, statusView } from './observe/status.ts'
import type { PluginSource } from './plugins.ts'
import { Reloads } from './reload.ts'
import { requireKernel } from './requirements.ts'
import { objectPath } from './root.ts'
import { usingAsync } from './scope.ts'
import { SelfTestGate, type SelfTestView } from './selftest/gate.ts'

export interface RunOptions {
  /** Absolute. */
  readonly configPath: string
  /** Where the last good config is kept. */
  readonly stateDir: string
  /** Where the plugins come from that the config may name. */
  readonly plugins: PluginSource
  /** Made from the `log` settings of the first config; it follows those of later ones. */
  readonly createLogger: (settings: Config['log']) => Logger
  /** Aborted by SIGTERM: the agent ends and the datapath stays. */
  readonly stop: AbortSignal
  /** Registers what SIGHUP does. */
  readonly onReload: (listener: () => void) => void
}

interface FirstConfig {
  readonly initial: AgentConfig
  /** The file as it is; absent when the last good config stands in for it, then `refusal` says why. */
  readonly loaded?: Loaded
  readonly refusal?: MerbridgeError
  readonly read: Content
}

const tickMs = 1000

export async function runAgent(options: RunOptions): Promise<void> {
  const first = await firstConfig(options)
  const logger = options.createLogger(first.initial.config.log)
  const log: Log = (level, message, fields) => logger[level](fields ?? {}, message)
  if (first.refusal !== undefined) sayLastGood(log, options.configPath, first.refusal)
  const { native } = await import('./native/index.ts')
  const { attach } = first.initial.config
  const cgroup = attachCgroup(attach.cgroup)
  requireKernel(native, cgroup.path, attach.bpffs)
  if (cgroup.reach !== 'everything') log('warn', 'the programs do not see every process of this node', { cgroup: cgroup.detail })
  const ended = new AbortController()
  options.stop.addEventListener('abort', () => ended.abort(), { once: true })
  if (options.stop.aborted) ended.abort()
  await usingAsync(lockDatapath(native, attach.bpffs), async () => {
    try {
      await operate({ options, first, native, cgroup, logger, log, ended })
    } finally {
      ended.abort() // closes the control socket, also when the start fails
    }
  })
  log('info', 'stopped; the datapath stays in place')
}

interface Operation {
  readonly options: RunOptions
  readonly first: FirstConfig
  readonly native: Native
  readonly cgroup: AttachPoint
  readonly logger: Logger
  readonly log: Log
  readonly ended: AbortController
}

/** The socket comes first: an agent that cannot have it must not have touched the datapath. */
async function operate({ options, first, native, cgroup, logger, log, ended }: Operation): Promise<void> {
  const { attach, control } = first.initial.config
  const kernel = await probeKernel(native, attach)
  const features = [
    { id: 'cgroup', name: 'cgroup v2', state: cgroup.reach === 'namespace' ? 'fallback' : 'yes', detail: cgroup.detail } as const,
    ...kernel.features,
  ]
  const started: Started = { at: new Date().toISOString(), configPath: options.configPath, stateDir: options.stateDir, cgroup: cgroup.path, features }
  let running: Agent | undefined
  let gate: SelfTestGate | undefined
  let monitor: Monitor | undefined
  const present = (): Agent => whenStarted(running)
  const events: Handlers['events'] = (query, stream) => whenStarted(monitor).watch({ filter: filterOf(query), ...stream })
  let { read } = first
  const onRead = (content: Content) => {
    read = content
  }
  const reloads = new Reloads(async () => {
    if (running !== undefined) await reloadConfig(running, options, { logger, log, onRead })
  })
  const reload = () => reloads.request()
  const handlers = handlersFor(present, started, reload, ended, () => gate?.view)
  await serveControl(control.socket, { ...handlers, events }, ended.signal)

  const setting = { bpffs: attach.bpffs, cgroup: cgroup.path, object: objectPath('merbridge.bpf.o'), kernel }
  const agent = await createAgent({ native, log, setting, cgroup, config: first.initial, reload: firstReload(first.refusal) })
  await usingAsync(agent, async () => {
    const test = { native, kernel, object: setting.object, cgroup: cgroup.path }
    gate = new SelfTestGate(test, options.stateDir, agent.datapath.acceleration, log)
    await startWithAny(agent, first, options, log)
    running = agent
    await agent.removeOthers(attach.bpffs)
    options.onReload(() => void reload())
    await watchConfig(options.configPath, reload, ended.signal, {
      known: () => read,
      onDegraded: (error) => log('warn', 'the config is polled, because the kernel has no more file watches to give', describeError(error)),
    })
    log('info', 'ready', { generation: Number(agent.datapath.meta().generation), socket: control.socket })
    const settled = gate.settle(ended.signal)
    await usingAsync(new Monitor(agent), (own) => {
      monitor = own
      return tickUntil(agent, ended.signal)
    })
    monitor = undefined
    running = undefined
    await settled
  })
}

function whenStarted<T>(part: T | undefined): T {
  if (part !== undefined) return part
  throw new MerbridgeError('AGENT_STARTING', 'the agent is starting', 'ask again in a moment')
}

function handlersFor(
  present: () => Agent,
  started: Started,
  reload: () => Promise<void>,
  ended: AbortController,
  selfTest: () => SelfTestView | undefined,
): Omit<Handlers, 'events'> {
  return {
    status: async () => {
      const [view, found] = [await statusView(present(), started), selfTest()]
      return found === undefined ? view : { ...view, selfTest: found }
    },
    pods: async () => podViews(present()),
    acceleration: async () => accelerationView(present()),
    accelerate: async (query) => accelerate(present(), query),
    config: async () => {
      const { attach, control } = present().config.config
      return { path: started.configPath, stateDir: started.stateDir, attach, control }
    },
    explain: async (query) => explainView(present(), started, query),
    reload: async () => {
      present() // says that it is starting
      await reload()
      return { ...present().lastReload, generation: Number(present().datapath.meta().generation) }
    },
    stop: async () => ended.abort(),
  }
}

/** The file's config; where it is refused, the last good one; where there is none, the file's error. */
async function firstConfig(options: RunOptions): Promise<FirstConfig> {
  let read: Content = ''
  try {
    const loaded = await loadConfig(options.configPath, options.plugins, (content) => {
      read = content
    })
    return { initial: loaded, loaded, read }
  } catch (error) {
    return { initial: await lastGood(options, error), refusal: error as MerbridgeError, read }
  }
}

/** Throws `refusal` when there is no last good config, or none that this build accepts. */
async function lastGood({ configPath, stateDir, plugins }: RunOptions, refusal: unknown): Promise<AgentConfig> {
  const text = refusal instanceof MerbridgeError ? await readLastGood(stateDir, configPath) : undefined
  if (text === undefined) throw refusal
  try {
    return await parseConfig(text, `last good config of ${configPath}`, plugins)
  } catch {
    throw refusal
  }
}

/** A full or read-only disk is no reason to refuse a config that is in force already. */
async function keep(loaded: Loaded, stateDir: string, log: Log): Promise<void> {
  try {
    await saveLastGood(stateDir, loaded.path, loaded.text)
  } catch (error) {
    log('warn', 'the last good config could not be kept; a restart beside a broken config will not find it', { stateDir, ...describeError(error) })
  }
}

/** A config can be valid and still not compile (a map is too small for it): then, too, the last good one stands in. */
async function startWithAny(agent: Agent, first: FirstConfig, options: RunOptions, log: Log): Promise<void> {
  try {
    await agent.start(first.initial, firstReload(first.refusal), first.refusal === undefined)
    sayWarnings(first.initial, log)
    if (first.loaded !== undefined) await keep(first.loaded, options.stateDir, log)
  } catch (error) {
    try {
      if (first.loaded === undefined || !(error instanceof MerbridgeError)) throw error
      const last = await lastGood(options, error)
      sayLastGood(log, options.configPath, error)
      await agent.start(last, firstReload(error), false)
    } catch (last) {
      if (!agent.datapath.adopted) agent.datapath.layout.remove() // built for nothing
      throw last
    }
  }
}

function sayLastGood(log: Log, path: string, refusal: MerbridgeError): void {
  log('error', 'the config is refused; running with the last good one, NOT READY', { path, ...describeError(refusal) })
}

function firstReload(refusal: MerbridgeError | undefined): Reload {
  const at = new Date().toISOString()
  return refusal === undefined ? { at, outcome: 'applied' } : { at, outcome: 'last-good', reason: refusal.message }
}

function sayWarnings({ warnings }: AgentConfig, log: Log): void {
  for (const { line, path, message, hint } of warnings) log('warn', `config: ${path} ${message}`, { line, hint })
}

interface Listeners {
  readonly logger: Logger
  readonly log: Log
  readonly onRead: (content: Content) => void
}

async function reloadConfig(agent: Agent, options: RunOptions, { logger, log, onRead }: Listeners): Promise<void> {
  const { configPath, stateDir, plugins } = options
  try {
    const loaded = await loadConfig(configPath, plugins, onRead)
    const changed = await agent.reload(loaded)
    logger.configure(loaded.config.log)
    await keep(loaded, stateDir, log)
    log('info', changed ? 'config applied' : 'config accepted; nothing changed in the datapath', {
      generation: Number(agent.datapath.meta().generation),
    })
    sayWarnings(loaded, log)
  } catch (error) {
    const refusal =
      error instanceof MerbridgeError ? error : new MerbridgeError('DATAPATH_FAILED', String(error), 'see the log; the old config stays', error)
    agent.refused(refusal)
    log('error', 'the config is refused; the old one stays in force', { path: configPath, ...describeError(refusal) })
  }
}

async function tickUntil(agent: Agent, signal: AbortSignal): Promise<void> {
  try {
    for await (const _ of every(tickMs, undefined, { signal })) await agent.tick()
  } catch (error) {
    if (!signal.aborted) throw error
  }
}
