/** What the agent itself tells the kernel about acceleration while it runs: the budget, and the stop under memory pressure. */
import { AccelStop } from '../contract.ts'
import type { Log } from '../datapath/datapath.ts'
import type { AccelerationControl } from './api.ts'
import { type Pressure, PressureWatch } from './pressure.ts'

export class Steering {
  readonly control: AccelerationControl
  readonly #watch: PressureWatch
  readonly #log: Log
  #pressure: Pressure | undefined

  constructor(control: AccelerationControl, log: Log, watch = new PressureWatch((control.stopped() & AccelStop.PRESSURE) !== 0)) {
    this.control = control
    this.#watch = watch
    this.#log = log
  }

  /** The figure that keeps acceleration off. */
  get pressure(): string | undefined {
    return this.#pressure?.pressed ? this.#pressure.figure : undefined
  }

  /** true: it was another one. */
  setBudget(bytes: number): boolean {
    if (this.control.unavailable !== undefined || this.control.budget() === BigInt(bytes)) return false
    this.control.setBudget(BigInt(bytes))
    return true
  }

  /** To be called about once a second. */
  lookAtMemory(): void {
    if (this.control.unavailable !== undefined) return
    const now = this.#watch.look(performance.now())
    this.#pressure = now
    const off = (this.control.stopped() & AccelStop.PRESSURE) !== 0
    if (now.pressed && !off) {
      this.control.stop(AccelStop.PRESSURE)
      this.#log('warn', 'acceleration is off: the node is short of memory; it comes back by itself', { figure: now.figure })
    } else if (!now.pressed && off) {
      this.control.resume(AccelStop.PRESSURE)
      this.#log('info', 'acceleration is on again: memory has been calm', { figure: now.figure })
    }
  }
}
