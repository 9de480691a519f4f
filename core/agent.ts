/**
 * READ FIRST. The whole pipeline, from top to bottom:
 *
 *     config -> pods (what is in their namespaces now) -> the mesh of each -> plugin.describe -> compile -> diff -> apply
 *
 * It runs when the config changes, when something changes in a pod's namespace, and once a second; when nothing changed it ends after the second
 * step. A config is accepted as a whole or not at all. A pod that cannot be enrolled does not disturb the others.
 */
import { Steering } from './acceleration/steering.ts'
import { Upkeep } from './acceleration/upkeep.ts'
import { u64Codec } from './codec.ts'
import type { AgentConfig } from './config/load.ts'
import { refuseRestartKeys } from './config/restart.ts'
import type { Config } from './config/schema.ts'
import { Ability } from './contract.ts'
import { apply } from './datapath/apply.ts'
import { sweepAskers } from './datapath/askers.ts'
import { sweepHandovers, tidyPending } from './datapath/counters.ts'
import type { Datapath, Log } from './datapath/datapath.ts'
import { type Enrolment, enrol, inForce, type Outcome } from './enrol.ts'
import { MerbridgeError } from './errors.ts'
import { afterApply, enrolledPods, places } from './placed.ts'
import { RuleWatch } from './pods/rules.ts'
import { podTitle, type Snapshot } from './pods/static.ts'
import type { StrayWatch } from './pods/strays.ts'
import { PodWatch } from './pods/watch.ts'
import { meshTitle } from './select.ts'
import type { ReloadOutcome } from './views.ts'

export type { AgentConfig }

export interface Reload {
  readonly at: string
  readonly outcome: ReloadOutcome
  readonly reason?: string
}

const tidyEvery = 5 // ticks

/** Owns the datapath and the watches of the pods. */
export class Agent implements AsyncDisposable {
  readonly datapath: Datapath
  readonly #pods: PodWatch
  readonly #strays: StrayWatch
  /** Which pods have iptables rules of their own. */
  readonly rules: RuleWatch
  readonly steering: Steering
  readonly #log: Log
  #current: AgentConfig
  #signature = ''
  /** Of performance.now(): when plugins are asked again although nothing changed. */
  #again = Number.POSITIVE_INFINITY
  #outcomes: readonly Outcome[] = []
  #enrolment: Enrolment | undefined
  #lastReload: Reload
  readonly #reloads: Record<ReloadOutcome, number> = { applied: 0, unchanged: 0, refused: 0, 'last-good': 0 }
  #ticks = 0
  readonly #upkeep: Upkeep
  #trouble: string | undefined
  #turn: Promise<unknown> = Promise.resolve()

  constructor(datapath: Datapath, strays: StrayWatch, initial: AgentConfig, lastReload: Reload, log: Log) {
    this.datapath = datapath
    this.#strays = strays
    const earlier = [...datapath.have.nat_pods.values()].map(({ key }) => u64Codec.decode(key))
    this.rules = new RuleWatch(datapath.namespaces, earlier, log)
    this.#pods = new PodWatch(datapath.namespaces, () => this.#podsChanged(), log)
    this.steering = new Steering(datapath.acceleration, log)
    this.#current = initial
    this.#lastReload = lastReload
    this.#log = log
    this.#upkeep = new Upkeep(datapath, log)
  }

  get config(): AgentConfig {
    return this.#current
  }

  get lastReload(): Reload {
    return this.#lastReload
  }

  /** How many had which outcome since this process started; its start is the first. */
  get reloads(): Readonly<Record<ReloadOutcome, number>> {
    return this.#reloads
  }

