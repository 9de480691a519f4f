/** What happens at random while the traffic of a soak goes on. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Agent, type AgentConfig, type StaticPod, until } from '../lab/agent.ts'
import { clock, type Member, type Problem } from './pods.ts'

/** Connections of the pod that were there meanwhile may have been cut off. */
export interface Disturbance {
  readonly pod: string
  readonly what: string
  readonly from: number
  /** Absent: it has not ended yet. */
  to?: number
}

export interface World {
  readonly agent: Agent
  readonly members: readonly Member[]
  /** The configuration has `acceleration` */
  readonly hasMode: boolean
  /** There is `merbridge accelerate` */
  readonly hasSwitch: boolean
  readonly startAll: (member: Member) => Promise<void>
  /** 0 .. below - 1, from the seed */
  readonly chance: (below: number) => number
}

/** Milliseconds for which a connection may go on with what was on its way. */
const BUFFERED = 5_000

const sidecar = { name: 'istio-proxy', env: { ISTIO_DUAL_STACK: 'true' } }
const modes = ['none', 'proxies', 'auto', 'all', 'all']
const budgets = ['64KiB', '1MiB', '4MiB']

/** The configuration of the start and of the end. */
export const calm = (members: readonly Member[], hasMode: boolean): AgentConfig => ({
  pods: members.map(({ name, pod: { netns } }): StaticPod => ({ name, netns, containers: [sidecar] })),
  ...(hasMode && { acceleration: { mode: 'all', budget: '4MiB' } }),
})

