/**
 * The same pods three times: without a mesh, with Istio's iptables rules, with this datapath. Each has
 *
 *     client --(sidecar)--> server --(sidecar)--> an HTTP server on 8080        for requests, through two real Envoys
 *     caller --> sink                                                           for connect() alone
 *     asker  --> sink                                                           for one exchange with the proxy itself: HTTP and DNS
 *
 * In the mesh variants the caller's proxy is a loop of accept and close as uid 1337 on 15001, and the asker's are an HTTP server on 15001 and a DNS server
 * on 15053, so that only the interception is measured. Nobody listens at the sink: what is not intercepted fails, and the bench with it. Without a mesh
 * the same servers are at the sink.
 */
import { Agent } from '../test/lab/agent.ts'
import { startEnvoy } from '../test/lab/envoy.ts'
import { OUTBOUND_PORT, PROXY_UID } from '../test/lab/envoy-config.ts'
import { applyIptables, istioTables } from '../test/lab/istio-iptables.ts'
import { Lab, type LabPod } from '../test/lab/net.ts'
import { addIpv6, type Form, ipv6Of, written } from './addresses.ts'
import { compile, measured, onClientCpu, onServerCpu, serve } from './programs.ts'

export const VARIANTS = ['none', 'iptables', 'merbridge'] as const
export type VariantName = (typeof VARIANTS)[number]

export interface Workload {
  readonly title: string
  readonly form: Form
  /** Which pods; 'envoys': from client to server */
  readonly between: 'envoys' | 'caller and sink' | 'asker and sink'
  readonly program: 'load' | 'dns'
  /** What the program does, see there */
  readonly mode: string
  /** Measurements in one run of it */
  readonly count: number
  readonly runs: number
}

const PODS = ['client', 'server', 'caller', 'asker', 'sink'] as const
type PodName = (typeof PODS)[number]

const APP = { uid: 1000, gid: 1000 }
const PROXY = { uid: PROXY_UID, gid: PROXY_UID }
/** Nothing but root may bind port 53. */
const NAME_SERVER = { uid: 0, gid: 0 }
const PORT = '8080'
const EXCHANGE_PORT = '8081'
const DNS_PORT = '53'
const DNS_PROXY_PORT = '15053'
const SECOND_SERVER = '10.77.0.213'

export class Variant implements AsyncDisposable {
  readonly name: VariantName
  readonly #lab: Lab
  readonly #programs: Readonly<Record<'load' | 'dns', string>>
  readonly #pods: Readonly<Record<PodName, LabPod>>

  private constructor(name: VariantName, lab: Lab, programs: Readonly<Record<'load' | 'dns', string>>, pods: Readonly<Record<PodName, LabPod>>) {
    this.name = name
    this.#lab = lab
    this.#programs = programs
    this.#pods = pods
  }

  static async create(name: VariantName): Promise<Variant> {
    const lab = await Lab.create(`bench-${name}`, { cgroup: true })
    try {
      const programs = { load: await compile('load', lab.directory), dns: await compile('dns', lab.directory) }
      const pods: Partial<Record<PodName, LabPod>> = {}
      for (const pod of PODS) {
        const secondary = pod === 'sink' ? [SECOND_SERVER] : []
        pods[pod] = await lab.pod(pod, { secondary: secondary.map((address) => `${address}/32`) })
        await addIpv6(pods[pod], secondary)
      }
      const variant = new Variant(name, lab, programs, pods as Record<PodName, LabPod>)
      await variant.#startProcesses()
      if (name === 'iptables') for (const pod of variant.meshed) await applyIptables(pod, istioTables({ ipv6: true, dns: 'all' }))
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
    return [this.#pods.client, this.#pods.server, this.#pods.caller, this.#pods.asker]
  }

  /** Fails unless requests pass both sidecars, or none where there is none. */
  async check(): Promise<void> {
    const url = `http://${this.#pods.server.address}:${PORT}/`
    const { stdout, stderr } = await this.#pods.client.exec(['curl', '--silent', '--show-error', '--include', '--max-time', '10', url], APP)
    const passed = ['outbound', 'inbound'].filter((direction) => stdout.includes(`x-${direction}-sidecar`))
    const expected = this.name === 'none' ? 0 : 2
    if (!stdout.includes('200 OK') || passed.length !== expected)
      throw new Error(`${this.name}: a request passed ${passed.length} sidecars instead of ${expected}\n${stdout}${stderr}`)
  }

  /** One run: nanoseconds of each measurement. */
  async measure({ title, form, between, program, mode, count }: Workload): Promise<readonly number[]> {
    const { client, server, caller, asker, sink } = this.#pods
    const [from, to] = between === 'envoys' ? [client, server] : between === 'caller and sink' ? [caller, sink] : [asker, sink]
    const port = program === 'dns' ? DNS_PORT : between === 'asker and sink' ? EXCHANGE_PORT : PORT
    const [first, second] = [written(to.address, form), written(SECOND_SERVER, form)]
    const where = mode === 'second' ? [second, port, String(count), first] : [first, port, String(count)]
    const argv = [this.#programs[program], mode, ...where]
    const command = from.command(between === 'envoys' ? argv : onClientCpu(argv), APP)
    return measured(command).catch((error: Error) => {
      throw new Error(`${this.name}: ${title}, ${form}: ${error.message}`)
    })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#lab.close()
  }

  /** The asker's partners share its processor: they take turns, and to wake another processor takes longer than the rest. */
  async #startProcesses(): Promise<void> {
    const { client, server, caller, asker, sink } = this.#pods
    const { load, dns } = this.#programs
    await serve(server, [load, 'serve', PORT], APP)
    if (this.name === 'none') {
      await serve(sink, onServerCpu([load, 'accept', PORT]), APP)
      await serve(sink, onClientCpu([load, 'serve', EXCHANGE_PORT]), APP)
      const addresses = [sink.address, SECOND_SERVER].flatMap((address) => [address, ipv6Of(address)])
      for (const address of addresses) await serve(sink, onClientCpu([dns, 'answer', address, DNS_PORT]), NAME_SERVER)
      return
    }
    await serve(caller, onServerCpu([load, 'accept', String(OUTBOUND_PORT)]), PROXY)
    await serve(asker, onClientCpu([load, 'serve', String(OUTBOUND_PORT)]), PROXY)
    for (const address of ['127.0.0.1', '::1']) await serve(asker, onClientCpu([dns, 'answer', address, DNS_PROXY_PORT]), PROXY)
    await Promise.all([startEnvoy(client, 'client'), startEnvoy(server, 'server')])
  }
}

/**
 * Starts the agent for the pods of one variant; resolves when they are enrolled. The programs are attached at the variant's own cgroup, so that the
 * other variants do not pay for them.
 */
export function startAgent({ meshed, cgroup }: Variant): Promise<Agent> {
  return Agent.start({ pods: meshed.map(({ name, netns }) => ({ name, netns })), options: { dualStack: true, captureDns: 'all' }, cgroup })
}
