/** Runs exchanges in every place, over plain TCP and accelerated, and tells what differs. */

import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Agent, AgentConfig } from '../../core/agent.ts'
import { asConfig, configSchema } from '../../core/config/schema.ts'
import { AccelQuirk, AccelReason, Asks, Splices } from '../../core/contract.ts'
import { plugins } from '../../core/plugins.ts'
import { type Exchange, type Half, readsBySplice } from '../../core/selftest/program.ts'
import { DatapathUnderTest } from '../kernel/fixture.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { copyPrograms, type Programs, runExchange, vouchFor } from './exchange.ts'
import { asksFionread } from './expected.ts'
import type { Family, Lane, Place } from './places.ts'

export type Mode = 'none' | 'proxies' | 'all'

const joinMs = 10
/** Between two looks at what a connection does that is in use before its exchange begins. */
const lookMs = 12
/** That many messages of it, one after the other, are redirected, and none of those that should be is not: it is joined. */
const steady = 4n
/** How long that may take on a busy machine, and how long others are given. */
const joinedMs = 6000
const otherMs = 60

export interface Ran {
  readonly halves: readonly Half[]
  /** Of its own messages, those of the warm-up left out, some were redirected. */
  readonly accelerated: boolean
  /** Why not, most of the time. */
  readonly reason: AccelReason | undefined
}

interface OwnLane extends Lane {
  readonly cookies: ReadonlySet<bigint>
}

/** Lanes of two pods each, with a mode of their own, and an agent for all of them. */
export class Suite implements AsyncDisposable {
  readonly #lab: Lab
  readonly #datapath: DatapathUnderTest
  readonly agent: Agent
  readonly #programs: Programs
  #joiner: Promise<void> | undefined
  #over = false
  readonly #lanes: Readonly<Record<Mode, OwnLane[]>>
  readonly #waiting: Record<Mode, ((lane: OwnLane) => void)[]> = { none: [], proxies: [], all: [] }

  private constructor(lab: Lab, datapath: DatapathUnderTest, agent: Agent, programs: Programs, lanes: Record<Mode, OwnLane[]>) {
    this.#lab = lab
    this.#datapath = datapath
    this.agent = agent
    this.#programs = programs
    this.#lanes = lanes
  }

  static async open(name: string, counts: Readonly<Partial<Record<Mode, number>>>, object?: string): Promise<Suite> {
    const lab = await Lab.create(name)
    const datapath = new DatapathUnderTest(name)
    try {
      const wanted = (['none', 'proxies', 'all'] as const).flatMap((mode) => Array.from({ length: counts[mode] ?? 0 }, (_, at) => ({ mode, at })))
      const pods: { pod: LabPod; mode: Mode; at: number }[] = []
      for (const { mode, at } of wanted) {
        for (const role of ['a', 'b']) {
          const pod = await lab.pod(`${mode}${at}${role}`, { ipv6: true })
          await pod.exec(['ip', '-6', 'address', 'add', '::6/128', 'dev', 'lo']) // as Istio does where it captures IPv6
          pods.push({ pod, mode, at })
        }
      }
      const agent = await datapath.start(configOf(datapath.bpffs, pods), object === undefined ? {} : { object })
      const cookieOf = new Map(agent.outcomes.map(({ pod, netns }) => [pod.name, netns]))
      const lanes: Record<Mode, OwnLane[]> = { none: [], proxies: [], all: [] }
      for (const { mode, at } of wanted) {
        const [here, there] = pods.filter((each) => each.mode === mode && each.at === at).map(({ pod }) => pod) as [LabPod, LabPod]
        const cookies = new Set([here, there].map((pod) => cookieOf.get(pod.name)).filter((cookie) => cookie !== undefined))
        lanes[mode].push({ here, there, cookies })
      }
      const programs = copyPrograms(lab)
      vouchFor(agent.datapath.maps.programs, programs.usual)
      vouchFor(agent.datapath.maps.programs, programs.splicing, Splices.DOES)
      vouchFor(agent.datapath.maps.programs, programs.asking, Splices.NEVER, Asks.DOES)
      agent.datapath.acceleration.setQuirks(AccelQuirk.FIONREAD) // as where it is not known
      const suite = new Suite(lab, datapath, agent, programs, lanes)
      suite.#joiner = suite.#join()
      return suite
    } catch (error) {
      await datapath[Symbol.asyncDispose]()
      await lab.close()
      throw error
    }
  }