/** seeded: mulberry32 */
export function chanceOf(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

export class Happenings {
  readonly counts: Record<string, number> = {}
  readonly disturbances: Disturbance[] = []
  readonly #world: World
  /** Of what `merbridge accelerate off` was said last; '': the whole node */
  #off: string | undefined

  constructor(world: World) {
    this.#world = world
  }

  /** Some that matter more often than others; on a slow machine there may be few, but never without these two. */
  async next(): Promise<void> {
    const { chance, hasSwitch } = this.#world
    if (this.counts.reloads === undefined) return this.#reload()
    if (this.counts['kills of the agent'] === undefined) return this.#killAgent()
    const dice = chance(100)
    if (dice < 8) return this.#killAgent()
    if (dice < 14) return this.#restartProxy()
    if (dice < 19) return this.#leaveAndCome()
    if (dice < 24) return this.#dieAndCome()
    if (hasSwitch && dice < 75) return this.#switch()
    await this.#reload()
  }

  /** As it was at the start, with every switch on. */
  async calmDown(): Promise<void> {
    const { agent, members, hasMode, hasSwitch } = this.#world
    await agent.write(calm(members, hasMode))
    if (hasSwitch) for (const name of ['', ...members.map((member) => member.name)]) await this.#accelerate('on', name)
  }

  /** It is explained by what happened to a pod of the connection meanwhile. Wrong bytes and too much memory never are. */
  explains({ problem, pods, began, moved, at }: Problem): boolean {
    if (problem === 'wrong' || problem === 'memory') return false
    return this.disturbances.some(
      ({ pod, from, to = Number.POSITIVE_INFINITY }) => pods.includes(pod) && began <= to && moved <= to + BUFFERED && at >= from,
    )
  }

  /** With other modes, budgets and rules that concern no port in use. */
  #config(members = this.#world.members): AgentConfig {
    const { chance, hasMode } = this.#world
    const annotations = { 'traffic.sidecar.istio.io/excludeOutboundPorts': String(20_000 + chance(8)) }
    const own = () => (chance(4) === 0 ? { 'merbridge.io/acceleration': modes[chance(modes.length)] ?? 'none' } : {})
    const { pods } = calm(members, hasMode)
    const acceleration = { mode: modes[chance(modes.length)] ?? 'none', budget: budgets[chance(budgets.length)] ?? '4MiB' }
    return {
      pods: pods.map((pod) => ({ ...pod, annotations: { ...(chance(2) && annotations), ...(hasMode && own()) } })),
      ...(hasMode && { acceleration }),
    }
  }

  #count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1
  }

  #member(): Member {
    const { members, chance } = this.#world
    const found = members[chance(members.length)]
    if (found === undefined) throw new Error('there are no pods')
    return found
  }

  async #disturbing({ name }: Member, what: string, work: () => Promise<void>): Promise<void> {
    this.#count(what)
    const disturbance: Disturbance = { pod: name, what, from: clock() }
    this.disturbances.push(disturbance)
    await work()
    disturbance.to = clock()
  }

  async #reload(): Promise<void> {
    this.#count('reloads')
    await this.#world.agent.write(this.#config())
  }

  /** Off, and at once or with the next time on again: most of the time it shall be on. */
  async #switch(): Promise<void> {
    const { chance } = this.#world
    const pod = this.#off ?? (chance(2) ? this.#member().name : '')
    if (this.#off === undefined) {
      this.#count('switches off')
      await this.#accelerate('off', pod)
      this.#off = pod
      if (chance(2)) return
      await sleep(chance(300))
    }
    this.#count('switches on')
    await this.#accelerate('on', pod)
    this.#off = undefined
  }

  /** `pod`: '': the whole node */
  async #accelerate(to: 'on' | 'off', pod: string): Promise<void> {
    const outcome = await this.#world.agent.command(['accelerate', to, ...(pod === '' ? [] : [pod])])
    if (outcome.code !== 0) throw new Error(`merbridge accelerate: exit ${outcome.code}\n${outcome.stderr}${outcome.stdout}`)
  }

  /** Sometimes in the middle of a reload. */
  async #killAgent(): Promise<void> {
    const { agent, chance } = this.#world
    this.#count('kills of the agent')
    if (chance(2)) {
      await agent.write(this.#config())
      await sleep(chance(600))
    }
    await agent.kill('SIGKILL')
    await sleep(chance(1500))
    await agent.run('enrolled')
  }

  #restartProxy(): Promise<void> {
    const member = this.#member()
    return this.#disturbing(member, 'restarts of a proxy', async () => {
      await member.killProxy()
      await sleep(this.#world.chance(500))
      await member.startProxy()
    })
  }

  /** The pod goes on without the mesh for a while. */
  #leaveAndCome(): Promise<void> {
    const { agent, members, chance } = this.#world
    const member = this.#member()
    return this.#disturbing(member, 'pods that left the mesh and came', async () => {
      await agent.write(this.#config(members.filter((each) => each !== member)))
      await agent.enrolled()
      await sleep(chance(1500))
      await agent.write(this.#config())
      await agent.enrolled()
    })
  }

  /** The pod ends, and another one of the same name and addresses starts. Sometimes the configuration does not list it meanwhile. */
  #dieAndCome(): Promise<void> {
    const { agent, members, chance, startAll } = this.#world
    const member = this.#member()
    return this.#disturbing(member, 'pods that ended and came', async () => {
      if (chance(2)) {
        await agent.write(this.#config(members.filter((each) => each !== member)))
        await sleep(chance(500))
      }
      await member.remove()
      const others = members.length - 1
      await agent.waitFor(`only ${others} pods are enrolled`, 30_000, ({ pods }) => pods.enrolled === others)
      await member.create()
      await agent.write(this.#config())
      await agent.enrolled()
      await startAll(member)
    })
  }
}

/** The kernel frees some things late: after grace periods, time-outs of closing sockets, and the agent's sweeps. */
export const settled = (what: string, milliseconds: number, found: () => Promise<readonly string[]>): Promise<readonly string[]> => {
  let last: readonly string[] = []
  return until(what, milliseconds, async () => {
    last = await found()
    return last.length === 0 ? last : undefined
  }).catch(() => last)
}
