/**
 * The same pods three times: without a mesh, with Istio's iptables rules, with this datapath. Each has
 *
 *     client --(sidecar)--> server --(sidecar)--> an HTTP server on 8080        for requests, through two real Envoys
 *     caller --> sink:8080                                                      for connect() alone
 *
 * In the mesh variants the caller's proxy is a loop of accept and close as uid 1337 on 15001, so that only the interception is measured, and
 * nobody listens at the sink: a connect that is not intercepted fails, and the bench with it.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Agent } from '../test/lab/agent.ts'
import { startEnvoy } from '../test/lab/envoy.ts'
import { OUTBOUND_PORT, PROXY_UID } from '../test/lab/envoy-config.ts'
import { applyIptables, istioRules } from '../test/lab/istio-iptables.ts'
import { Lab, type LabPod } from '../test/lab/net.ts'
import { must, type RunAs } from '../test/lab/process.ts'

export const VARIANTS = ['none', 'iptables', 'merbridge'] as const
export type VariantName = (typeof VARIANTS)[number]

export interface Workload {
  readonly mode: 'connect' | 'keep' | 'new'
  readonly title: string
  /** Measurements in one run of it */
  readonly count: number
  /** Runs in one round, each of them paired with those of the other variants */
  readonly runs: number
}

const APP = { uid: 1000, gid: 1000 }
const PROXY = { uid: PROXY_UID, gid: PROXY_UID }
const PORT = '8080'

/** Milliseconds that one run may take. */
const RUN_DEADLINE = 30_000

/** Client and server of the connect() measurement stay on two processors, if there are two, so that the scheduler adds no noise. */
const [firstCpu, lastCpu] = allowedCpus()

export class Variant implements AsyncDisposable {
  readonly name: VariantName
  readonly #lab: Lab
  readonly #program: string
  readonly #client: LabPod
  readonly #server: LabPod
  readonly #caller: LabPod
  readonly #sink: LabPod

  private constructor(name: VariantName, lab: Lab, program: string, pods: readonly [LabPod, LabPod, LabPod, LabPod]) {
    this.name = name
    this.#lab = lab
    this.#program = program
    ;[this.#client, this.#server, this.#caller, this.#sink] = pods
  }

  static async create(name: VariantName): Promise<Variant> {
    const lab = await Lab.create(`bench-${name}`, { cgroup: true })
    try {
      const program = join(lab.directory, 'load')
      await must(['cc', '-O2', '-o', program, join(import.meta.dirname, 'load.c')])
      const pods = [await lab.pod('client'), await lab.pod('server'), await lab.pod('caller'), await lab.pod('sink')] as const
      const variant = new Variant(name, lab, program, pods)
      await variant.#startProcesses()
      if (name === 'iptables') for (const pod of variant.meshed) await applyIptables(pod, istioRules())
      return variant
    } catch (error) {
      await lab.close()
      throw error
    }
  }

  /** The cgroup in which the variant's processes are, and no others. */
  get cgroup(): string {
    return this.#lab.cgroup ?? ''
  }

  /** The pods that the mesh intercepts. */
  get meshed(): readonly LabPod[] {
    return [this.#client, this.#server, this.#caller]
  }

  /** Fails unless requests pass both sidecars, or none where there is none. */
  async check(): Promise<void> {
    const url = `http://${this.#server.address}:${PORT}/`
    const { stdout, stderr } = await this.#client.exec(['curl', '--silent', '--show-error', '--include', '--max-time', '10', url], APP)
    const passed = ['outbound', 'inbound'].filter((direction) => stdout.includes(`x-${direction}-sidecar`))
    const expected = this.name === 'none' ? 0 : 2
    if (!stdout.includes('200 OK') || passed.length !== expected)
      throw new Error(`${this.name}: a request passed ${passed.length} sidecars instead of ${expected}\n${stdout}${stderr}`)
  }

  /** One run: nanoseconds of each measurement. */
  async measure({ mode, count }: Workload): Promise<readonly number[]> {
    const [from, to] = mode === 'connect' ? [this.#caller, this.#sink] : [this.#client, this.#server]
    const argv = [this.#program, mode, to.address, PORT, String(count)]
    const pinned = mode === 'connect' ? ['taskset', '--cpu-list', firstCpu, ...argv] : argv
    const output = await must(from.command(pinned, APP), { timeoutMs: RUN_DEADLINE })
    return output.trim().split('\n').map(Number)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#lab.close()
  }

  async #startProcesses(): Promise<void> {
    await this.#serve(this.#server, ['serve', PORT], APP)
    if (this.name === 'none') return this.#serve(this.#sink, ['accept', PORT], APP)
    await this.#serve(this.#caller, ['accept', String(OUTBOUND_PORT)], PROXY)
    await Promise.all([startEnvoy(this.#client, 'client'), startEnvoy(this.#server, 'server')])
  }

  async #serve(pod: LabPod, argv: readonly string[], who: RunAs): Promise<void> {
    const pinned = argv[0] === 'accept' ? ['taskset', '--cpu-list', lastCpu] : []
    const child = pod.spawn([...pinned, this.#program, ...argv], who)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    child.stdout?.once('data', () => resolve())
    child.once('exit', (code) => reject(new Error(`load ${argv.join(' ')} ended with status ${code}`)))
    await promise
  }
}

/**
 * Starts the agent for the pods of one variant; resolves when they are enrolled. The programs are attached at the variant's own cgroup, so that the
 * other variants do not pay for them.
 */
export function startAgent({ meshed, cgroup }: Variant): Promise<Agent> {
  return Agent.start({ pods: meshed.map(({ name, netns }) => ({ name, netns })), cgroup })
}

function allowedCpus(): [string, string] {
  const list = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  const numbers = list.split(/[-,]/)
  return [numbers[0] ?? '0', numbers.at(-1) ?? '0']
}
