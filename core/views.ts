/** What the agent tells the command line over its control socket; `--output json` prints exactly this. */

export type ReloadOutcome = 'applied' | 'unchanged' | 'refused' | 'last-good'

export interface StatusView {
  readonly agent: {
    readonly version: string
    readonly pid: number
    readonly startedAt: string
    readonly ready: boolean
    readonly notReady: readonly string[]
  }
  readonly config: {
    readonly path: string
    /** Grows by one whenever pods join, leave or get other policies; survives restarts. */
    readonly generation: number
    readonly lastReload: { readonly at: string; readonly outcome: ReloadOutcome; readonly reason?: string }
  }
  readonly kernel: {
    readonly release: string
    readonly features: readonly { readonly id: string; readonly name: string; readonly state: 'yes' | 'no' | 'fallback'; readonly detail: string }[]
  }
  /** Every program at our hooks in the order in which the kernel runs them, foreign ones too. */
  readonly attachments: readonly {
    readonly hook: string
    readonly at: string
    readonly programs: readonly { readonly id: number; readonly name: string; readonly ours: boolean }[]
  }[]
  readonly pods: { readonly listed: number; readonly enrolled: number; readonly waiting: number; readonly failed: number; readonly warnings: number }
  readonly maps: readonly { readonly name: string; readonly entries: number; readonly capacity: number }[]
  /** Why connections were refused, over all pods; only reasons that occurred. */
  readonly refusals: readonly { readonly reason: string; readonly count: number }[]
}

export type PodState = 'enrolled' | 'waiting' | 'failed' | 'cannot'

export interface RuleView {
  readonly direction: 'outbound' | 'inbound'
  readonly index: number
  readonly name: string
  /** "proto tcp, from proxy, to pod, not to loopback" */
  readonly condition: string
  /** "pass", "drop", "outbound (127.0.0.1:15001)" */
  readonly then: string
  readonly hits: number
}

export interface PodView {
  readonly name: string
  readonly namespace: string
  readonly mesh: string
  readonly netns: string
  readonly state: PodState
  /** Why it is not enrolled. */
  readonly reason?: string
  readonly addresses: readonly string[]
  /** Hexadecimal id of its policy. */
  readonly policy?: string
  readonly warnings: readonly string[]
  /** The pod's namespace has NAT rules of its own as well. */
  readonly iptables: boolean
  readonly listeners: readonly string[]
  readonly rules: readonly RuleView[]
  readonly refusals: readonly { readonly reason: string; readonly count: number }[]
}

export interface DetachView {
  readonly removed: readonly string[]
  /** Pods that no longer pass through their proxy (--bypass), or whose connections are refused (--block). */
  readonly bypassed: readonly string[]
  readonly blocked: readonly string[]
}
