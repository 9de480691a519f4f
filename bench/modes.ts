/**
 * The same pods once for each mode of acceleration: with Istio's iptables rules, with this datapath in each of its modes, and with the naive redirect on top
 * of the datapath that accelerates nothing. Each has
 *
 *     client --(sidecar)--> server --(sidecar)--> an HTTP server on 8080, a server for streams of bytes on 9100      through two real Envoys
 *     pair, flow                                                                                                     the socket leg alone
 *
 * The leg is an app and what stands for its proxy, a small server as uid 1337 on 15001: on one processor in `pair`, on two in `flow`. What the app asks for
 * is at an address that nobody has, so that what is not intercepted fails, and the bench with it.
 */
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, type AgentConfig, until } from '../test/lab/agent.ts'
import { startEnvoy } from '../test/lab/envoy.ts'
import { istioLayout, OUTBOUND_PORT, PROXY_UID } from '../test/lab/envoy-config.ts'
import { applyIptables, istioTables } from '../test/lab/istio-iptables.ts'
import { Lab, type LabPod } from '../test/lab/net.ts'
import type { Figures } from './measure.ts'
import { Naive } from './naive.ts'
import { compile, onClientCpu, onServerCpu, reported, serve } from './programs.ts'

export const MODES = ['iptables', 'none', 'proxies', 'all', 'naive'] as const
export type Mode = (typeof MODES)[number]

export interface Workload {
  readonly title: string
  /** 'pair': both ends of the leg on one processor; 'flow': each on its own */
  readonly between: 'envoys' | 'pair' | 'flow'
  readonly program: 'http' | 'stream'
  /** What the program does, see there */
  readonly does: string
  /** Its arguments after the port, without the time */
  readonly what: readonly (string | number)[]
  readonly milliseconds: number
  /** In one round */
  readonly runs: number
}

const APP = { uid: 1000, gid: 1000 }
const PROXY = { uid: PROXY_UID, gid: PROXY_UID }
const HTTP_PORT = '8080'
const STREAM_PORT = '9100'
const NOBODY = '10.77.0.250'

const PODS = ['client', 'server', 'pair', 'flow'] as const
type Pods = Readonly<Record<(typeof PODS)[number], LabPod>>
type Programs = Readonly<Record<'http' | 'stream', string>>

interface Parts {
  readonly stack: AsyncDisposableStack
  readonly cgroup: string
  readonly programs: Programs
  readonly pods: Pods
  readonly naive: Naive | undefined
  readonly agent: Agent | undefined
}

/** After a change of the mode: what the agent does about it is no part of a run. */
const SETTLE_MS = 50

/** Programs are looked at first, and Envoy's is a large one. */
const ATTEMPTS = 20
/** What the naive redirect breaks is tried again, so often. */
const NAIVE_ATTEMPTS = 3

/** Packets that nobody's system call takes care of are the work of these threads of the kernel. */
const threads = () => globSync('/proc/[0-9]*/comm').filter((path) => /^ksoftirqd\//.test(contents(path)))

function contents(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // the process has ended
  }
}

export class Site implements AsyncDisposable {
  readonly mode: Mode
  readonly #stack: AsyncDisposableStack
  readonly #programs: Programs
  readonly #pods: Pods
  readonly #cgroup: string
  readonly #processors: string
  readonly #naive: Naive | undefined
  readonly #agent: Agent | undefined
  /** What its agent has now. */
  #now: Mode

  private constructor(mode: Mode, { stack, cgroup, programs, pods, naive, agent }: Parts) {
    this.mode = mode
    this.#now = mode
    this.#stack = stack
    this.#programs = programs
    this.#pods = pods
    this.#cgroup = cgroup
    this.#agent = agent
    this.#processors = [join(cgroup, 'cpu.stat'), ...threads().map((path) => join(dirname(path), 'schedstat'))].join(',')
    this.#naive = naive
  }

  static async create(mode: Mode): Promise<Site> {
    await using stack = new AsyncDisposableStack()
    const lab = stack.use(await Lab.create(`bench-${mode}`, { cgroup: true }))
    const programs = { http: await compile('http', lab.directory), stream: await compile('stream', lab.directory) }
    const made: Partial<Record<keyof Pods, LabPod>> = {}
    for (const name of PODS) made[name] = await lab.pod(name)
    const pods = made as Pods
    const cgroup = lab.cgroup ?? ''
    // Before any process: connections that are older are joined by nobody.
    const agent = mode === 'iptables' ? undefined : stack.use(await startAgent(mode, configOf(mode, pods, cgroup)))
    if (agent === undefined) for (const pod of Object.values(pods)) await applyIptables(pod, istioTables())
    const naive = mode === 'naive' ? stack.use(await Naive.attach(cgroup)) : undefined
    await startProcesses(pods, programs)
    const site = new Site(mode, { stack: stack.move(), cgroup, programs, pods, naive, agent })
    await site.#check()
    if (agent !== undefined && accelerated(mode)) await site.#accelerates(agent)
    return site
  }

