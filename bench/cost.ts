/**
 * What one connect() costs as a function of the number of CIDRs and of rules. The kernel itself measures the program; the client measures the system call,
 * also in pods with as many iptables rules.
 */
import type { ChildProcess } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { Layout, version } from '../core/datapath/layout.ts'
import { Agent } from '../test/lab/agent.ts'
import { PROXY_UID } from '../test/lab/envoy-config.ts'
import { applyIptables } from '../test/lab/istio-iptables.ts'
import { kill, Lab, type LabPod } from '../test/lab/net.ts'
import { addIpv6 } from './addresses.ts'
import { type Comparison, type Figures, figuresOf, type Setting } from './measure.ts'
import { destination4, destination6, iptablesRules, type Kind, nameOf, POINTS, type Point, PROXY_PORT, pluginText, SIZES } from './points.ts'
import { compile, measured, onClientCpu, onServerCpu, serve } from './programs.ts'

const APP = { uid: 1000, gid: 1000 }
const PROXY = { uid: PROXY_UID, gid: PROXY_UID }
const PORT = '8080'
const COUNT = 200

const FAMILIES = { IPv4: { destination: destination4, hook: 'connect4' }, IPv6: { destination: destination6, hook: 'connect6' } } as const
export type Family = keyof typeof FAMILIES
export const FAMILY_NAMES = Object.keys(FAMILIES) as Family[]

/** Nanoseconds and number of runs of a program, since it was loaded. */
interface Account {
  readonly nanoseconds: number
  readonly runs: number
}

/** The kernel measures programs as long as this is open. */
class Stats implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #next: () => Promise<string>

  private constructor(child: ChildProcess, next: () => Promise<string>) {
    this.#child = child
    this.#next = next
  }

  static async start(node: LabPod, program: string, links: readonly string[]): Promise<Stats> {
    const child = node.spawn([program, ...links], { stdio: ['pipe', 'pipe', 'inherit'] })
    const lines = createInterface({ input: child.stdout as Readable })[Symbol.asyncIterator]()
    const next = async () => {
      const { value, done } = await lines.next()
      if (done) throw new Error(`${program}: the kernel's statistics of programs are not to be had`)
      return value
    }
    await next() // "ready"
    return new Stats(child, next)
  }

  async read(): Promise<Record<Family, Account>> {
    this.#child.stdin?.write('\n')
    const [ns4 = 0, runs4 = 0, ns6 = 0, runs6 = 0] = (await this.#next()).split(' ').map(Number)
    return { IPv4: { nanoseconds: ns4, runs: runs4 }, IPv6: { nanoseconds: ns6, runs: runs6 } }
  }

  /** It holds the programs, which nobody can take away meanwhile. */
  [Symbol.asyncDispose](): Promise<void> {
    return kill(this.#child)
  }
}

/** The pods of all points, with the proxy that their connections are sent to. */
async function createPods(lab: Lab, load: string): Promise<LabPod[]> {
  const pods: LabPod[] = []
  for (const point of POINTS) {
    const pod = await lab.pod(nameOf(point))
    await addIpv6(pod)
    await serve(pod, onServerCpu([load, 'accept', String(PROXY_PORT)]), PROXY)
    pods.push(pod)
  }
  return pods
}

async function startAgent(lab: Lab, pods: readonly LabPod[]): Promise<Agent> {
  const path = join(lab.directory, 'points.ts')
  await writeFile(path, pluginText())
  return Agent.start({
    mesh: { path },
    pluginDirectory: lab.directory,
    pods: pods.map(({ name, netns }) => ({ name, netns })),
    cgroup: lab.cgroup ?? '',
  })
}

export const variantOf = (side: 'merbridge' | 'iptables', size: number): string => `${side} ${size}`
export const titleOf = (kind: Kind, family: Family): string => `${kind}, ${family}`

export async function costSetting(): Promise<Setting> {
  await using stack = new AsyncDisposableStack()
  const labs = { merbridge: stack.use(await Lab.create('cost-merbridge', { cgroup: true })), iptables: stack.use(await Lab.create('cost-iptables')) }
  const load = await compile('load', labs.merbridge.directory)
  const [own, other] = await Promise.all([createPods(labs.merbridge, load), createPods(labs.iptables, load)])
  const pods = { merbridge: own, iptables: other }
  for (const [index, point] of POINTS.entries()) await applyIptables(pods.iptables[index] as LabPod, iptablesRules(point))
  const agent = stack.use(await startAgent(labs.merbridge, pods.merbridge))
  const layout = new Layout(join(agent.bpffs, version))
  const links = Object.values(FAMILIES).map(({ hook }) => layout.link(hook))
  const stats = stack.use(await Stats.start(labs.merbridge.node, await compile('stats', labs.merbridge.directory), links))

  const connect = (pod: LabPod, family: Family) =>
    measured(pod.command(onClientCpu([load, 'connect', FAMILIES[family].destination, PORT, String(COUNT)]), APP))

  const runs = (point: Point, index: number, family: Family): [string, () => Promise<Figures>][] => {
    const [own, other] = [pods.merbridge[index] as LabPod, pods.iptables[index] as LabPod]
    const withProgram = async () => {
      const before = (await stats.read())[family]
      const figures = figuresOf(await connect(own, family))
      const after = (await stats.read())[family]
      return { ...figures, program: (after.nanoseconds - before.nanoseconds) / (after.runs - before.runs) }
    }
    return [
      [variantOf('merbridge', point.size), withProgram],
      [variantOf('iptables', point.size), async () => figuresOf(await connect(other, family))],
    ]
  }
  const comparison = (kind: Kind, family: Family): Comparison => ({
    title: titleOf(kind, family),
    count: COUNT,
    runs: 1,
    variants: Object.fromEntries(POINTS.flatMap((point, index) => (point.kind === kind ? runs(point, index, family) : []))),
  })
  const comparisons = (Object.keys(SIZES) as Kind[]).flatMap((kind) => FAMILY_NAMES.map((family) => comparison(kind, family)))
  const kept = stack.move()
  return { comparisons, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}