  get outcomes(): readonly Outcome[] {
    return this.#outcomes.map((outcome) => {
      const { pod, netns } = outcome
      const compiled = netns === undefined ? undefined : this.#enrolment?.desired.pods.get(netns)
      const more = [this.#strays.warning(podTitle(pod)), this.rules.warning(netns, compiled?.proxyPorts ?? [])].filter((each) => each !== undefined)
      return more.length === 0 ? outcome : { ...outcome, warnings: [...outcome.warnings, ...more] }
    })
  }

  /** Pods all of whose processes are where the programs do not see them. */
  get unseen(): readonly string[] {
    return this.#strays.unseen
  }

  /** What the kernel was last told, for views. */
  get enrolment(): Enrolment | undefined {
    return this.#enrolment
  }

  /**
   * The first run; throws what makes the whole config unusable, and may then be called with another one. Not `strict`: a config that was accepted
   * before, so that a pod whose plugin fails now does not keep the agent from its work.
   */
  start(initial: AgentConfig, how: Reload, strict = true): Promise<void> {
    return this.#inTurn(async () => {
      this.#current = initial
      this.#lastReload = how
      const changed = await this.#reconcile(initial, strict)
      this.#count(!changed && how.outcome === 'applied' ? { ...how, outcome: 'unchanged' } : how)
    })
  }

  /** All or nothing: when this throws, the old config stays in force. */
  reload(next: AgentConfig): Promise<boolean> {
    return this.#inTurn(async () => {
      refuseRestartKeys(this.#current.config, next.config)
      this.#signature = '' // if this fails half-way, the next tick takes back what was written
      const changed = await this.#reconcile(next, true)
      this.#current = next
      this.#count({ at: new Date().toISOString(), outcome: changed ? 'applied' : 'unchanged' })
      return changed
    })
  }

  /** A config that was refused before it got here, or by reload(). */
  refused(error: MerbridgeError): void {
    // The hint, too: for a plugin that fails it has the pod.
    this.#count({ at: new Date().toISOString(), outcome: 'refused', reason: `${error.message}. ${error.hint}` })
  }

  #count(reload: Reload): void {
    this.#lastReload = reload
    this.#reloads[reload.outcome]++
  }

  /** The operator's switch for one pod was set: tells the kernel. */
  switched(): Promise<boolean> {
    this.#signature = ''
    return this.#inTurn(() => this.#reconcile(this.#current, false))
  }

  /** Datapaths of other versions; those that must wait go in the background. */
  removeOthers(bpffs: string): Promise<void> {
    return this.#inTurn(() => this.#upkeep.removeOthers(bpffs))
  }

  /** Looks at the pods; an error is logged, and the next tick tries again. */
  tick(tidy = ++this.#ticks % tidyEvery === 0): Promise<void> {
    return this.#inTurn(async () => {
      try {
        this.steering.lookAtMemory()
        if (tidy) await this.#tidy()
        await this.#reconcile(this.#current, false)
        this.#upkeep.look()
        this.#trouble = undefined
      } catch (error) {
        this.#signature = ''
        this.#trouble = error instanceof Error ? error.message : String(error)
        this.#log('error', 'the pods could not be brought up to date; trying again', describeError(error))
      }
    })
  }

  /** Why the last look at the pods did not come to its end; undefined: it did. */
  get trouble(): string | undefined {
    return this.#trouble
  }

  /** Ends after what has begun; nothing may be asked of it then. What is in the kernel stays. Twice is a no-op. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#pods[Symbol.dispose]()
    await this.#turn
    await this.#upkeep[Symbol.asyncDispose]()
    this.datapath[Symbol.dispose]()
  }

  async #podsChanged(): Promise<void> {
    if (this.#enrolment !== undefined) await this.tick(false) // before the first config is in force there is nothing to bring up to date
  }

  /** One after the other: a tick never sees half a reload. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  async #reconcile(wanted: AgentConfig, strict: boolean): Promise<boolean> {
    const snapshot = await this.#look(wanted.config.pods)
    const unchanged = wanted === this.#current && snapshot.signature === this.#signature
    if (unchanged && performance.now() < this.#again) return false
    const { capacities, have } = this.datapath
    const seesArrival = this.datapath.can(Ability.ARRIVAL)
    const { canHook: hooksLoopback } = this.datapath.loopbacks
    const present = inForce(have, this.#enrolment, (netns) => this.datapath.loopbacks.inPlace(netns))
    const acceleration = { most: wanted.config.acceleration.mode, halted: this.datapath.acceleration.halted() }
    const abilities = { seesArrival, hooksLoopback }
    const enrolment = enrol(wanted.meshes, snapshot.placements, { capacities, strict, ...abilities, inForce: present, acceleration })
    const applied = await apply(this.datapath, enrolment.desired, places(snapshot))
    for (const problem of applied.left ?? []) this.#log('warn', 'what the agent has added to the lo of a pod could not be taken away', { problem })
    const outcomes = enrolment.outcomes.map((outcome) => afterApply(outcome, applied.failed, this.datapath.unfound))
    this.#report(outcomes)
    this.#outcomes = outcomes
    await this.#strays.look(enrolledPods(outcomes, snapshot))
    this.#enrolment = enrolment
    this.#signature = applied.failed.size > 0 || applied.addedToLo ? '' : snapshot.signature // what is there now was not looked at yet
    this.#again = performance.now() + (enrolment.againMs ?? Number.POSITIVE_INFINITY)
    return this.steering.setBudget(wanted.config.acceleration.budget) || applied.changed
  }

  async #look(pods: Config['pods']): Promise<Snapshot> {
    const { placements, signature } = await this.#pods.look(pods)
    await this.rules.look(placements)
    return { placements: this.rules.marked(placements), signature: `${signature} ${this.rules.signature}` }
  }

  async #tidy(): Promise<void> {
    if (this.datapath.repair(this.#log)) this.#signature = ''
    const lost = await this.datapath.loopbacks.lookAgain()
    if (lost.length > 0) {
      this.#signature = ''
      this.#log('warn', 'the program at the lo of pods was not there any more; it is attached again', { pods: this.#titles(lost) })
    }
    const { handovers, pending, pods, askers, asker_counts } = this.datapath.maps
    await sweepAskers(askers, asker_counts, pods)
    await tidyPending(pending, pods)
    const swept = await sweepHandovers(handovers, pending)
    if (swept > 0) this.#log('warn', 'hand-overs were swept that no connection had fetched', { count: swept })
    await this.#strays.lookAgain()
    await this.#upkeep.tidy(this.#enrolment && this.#outcomes.flatMap(({ netns }) => netns ?? []))
  }

  #titles(netnses: readonly bigint[]): string[] {
    return this.#outcomes.flatMap(({ pod, netns }) => (netns !== undefined && netnses.includes(netns) ? [podTitle(pod)] : []))
  }

  /** Logs what became of each pod, once. */
  #report(outcomes: readonly Outcome[]): void {
    const before = new Map(this.#outcomes.map((outcome) => [podTitle(outcome.pod), outcome]))
    for (const outcome of outcomes) {
      const pod = podTitle(outcome.pod)
      const old = before.get(pod)
      before.delete(pod)
      const mesh = outcome.selection && meshTitle(outcome.selection.mesh)
      const same = old?.state === outcome.state && old.reason === outcome.reason && old.netns === outcome.netns
      if (!same || (old.selection && meshTitle(old.selection.mesh)) !== mesh) {
        const level = outcome.state === 'enrolled' ? 'info' : 'warn'
        const facts = { ...(mesh === undefined ? {} : { mesh }), ...(outcome.reason === undefined ? {} : { reason: outcome.reason }) }
        this.#log(level, `pod ${outcome.state}`, { pod, ...facts })
      }
      for (const warning of outcome.warnings) if (!old?.warnings.includes(warning)) this.#log('warn', warning, { pod })
    }
    for (const pod of before.keys()) this.#log('info', 'pod left', { pod })
  }
}

export function describeError(error: unknown): object {
  if (error instanceof MerbridgeError) return { code: error.code, reason: error.message, hint: error.hint }
  return { reason: error instanceof Error ? error.message : String(error) }
}