  /** As the agent does it once in a while, but faster: a connection of an exchange is in use for a moment only. */
  async #join(): Promise<void> {
    for (; !this.#over; await sleep(joinMs)) await readFile(this.agent.datapath.layout.acceleration('late')).catch(() => {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true
    await this.#joiner
    await this.#datapath[Symbol.asyncDispose]()
    await this.#lab.close()
  }

  /** Waits for a free lane of the mode. `joins`: it is expected that the connection is joined. */
  async run(exchange: Exchange, place: Place, family: Family, mode: Mode, joins = false, options: readonly string[] = []): Promise<Ran> {
    const lane = this.#lanes[mode].pop() ?? (await new Promise<OwnLane>((resolve) => this.#waiting[mode].push(resolve)))
    try {
      const own: [Counts, Counts][] = []
      let before = await this.#counts(lane)
      const note = async () => void own.push([before, await this.#counts(lane)])
      const gate = {
        ends: note,
        used: (ended: () => boolean) => this.#joined(lane, joins, mode, ended),
        begins: async () => {
          before = await this.#counts(lane)
        },
      }
      const halves = await runExchange(exchange.name, place.ends(lane, family), {
        program: this.#programOf(exchange),
        directory: this.#programs.directory,
        options,
        ...(mode === 'none' || exchange.ownStart ? {} : { gate }),
      })
      await note()
      const parts = own.map(([from, to]) => judge(from, to))
      return {
        halves,
        accelerated: parts.some(({ redirected }) => redirected > 0n),
        reason: parts.findLast(({ reason }) => reason !== undefined)?.reason,
      }
    } finally {
      const next = this.#waiting[mode].shift()
      if (next === undefined) this.#lanes[mode].push(lane)
      else next(lane)
    }
  }

  #programOf(exchange: Exchange): string {
    if (readsBySplice(exchange)) return this.#programs.splicing
    return exchange.name === asksFionread ? this.#programs.asking : this.#programs.usual
  }

  async #joined(lane: OwnLane, joins: boolean, mode: Mode, ended: () => boolean): Promise<void> {
    const until = performance.now() + (joins ? joinedMs : otherMs)
    for (let before = await this.#counts(lane); performance.now() < until && !ended(); ) {
      await sleep(lookMs)
      const after = await this.#counts(lane)
      const { redirected, others } = judge(before, after)
      if (joins && redirected >= steady && (mode === 'proxies' || others === 0n)) return
      if (redirected >= steady || others > 0n) before = after
    }
  }

  async #counts({ cookies }: OwnLane): Promise<Counts> {
    const sums: Counts = new Map()
    for (const { netns, reason, messages, bytes } of await this.agent.datapath.acceleration.counts()) {
      if (!cookies.has(netns)) continue
      const sum = sums.get(reason) ?? { messages: 0n, bytes: 0n }
      sums.set(reason, { messages: sum.messages + messages, bytes: sum.bytes + bytes })
    }
    return sums
  }
}

type Counts = Map<AccelReason, { readonly messages: bigint; readonly bytes: bigint }>

function judge(before: Counts, after: Counts) {
  const grown = [...after].map(([reason, { messages, bytes }]) => {
    const old = before.get(reason) ?? { messages: 0n, bytes: 0n }
    return { reason, messages: messages - old.messages, bytes: bytes - old.bytes }
  })
  const redirected = grown.find(({ reason }) => reason === AccelReason.REDIRECTED)?.messages ?? 0n
  const rest = grown.filter(({ reason, messages }) => reason !== AccelReason.REDIRECTED && messages > 0n).sort((a, b) => Number(b.bytes - a.bytes))
  return { redirected, others: rest.reduce((sum, { messages }) => sum + messages, 0n), reason: rest[0]?.reason }
}

function configOf(bpffs: string, pods: readonly { readonly pod: LabPod; readonly mode: Mode }[]): AgentConfig {
  const plugin = plugins.istio
  if (plugin === undefined) throw new Error('no istio plugin')
  const written = {
    version: 1,
    mesh: 'istio',
    acceleration: { mode: 'all' },
    workloads: { static: pods.map(({ pod, mode }) => ({ name: pod.name, netns: pod.netns, annotations: { 'merbridge.io/acceleration': mode } })) },
    attach: { bpffs },
  }
  const config = asConfig(configSchema(['istio']).parse(written))
  return { config, meshes: [{ plugin, options: plugin.options.parse({ dualStack: true }), entry: 'mesh' }], warnings: [] }
}