  /** One run in another mode than the site's own: the same processes, so that only the mode can make a difference. */
  async measureIn(mode: Mode, workload: Workload): Promise<Figures> {
    await this.#enter(mode)
    return this.#run(workload)
  }

  /** One run. */
  measure(workload: Workload): Promise<Figures> {
    return this.measureIn(this.mode, workload)
  }

  async #enter(mode: Mode): Promise<void> {
    if (mode === this.#now || this.#agent === undefined) return
    await this.#agent.write(configOf(mode, this.#pods, this.#cgroup))
    await this.#agent.waitFor(`mode ${mode}`, 10_000, ({ acceleration }) => acceleration.mode === mode)
    this.#now = mode
    await sleep(SETTLE_MS)
  }

  async #run({ title, between, program, does, what, milliseconds }: Workload): Promise<Figures> {
    const { client, server } = this.#pods
    const target = between === 'envoys' ? [server.address, program === 'http' ? HTTP_PORT : STREAM_PORT] : [NOBODY, STREAM_PORT]
    const argv = [this.#programs[program], does, ...target, ...what.map(String), String(milliseconds), this.#processors]
    const command = between === 'envoys' ? client.command(argv, APP) : this.#pods[between].command(onClientCpu(argv), APP)
    for (let attempt = 1; ; attempt++) {
      try {
        return await reported(command)
      } catch (error) {
        const text = `${this.mode}: ${title}: ${(error as Error).message}`
        if (this.mode !== 'naive' || attempt === NAIVE_ATTEMPTS) throw new Error(text)
        process.stderr.write(`${text}; again\n`)
      }
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync()
  }

  /** Fails unless requests pass both sidecars, and, for the naive redirect, some go its way. */
  async #check(): Promise<void> {
    const url = `http://${this.#pods.server.address}:${HTTP_PORT}/100`
    const { stdout, stderr } = await this.#pods.client.exec(['curl', '--silent', '--show-error', '--include', '--max-time', '10', url], APP)
    if (!['200 OK', 'x-outbound-sidecar', 'x-inbound-sidecar'].every((text) => stdout.includes(text)))
      throw new Error(`${this.mode}: a request did not pass both sidecars\n${stdout}${stderr}`)
    if (this.#naive?.counts().messages === 0) throw new Error('naive: nothing of a request was redirected')
  }

  /** Waits until messages are accelerated through the Envoys and on the leg: large executables take the agent a while to look at. */
  async #accelerates(agent: Agent): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      for (const workload of witnesses) await this.measure(workload)
      const idle = (await agent.pods()).filter(({ name, acceleration }) => name !== 'flow' && (acceleration?.accelerated.messages ?? 0) < 100)
      if (idle.length === 0) return
      if (attempt === ATTEMPTS)
        throw new Error(`${this.mode}: next to nothing is accelerated: ${JSON.stringify(idle.map(({ name, acceleration }) => [name, acceleration]))}`)
    }
  }
}

/** By what it is seen that messages are accelerated. */
const witnesses: readonly Workload[] = [
  { title: 'through Envoys', between: 'envoys', program: 'http', does: 'kept', what: [4, 100], milliseconds: 500, runs: 1 },
  { title: 'on the leg', between: 'pair', program: 'stream', does: 'exchange', what: [100, 'nodelay'], milliseconds: 300, runs: 1 },
]

async function startProcesses({ client, server, pair, flow }: Pods, { http, stream }: Programs): Promise<void> {
  await serve(server, [http, 'serve', HTTP_PORT], APP)
  await serve(server, [stream, 'serve', STREAM_PORT], APP)
  await serve(pair, onClientCpu([stream, 'serve', String(OUTBOUND_PORT)]), PROXY)
  await serve(flow, onServerCpu([stream, 'serve', String(OUTBOUND_PORT)]), PROXY)
  const layout = { ...istioLayout, bytes: [Number(STREAM_PORT)] }
  await Promise.all([startEnvoy(client, 'client', 'v4', layout), startEnvoy(server, 'server', 'v4', layout)])
}

/** Its programs are attached at the site's own cgroup, so that the other sites do not pay for them. */
const configOf = (mode: Mode, pods: Pods, cgroup: string): AgentConfig => ({
  pods: Object.values(pods).map(({ name, netns }) => ({ name, netns })),
  cgroup,
  acceleration: { mode: mode === 'naive' ? 'none' : mode },
})

/** Ready means that the self-test has its verdict. */
async function startAgent(mode: Mode, config: AgentConfig): Promise<Agent> {
  const agent = await Agent.start(config)
  if (accelerated(mode)) await until('acceleration is on', 60_000, async () => (await agent.status()).acceleration.on || undefined)
  return agent
}

const accelerated = (mode: Mode): boolean => mode === 'proxies' || mode === 'all'
