/** Runs exchanges in every place, over plain TCP and accelerated, and tells what differs. */

import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Agent, AgentConfig } from '../../core/agent.ts'
import { asConfig, configSchema } from '../../core/config/schema.ts'
import { AccelReason } from '../../core/contract.ts'
import { plugins } from '../../core/plugins.ts'
import { compareHalves, differs } from '../../core/selftest/compare.ts'
import { type Exchange, type Half, readsBySplice } from '../../core/selftest/program.ts'
import { DatapathUnderTest } from '../kernel/fixture.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { copyPrograms, type Programs, runExchange, vouchFor } from './exchange.ts'
import type { Family, Lane, Place } from './places.ts'

export type Mode = 'none' | 'proxies' | 'all'

/** More than these were redirected: so the connection was joined, and in use, when the exchange began. */
const first = 8n
const joinMs = 10
/** For how long a connection is in use before the exchange begins. */
const usedMs = 80

export interface Ran {
  readonly halves: readonly Half[]
  /** Its connection was joined, and redirected messages. */
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
        for (const role of ['a', 'b']) pods.push({ pod: await lab.pod(`${mode}${at}${role}`, { ipv6: true }), mode, at })
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

  /** Waits for a free lane of the mode. */
  async run(exchange: Exchange, place: Place, family: Family, mode: Mode, options: readonly string[] = []): Promise<Ran> {
    const lane = this.#lanes[mode].pop() ?? (await new Promise<OwnLane>((resolve) => this.#waiting[mode].push(resolve)))
    try {
      const program = readsBySplice(exchange) ? this.#programs.splicing : this.#programs.usual
      const before = await this.#counts(lane)
      const { halves } = await runExchange(exchange.name, place.ends(lane, family), {
        program,
        directory: this.#programs.directory,
        options: mode === 'none' ? options : ['--warm', String(usedMs), ...options],
      })
      const after = await this.#counts(lane)
      return { halves, ...judge(before, after) }
    } finally {
      const next = this.#waiting[mode].shift()
      if (next === undefined) this.#lanes[mode].push(lane)
      else next(lane)
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

function judge(before: Counts, after: Counts): Pick<Ran, 'accelerated' | 'reason'> {
  const grown = [...after].map(([reason, { messages, bytes }]) => {
    const old = before.get(reason) ?? { messages: 0n, bytes: 0n }
    return { reason, messages: messages - old.messages, bytes: bytes - old.bytes }
  })
  const redirected = grown.find(({ reason }) => reason === AccelReason.REDIRECTED)
  const others = grown.filter(({ reason, messages }) => reason !== AccelReason.REDIRECTED && messages > 0n).sort((a, b) => Number(b.bytes - a.bytes))
  const accelerated = redirected !== undefined && redirected.messages > first
  return { accelerated, reason: others[0]?.reason }
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
  return { config, meshes: [{ plugin, options: plugin.options.parse({}), entry: 'mesh' }], warnings: [] }
}

export interface Cell {
  readonly problems: readonly string[]
  readonly different: boolean
  readonly accelerated: boolean
  readonly reason: AccelReason | undefined
  readonly skipped: boolean
}

/** What a user would see of the difference. */
export function cellOf(exchange: Exchange, plain: Ran, other: Ran): Cell {
  const problems = (['client', 'server'] as const).flatMap((side) => {
    const [before, after] = [plain, other].map(({ halves }) => halves.find((half) => half.side === side))
    if (before === undefined || after === undefined) return [`${exchange.name} (${side}): did not end`]
    return [
      ...before.failures.map((failure) => `${exchange.name} (${side}), over plain TCP: ${failure}`),
      ...compareHalves(before, after, exchange.differs),
    ]
  })
  const skipped = [...plain.halves, ...other.halves].some((half) => half.skipped.length > 0)
  return { problems, different: exchange.differs !== '' && differs(plain.halves, other.halves, exchange.differs), skipped, ...only(other) }
}

const only = ({ accelerated, reason }: Ran) => ({ accelerated, reason })
