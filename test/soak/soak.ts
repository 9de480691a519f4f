/**
 * A soak: pods with sidecars exchange random traffic for a while, in which every byte says where it belongs, while the agent is reloaded, switched, killed and
 * restarted, and pods and proxies come and go. It tells what was not as it should be, and what is left in the kernel at the end.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, execute, program } from '../lab/agent.ts'
import { Lab } from '../lab/net.ts'
import { type Accelerated, acceleratedText, Tally } from './accelerated.ts'
import { calm, chanceOf, Happenings, settled, type World } from './happenings.ts'
import { growth, type Measured, measure } from './measure.ts'
import { compilePrograms, Member, type Problem, sum, type Totals } from './pods.ts'

export interface SoakOptions {
  readonly minutes: number
  readonly seed: number
  readonly pods?: number
  /** Of each pod, at a time */
  readonly connections?: number
  /** Called now and then. */
  readonly onProgress?: (text: string) => void
}

export interface SoakReport {
  readonly seed: number
  readonly seconds: number
  /** Of the clients */
  readonly totals: Totals
  readonly happenings: Readonly<Record<string, number>>
  /** Connections that were cut off by what happened to their pods. */
  readonly explained: number
  /** Absent: this agent accelerates nothing. */
  readonly accelerated: Accelerated | undefined
  readonly start: Measured
  readonly end: Measured
  /** Empty: everything is as it should be. */
  readonly failures: readonly string[]
}

const MOST_FAILURES = 20
const WARM_UP = 8_000
/** Closing sockets, grace periods and sweeps of the agent take that long at most. */
const SETTLE = 90_000

async function abilities(): Promise<Pick<World, 'hasMode' | 'hasSwitch'>> {
  const schema = JSON.parse(readFileSync(join(import.meta.dirname, '../../config/schema.json'), 'utf8')) as { properties: object }
  const help = await execute(program, ['--help'])
  return { hasMode: 'acceleration' in schema.properties, hasSwitch: /^ +accelerate /m.test(help.stdout) }
}

class Soak {
  readonly #lab: Lab
  readonly #options: SoakOptions
  readonly #problems: Problem[] = []
  readonly #failures: string[] = []
  readonly #tally = new Tally()
  readonly #members: readonly Member[]
  readonly #chance: (below: number) => number

  constructor(lab: Lab, options: SoakOptions) {
    this.#lab = lab
    this.#options = options
    this.#chance = chanceOf(options.seed)
    this.#members = Array.from({ length: options.pods ?? 3 }, (_, number) => new Member(lab, number, this.#problems))
  }

