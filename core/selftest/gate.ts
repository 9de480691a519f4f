/**
 * Nothing is redirected before the verdict on this kernel is there. The agent starts without waiting for it, and interception does not depend on it. A
 * verdict that is kept counts at once if it is a good one. A bad one may be the moment's, not the kernel's: the agent tries again, a few times.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { AccelQuirk, AccelStop } from '../contract.ts'
import type { Acceleration } from '../datapath/acceleration.ts'
import type { Log } from '../datapath/datapath.ts'
import { sweepCgroups } from './place.ts'
import { knownVerdict, passed, runSelfTest, type SelfTest, saveVerdict, type Verdict } from './selftest.ts'

/** `selfTest` of `merbridge status --output json`. */
export interface SelfTestView {
  /** unneeded: acceleration is not available on this kernel, so there is nothing to test. */
  readonly state: 'running' | 'passed' | 'failed' | 'unneeded'
  /** When the verdict was found; an earlier agent may have done it. */
  readonly at?: string
  readonly ms?: number
  readonly failed: readonly { readonly name: string; readonly problems: readonly string[] }[]
  /** When it is tried again, after a failure. */
  readonly again?: string
}

/** What tests put others in the place of. */
export interface Trying {
  readonly known: typeof knownVerdict
  readonly run: typeof runSelfTest
  /** Milliseconds from one failure to the next attempt. */
  readonly pauses: readonly number[]
}

/** A busy minute while the node starts must not cost acceleration for good. */
const usual: Trying = { known: knownVerdict, run: runSelfTest, pauses: [30_000, 120_000, 600_000] }

type Switches = Pick<Acceleration, 'unavailable' | 'stop' | 'resume' | 'setCharged' | 'setQuirks'>

const message = (error: unknown) => (error instanceof Error ? error.message : String(error))

export class SelfTestGate {
  readonly #test: SelfTest
  readonly #stateDir: string
  readonly #acceleration: Switches
  readonly #log: Log
  readonly #trying: Trying
  #view: SelfTestView = { state: 'running', failed: [] }

  constructor(test: SelfTest, stateDir: string, acceleration: Switches, log: Log, trying = usual) {
    this.#trying = trying
    this.#test = test
    this.#stateDir = stateDir
    this.#acceleration = acceleration
    this.#log = log
    if (acceleration.unavailable === undefined) acceleration.stop(AccelStop.KERNEL)
    else this.#view = { state: 'unneeded', failed: [] }
  }

  get view(): SelfTestView {
    return this.#view
  }

  /** Never throws: without a verdict acceleration stays off, and `view` says why. */
  async settle(signal: AbortSignal): Promise<void> {
    sweepCgroups(this.#test.cgroup)
    if (this.#view.state === 'unneeded') return
    await this.#attempt(signal, 'error')
    for (const pause of this.#trying.pauses) {
      if (this.#view.state !== 'failed' || signal.aborted) return
      this.#view = { ...this.#view, again: new Date(Date.now() + pause).toISOString() }
      await sleep(pause, undefined, { signal }).catch(() => {})
      if (!signal.aborted) await this.#attempt(signal, 'debug') // it was said once
    }
  }

  async #attempt(signal: AbortSignal, level: 'error' | 'debug'): Promise<void> {
    try {
      const known = await this.#trying.known(this.#test, this.#stateDir)
      const verdict = known !== undefined && passed(known) ? known : await this.#find(signal)
      if (!signal.aborted) await this.#open(verdict, level)
    } catch (error) {
      if (signal.aborted) return
      this.#view = { state: 'failed', failed: [{ name: 'running the self-test', problems: [message(error)] }] }
      this.#log(level, 'the self-test of acceleration could not run; nothing is accelerated', { reason: message(error) })
    }
  }

  async #find(signal: AbortSignal): Promise<Verdict> {
    const verdict = await this.#trying.run(this.#test, signal)
    if (signal.aborted) return verdict
    await saveVerdict(this.#stateDir, verdict).catch((error: unknown) => {
      this.#log('warn', 'the verdict of the self-test could not be kept; the next start runs it again', {
        stateDir: this.#stateDir,
        reason: message(error),
      })
    })
    return verdict
  }

  async #open(verdict: Verdict, level: 'error' | 'debug'): Promise<void> {
    const { at, ms, checks, charged, quirks = AccelQuirk.FIONREAD } = verdict
    const failed = checks.filter(({ problems }) => problems.length > 0).map(({ name, problems }) => ({ name, problems }))
    if (passed(verdict)) {
      this.#acceleration.setQuirks(quirks)
      if (charged !== undefined) await this.#acceleration.setCharged(charged)
      this.#acceleration.resume(AccelStop.KERNEL)
      this.#view = { state: 'passed', at, ms, failed } // last: whoever reads it may count on acceleration
      this.#log('info', 'acceleration passed its self-test on this kernel', { ms })
      return
    }
    this.#view = { state: 'failed', at, ms, failed }
    this.#log(level, 'acceleration did not pass its self-test on this kernel: nothing is accelerated; interception is not touched by it', {
      failed: failed.map(({ name }) => name),
      hint: 'merbridge selftest',
    })
  }
}
