/** The step of the demo about acceleration: the same connections with it and without it, in turns. */
import type { Mode } from '../../core/acceleration/api.ts'
import type { AccelerateView, AccelerationView, NodeAccelerationView } from '../../core/acceleration/view.ts'
import { table } from '../../core/cli/table.ts'
import type { StatusView } from '../../core/views.ts'
import type { Agent } from '../lab/agent.ts'
import { compared, type Pair, type Round, type Rounds, tells } from './rounds.ts'
import type { Stage } from './stage.ts'
import type { Story } from './story.ts'

const CONNECTIONS = 4
/** Pairs of rounds, and the milliseconds after which fewer will do. */
const PAIRS = 8
const FEWEST = 4
const ENOUGH = 8_000
/** Milliseconds of a round; of one that does not count; that the agent may take for a verdict about this kernel. */
const ROUND = 250
const WARM_UP = 100
const VERDICT = 60_000
/** Rounds that do not count, until as much is accelerated as will be. */
const WARM_UPS = 25

/** What rounds are compared by. */
const METRICS: Readonly<Record<string, (round: Round) => number>> = {
  'latency (µs)': ({ latency }) => latency,
  'requests/s': ({ rate }) => rate,
  'CPU time of a request (µs)': ({ cpu }) => cpu,
}

/** Packets that came in, and messages that were sent, in some rounds. */
interface Witnessed {
  readonly requests: number
  readonly loopback: number
  readonly between: number
  readonly accelerated: number
  readonly tcp: number
  readonly reasons: ReadonlyMap<string, number>
}

interface Look {
  readonly cpu: number
  readonly node: NodeAccelerationView
  readonly packets: { readonly loopback: number; readonly between: number }
}

export class AccelerationStep {
  readonly #story: Story
  readonly #stage: Stage
  readonly #agent: Agent
  /** After the last round: nothing is sent until the next one. */
  #last: Look | undefined

  constructor(story: Story, stage: Stage, agent: Agent) {
    this.#story = story
    this.#stage = stage
    this.#agent = agent
  }