  async run(): Promise<SoakReport> {
    await compilePrograms(this.#lab.directory)
    for (const member of this.#members) await member.create()
    const able = await abilities()
    await using agent = await Agent.start(calm(this.#members, able.hasMode))
    for (const member of this.#members) await this.#startServers(member)
    const world: World = { agent, members: this.#members, chance: this.#chance, startAll: (member) => this.#startAll(member), ...able }
    const happenings = new Happenings(world)
    await this.#startClients()
    await sleep(WARM_UP)
    await this.#finishClients()
    const start = await this.#rest(agent)
    const before = this.#totals()
    await this.#startClients()
    const seconds = await this.#live(happenings, agent)
    await happenings.calmDown()
    await this.#finishClients()
    await agent.enrolled()
    this.#tally.add(await agent.status())
    this.#failures.push(...this.#tally.failures(seconds / 60))
    const totals = this.#totals()
    const left = await settled('the kernel holds no more than at the start', SETTLE, async () =>
      growth(start, await measure(agent.bpffs, this.#members), totals.connections - before.connections),
    )
    this.#failures.push(...left)
    const end = await measure(agent.bpffs, this.#members)
    const unexplained = this.#problems.filter((problem) => !happenings.explains(problem))
    for (const { problem, pods, text } of unexplained) this.#failures.push(`${problem}, ${pods.join(' to ')}: ${text}`)
    const explained = this.#problems.length - unexplained.length
    const failures = this.#failures.slice(0, MOST_FAILURES)
    return { seed: this.#options.seed, seconds, totals, happenings: happenings.counts, explained, accelerated: this.#tally.sum, start, end, failures }
  }

  async #startServers(member: Member): Promise<void> {
    await member.startProxy()
    await member.startServer()
  }

  #startClient(member: Member): Promise<void> {
    return member.startClient(this.#options.connections ?? 12, this.#chance(1 << 30), this.#members)
  }

  async #startAll(member: Member): Promise<void> {
    await this.#startServers(member)
    await this.#startClient(member)
  }

  async #startClients(): Promise<void> {
    for (const member of this.#members) await this.#startClient(member)
  }

  async #finishClients(): Promise<void> {
    const done = await Promise.all(this.#members.map((member) => member.finishClient()))
    for (const [index, well] of done.entries()) if (!well) this.#failures.push(`clients of ${this.#members[index]?.name} did not end`)
  }

  #totals(): Totals {
    return this.#members.map((member) => member.totals('client')).reduce(sum)
  }

  /** What is there when every connection is closed. */
  async #rest(agent: Agent): Promise<Measured> {
    // A socket that was reset is in no table, but in the map as long as a program holds it.
    const busy = async () => {
      const { sockets, maps } = await measure(agent.bpffs, this.#members)
      return sockets.open + (maps.joined ?? 0) === 0
        ? []
        : [`not at rest after the warm-up: ${sockets.open} sockets open, ${maps.joined ?? 0} joined`]
    }
    this.#failures.push(...(await settled('connections are closed', SETTLE, busy)))
    return measure(agent.bpffs, this.#members)
  }

  /** false: it did not go well, and the report says so. */
  async #happens(happenings: Happenings): Promise<boolean> {
    try {
      await happenings.next()
      return true
    } catch (error) {
      this.#failures.push(error instanceof Error ? error.message : String(error))
      return false
    }
  }

  async #live(happenings: Happenings, agent: Agent): Promise<number> {
    const began = performance.now()
    const passed = () => (performance.now() - began) / 1000
    let told = 0
    while (passed() < this.#options.minutes * 60 && !this.#problems.some(({ problem }) => problem === 'wrong')) {
      await sleep(this.#chance(1200))
      if (!(await this.#happens(happenings))) break
      if (passed() - told < 10) continue
      told = passed()
      this.#tally.add(await agent.status())
      const { connections, messages, bytes } = this.#totals()
      const text = `${Math.round(told)} s: ${connections} connections, ${messages} messages, ${Math.round(bytes / 1e6)} MB, ${this.#problems.length} cut off; ${acceleratedText(this.#tally.sum)}`
      this.#options.onProgress?.(text)
    }
    return Math.round(passed())
  }
}

export async function soak(options: SoakOptions): Promise<SoakReport> {
  await using lab = await Lab.create('soak')
  return await new Soak(lab, options).run()
}

/** For people. */
export function reportText({ seed, seconds, totals, happenings, explained, accelerated, start, end, failures }: SoakReport): string {
  const { connections, complete, left, messages, bytes } = totals
  const counted = Object.entries(happenings).map(([what, count]) => `  ${what}: ${count}`)
  const change = (name: string) => `${start.slabs[name] ?? 0} -> ${end.slabs[name] ?? 0}`
  return [
    `${seconds} seconds, seed ${seed}`,
    `  connections: ${connections}, of which ${complete} complete, ${left} left by their clients, ${explained} cut off when a pod or its proxy ended`,
    `  messages: ${messages}, bytes: ${bytes}`,
    ...counted,
    `  ${acceleratedText(accelerated)}`,
    `  sockets: ${start.sockets.all} -> ${end.sockets.all} in the pods, TCP ${change('TCP')}, TCPv6 ${change('TCPv6')} on the machine; pages of TCP: ${start.tcpPages} -> ${end.tcpPages}`,
    `  entries of maps: ${Object.entries(end.maps)
      .map(([name, count]) => `${name} ${start.maps[name] ?? 0} -> ${count}`)
      .join(', ')}`,
    ...(failures.length === 0 ? ['nothing wrong'] : ['WRONG:', ...failures.map((failure) => `  ${failure}`)]),
  ].join('\n')
}
