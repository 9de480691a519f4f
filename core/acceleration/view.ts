/** What the agent tells the command line about acceleration. */
import type { Mode } from './api.ts'

export interface SentView {
  readonly messages: number
  readonly bytes: number
  /** That ended: at least one message of them was redirected, or none was. */
  readonly connections: number
}

/** Messages that went by TCP for one reason. */
export interface ReasonView extends SentView {
  /** "no partner" */
  readonly reason: string
  readonly sentence: string
}

/** Since the pods are enrolled; what a pod has sent. */
export interface TrafficView {
  /** That live now: joined, and those whose last message of at least one direction was redirected. */
  readonly connections: { readonly joined: number; readonly accelerating: number }
  readonly accelerated: SentView
  readonly tcp: SentView
  /** Why by TCP, the most frequent first; only what occurred. */
  readonly reasons: readonly ReasonView[]
}

export interface NodeAccelerationView extends TrafficView {
  /** Of the config: the most that a pod may have. */
  readonly mode: Mode
  /** Bytes that may wait for one receiver. */
  readonly budget: number
  readonly on: boolean
  /** Why not. */
  readonly off: readonly string[]
  /** This kernel can; else why not. */
  readonly kernel: { readonly can: boolean; readonly reason?: string }
  /** Titles of pods that `merbridge accelerate off POD` has switched off. */
  readonly halted: readonly string[]
}

export interface PodAccelerationView extends TrafficView {
  readonly mode: Mode
  /** Whose word the mode is. */
  readonly why: string
  readonly on: boolean
  readonly off: readonly string[]
}

/** GET /v1/acceleration */
export interface AccelerationView {
  /** Milliseconds of the node's monotonic clock. */
  readonly at: number
  readonly node: NodeAccelerationView
  readonly pods: readonly (PodAccelerationView & { readonly pod: string })[]
}

/** POST /v1/accelerate */
export interface AccelerateView {
  /** Absent: the whole node. */
  readonly pod?: string
  readonly switch: 'on' | 'off'
  /** The switch was not so before. */
  readonly changed: boolean
  /** Messages may be accelerated now. */
  readonly accelerating: boolean
  /** What else keeps it off: "acceleration.mode of the config is none". */
  readonly overrides: readonly string[]
}