  async show(): Promise<void> {
    this.#story.step('Between sockets of this node, messages can go past TCP: existing connections, without it and with it')
    this.#story.say('   the agent tries first whether this kernel does it in a way that no program can notice (merbridge selftest)')
    const why = this.#why(
      await this.#agent.waitFor('the verdict of the self-test', VERDICT, ({ selfTest }) => (selfTest?.state ?? 'running') !== 'running'),
    )
    if (why !== undefined) {
      this.#story.measured(`   not accelerated on this machine: ${why}\n   Everything else is as it would be: interception does not need it.`)
      return
    }
    this.#story.say(
      `   ${CONNECTIONS} connections of an app, all kept open, ask again as soon as the answer (100 bytes) is there; rounds with and without it take turns`,
    )
    await using rounds = await this.#stage.rounds(CONNECTIONS)
    const ports = (await rounds.run(WARM_UP)).ports.join(' ')
    await this.#showSwitch('off')
    await this.#showSwitch('on')
    await this.#mode('proxies', 'Mode proxies, the default: messages to sidecars are accelerated', rounds, ports)
    await this.#reload('all')
    await this.#mode('all', 'Mode all: messages to apps as well', rounds, ports)
    await this.#reload()
  }

  /** Why nothing is accelerated. */
  #why({ acceleration, selfTest }: StatusView): string | undefined {
    if (!acceleration.kernel.can) return acceleration.kernel.reason ?? 'the kernel cannot'
    const failed = selfTest?.failed.map(({ name, problems }) => `${name}: ${problems[0]}`) ?? []
    if (selfTest?.state === 'failed') return `the self-test failed: ${failed.join('; ')}`
    return acceleration.on ? undefined : acceleration.off.join('; ')
  }

  async #showSwitch(to: 'on' | 'off'): Promise<void> {
    const { code, stdout, stderr } = await this.#agent.command(['accelerate', to])
    if (code !== 0) throw new Error(`merbridge accelerate ${to}: exit code ${code}\n${stderr}`)
    this.#story.say(`   merbridge accelerate ${to}`)
    this.#story.show(stdout)
  }

  async #reload(mode?: Mode): Promise<void> {
    const config = this.#stage.config(mode)
    await this.#agent.write(config)
    if (mode !== undefined) this.#story.say(`\n   the config gets acceleration: { mode: ${mode} }, and the agent reloads it`)
    this.#last = undefined
    await this.#agent.waitFor('the config is read again', 20_000, ({ acceleration }) => acceleration.mode === (mode ?? 'proxies'))
  }

  async #mode(mode: Mode, title: string, rounds: Rounds, ports: string): Promise<void> {
    const story = this.#story
    await this.#joined(rounds)
    const pairs: Pair[] = []
    const [without, during]: [Witnessed[], Witnessed[]] = [[], []]
    const until = performance.now() + ENOUGH
    while (pairs.length < FEWEST || (pairs.length < PAIRS && performance.now() < until)) {
      const off = await this.#round('off', rounds)
      const on = await this.#round('on', rounds)
      pairs.push({ off: off.round, on: on.round })
      without.push(off.seen)
      during.push(on.seen)
    }
    const [off, on] = [sum(without), sum(during)]
    const all = pairs.flatMap((pair) => [pair.off, pair.on])
    story.expect(`mode ${mode}: rounds on the very same connections`, all.filter((round) => round.ports.join(' ') === ports).length, all.length)
    story.expect(`mode ${mode}: messages accelerated while it was off`, off.accelerated, 0)
    const stopped = this.#why(await this.#agent.status())
    if (on.accelerated === 0 && stopped !== undefined) return story.measured(`   mode ${mode}: the agent has switched it off meanwhile: ${stopped}`)
    story.expect(`mode ${mode}: messages are accelerated while it is on`, on.accelerated > 0 ? 'yes' : `no: ${reasonsText(on)}`, 'yes')
    const [before, after] = [off, on].map((seen) => (seen.loopback + seen.between) / seen.requests)
    story.expect(`mode ${mode}: bytes skip the network stack: fewer packets for a request`, Number(after) < Number(before) ? 'yes' : 'no', 'yes')
    story.measured(this.#figures(title, pairs, off, on))
  }

  /** Uses the connections until those that may be are joined, and the share of what is accelerated does not grow any more. */
  async #joined(rounds: Rounds): Promise<void> {
    let [last, steady] = [0, 0]
    for (let n = 0; n < WARM_UPS && steady < 3; n++) {
      const { seen } = await this.#witnessed(rounds, WARM_UP)
      const share = seen.accelerated / (seen.accelerated + seen.tcp)
      steady = share > 0 && Math.abs(share - last) < 0.01 ? steady + 1 : 0
      last = share
    }
  }

  async #round(to: 'on' | 'off', rounds: Rounds): Promise<{ readonly round: Round; readonly seen: Witnessed }> {
    await this.#agent.ask<AccelerateView>('/v1/accelerate', undefined, `?switch=${to}`) // as the command does
    return this.#witnessed(rounds, ROUND)
  }

  async #look(): Promise<Look> {
    const { node } = await this.#agent.ask<AccelerationView>('/v1/acceleration')
    return { node, packets: await this.#stage.packets(), cpu: await this.#stage.processorTime() }
  }

  async #witnessed(rounds: Rounds, milliseconds: number): Promise<{ readonly round: Round; readonly seen: Witnessed }> {
    const before = this.#last ?? (await this.#look())
    const answered = await rounds.run(milliseconds)
    const after = await this.#look()
    this.#last = after
    const round = { ...answered, cpu: (after.cpu - before.cpu) / answered.requests / 1e3 }
    const seen = {
      requests: round.requests,
      loopback: after.packets.loopback - before.packets.loopback,
      between: after.packets.between - before.packets.between,
      accelerated: after.node.accelerated.messages - before.node.accelerated.messages,
      tcp: after.node.tcp.messages - before.node.tcp.messages,
      reasons: grown(reasonsOf(before.node), reasonsOf(after.node)),
    }
    return { round, seen }
  }

  #figures(title: string, pairs: readonly Pair[], off: Witnessed, on: Witnessed): string {
    const each = (what: string, of: (seen: Witnessed) => number) => [what, (of(off) / off.requests).toFixed(1), (of(on) / on.requests).toFixed(1), '']
    const rows = [
      ...Object.entries(METRICS).map(([name, of]) => compared(name, pairs, of)),
      each('packets per request over loopback', ({ loopback }) => loopback),
      each('packets per request between the pods', ({ between }) => between),
      ['messages accelerated', shareOf(off), shareOf(on), ''],
    ]
    const blurred = Object.entries(METRICS).flatMap(([name, of]) => (tells(pairs, of) ? [] : [name]))
    const lines = [
      `${title}; of ${pairs.length} rounds each, the median (least to most):`,
      table(['', 'OFF', 'ON', 'ON/OFF'], rows),
      `by TCP while it was on: ${reasonsText(on) || 'nothing'}`,
      ...(blurred.length === 0
        ? []
        : [`The machine is too busy for these rounds to tell by ${blurred.join(' and ')} which is faster; npm run bench takes the time for it.`]),
    ]
    return `\n${lines.join('\n').trimEnd()}`.replace(/^(?=.)/gm, '   ')
  }
}

const reasonsOf = ({ reasons }: NodeAccelerationView) => new Map(reasons.map(({ reason, messages }) => [reason, messages]))

function grown(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): Map<string, number> {
  return new Map([...after].map(([reason, messages]) => [reason, messages - (before.get(reason) ?? 0)]))
}

function sum(all: readonly Witnessed[]): Witnessed {
  const total = (of: (seen: Witnessed) => number) => all.reduce((so, seen) => so + of(seen), 0)
  const names = new Set(all.flatMap(({ reasons }) => [...reasons.keys()]))
  return {
    requests: total(({ requests }) => requests),
    loopback: total(({ loopback }) => loopback),
    between: total(({ between }) => between),
    accelerated: total(({ accelerated }) => accelerated),
    tcp: total(({ tcp }) => tcp),
    reasons: new Map([...names].map((name) => [name, total(({ reasons }) => reasons.get(name) ?? 0)])),
  }
}

const percent = (part: number, { accelerated, tcp }: Witnessed) => `${((100 * part) / (accelerated + tcp)).toFixed(1)} %`

const shareOf = (seen: Witnessed) => percent(seen.accelerated, seen)

/** "mode 33.3 %, order 0.1 %" */
function reasonsText(seen: Witnessed): string {
  const occurred = [...seen.reasons].filter(([, messages]) => messages > 0).sort(([, a], [, b]) => b - a)
  return occurred.map(([reason, messages]) => `${reason} ${percent(messages, seen)}`).join(', ')
}
