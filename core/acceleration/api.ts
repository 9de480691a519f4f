/** What control, views and the watch of memory pressure need of acceleration; core/datapath/acceleration.ts is it. */
import type { AccelPlace, AccelReason } from '../contract.ts'

/** From the least to the most. */
export const accelModes = ['none', 'proxies', 'auto', 'all'] as const
export type Mode = (typeof accelModes)[number]

/** What became of the messages that a pod sent. */
export interface AccelCount {
  /** Cookie of the sender's network namespace. */
  readonly netns: bigint
  readonly reason: AccelReason
  readonly messages: bigint
  readonly bytes: bigint
  /** That ended. */
  readonly connections: bigint
}

/** A live connection of which at least one end is joined, with the ends that are known. */
export interface AccelPair {
  readonly ends: readonly AccelEnd[]
}

export interface AccelEnd {
  readonly netns: bigint
  readonly place: AccelPlace
  /** It has redirected a message, and its last one was redirected. */
  readonly redirecting: boolean
  /** What became of its last message. */
  readonly reason: AccelReason
}

export interface AccelerationControl {
  /** Why this kernel cannot, in words; then nothing is loaded and nothing is accelerated, but switches are kept all the same. */
  readonly unavailable: string | undefined
  /** enum accel_stop, or-ed, as the kernel has it now. */
  stopped(): number
  /** At once, for the next message of every connection. */
  stop(bits: number): void
  resume(bits: number): void
  /** Bytes. */
  budget(): bigint
  setBudget(bytes: bigint): void
  /** Network namespaces that an operator has switched off, by cookie; they are kept in the kernel, over restarts of the agent. */
  halted(): ReadonlySet<bigint>
  setHalted(netns: bigint, halted: boolean): void
  /** Summed over CPUs. */
  counts(): Promise<AccelCount[]>
  pairs(): Promise<AccelPair[]>
}
