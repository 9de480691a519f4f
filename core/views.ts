/** What the agent tells the command line over its control socket; `--output json` prints exactly this. */
import type { NodeAccelerationView, PodAccelerationView } from './acceleration/view.ts'
import type { SelfTestView } from './selftest/gate.ts'

/** Protocol and family of a connection, or of a datagram that was decided; an IPv4-mapped address counts as IPv4. */
export const kinds = ['tcp4', 'tcp6', 'udp4', 'udp6'] as const
export type Kind = (typeof kinds)[number]

/** Kinds that did not occur are absent. */
export type Tally = Readonly<Partial<Record<Kind, number>>>

export interface RefusalView {
  readonly reason: string
  readonly count: number
  /** Less than `count` where it is about no connection: "slots full", "listener". */
  readonly by: Tally
}

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
    /** Since this agent started; its start is the first. */
    readonly reloads: { readonly applied: number; readonly unchanged: number; readonly refused: number }
    /** In the order in which they take pods. */
    readonly meshes: readonly { readonly entry: string; readonly mesh: string; readonly pods: number }[]
    /** "line 12: meshes[1].match matches no pod: this config lists 3, and none has such labels" */
    readonly warnings: readonly string[]
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
  readonly pods: {
    readonly listed: number
    readonly enrolled: number
    readonly waiting: number
    readonly failed: number
    readonly warnings: number
    /** Titles of the pods that have NAT rules of their own as well: "default/web". */
    readonly iptables: readonly string[]
  }
  readonly acceleration: NodeAccelerationView
  /** Whether acceleration may work on this kernel; absent: the agent has just begun. */
  readonly selfTest?: SelfTestView
  readonly maps: readonly { readonly name: string; readonly entries: number; readonly capacity: number }[]
  /** How often the rules of all pods were asked, since the pods have their present policies. */
  readonly decisions: { readonly outbound: Tally; readonly inbound: Tally }
  /** Why connections were refused, over all pods; only reasons that occurred. */
  readonly refusals: readonly RefusalView[]
}

export type PodState = 'enrolled' | 'waiting' | 'failed' | 'cannot'

export interface RuleView {
  readonly direction: 'outbound' | 'inbound'
  readonly index: number
  readonly name: string
  /** "proto tcp, from proxy, to pod, not to loopback" */
  readonly condition: string
  /** "pass", "drop", "outbound (127.0.0.1:15001 or [::1]:15001)", "inbound (port 15006)" */
  readonly then: string
  readonly hits: number
  readonly by: Tally
}

/** Why a pod belongs to its mesh. */
export interface SelectionView {
  /** Where the config has the mesh: "mesh", "meshes[0]" */
  readonly entry: string
  /** only: the config has one mesh and no match; match: the entry's match matches the pod; selects: the plugin says that the pod is its mesh's */
  readonly why: 'only' | 'match' | 'selects'
  /** Later entries that would have taken the pod as well, "meshes[1] (istio)" */
  readonly also: readonly string[]
}

export interface PodView {
  readonly name: string
  readonly namespace: string
  /** Empty: no entry of the config's meshes takes the pod. */
  readonly mesh: string
  readonly selection?: SelectionView
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
  /** What is at its lo for its rules: "program mb_lo (link)", "::6, added", "local route fd6d:6572:6272:6964::/96, was there" */
  readonly loopback: readonly string[]
  readonly rules: readonly RuleView[]
  readonly refusals: readonly RefusalView[]
  readonly acceleration: PodAccelerationView
}

/** pass and redirect: what a rule (or none) said was done. drop: a rule refused it. refused: something else did, `reason` says what. */
export type EventVerdict = 'pass' | 'redirect' | 'drop' | 'refused'

export interface EndpointView {
  readonly address: string
  /** Absent: the kernel had not chosen it yet. */
  readonly port?: number
}

/** One decision about one connection, or about one datagram that was sent to an address, as `merbridge monitor --output json` prints it. */
export interface EventView {
  readonly time: string
  /** "default/web" */
  readonly pod: string
  readonly direction: 'outbound' | 'inbound'
  /** Absent: it was refused before its rules were asked, and the kernel did not say. */
  readonly protocol?: 'tcp' | 'udp'
  /** As it was decided: an IPv4-mapped address is 'ipv4', and shown as IPv4. */
  readonly family: 'ipv4' | 'ipv6'
  readonly source: EndpointView
  /** What was asked for. */
  readonly destination: EndpointView
  readonly verdict: EventVerdict
  /** null: none matched. Absent: the rules were not asked. The name is absent while a reload has just replaced the rules. */
  readonly rule?: { readonly index: number; readonly name?: string } | null
  /** Where a redirected connection went; without an address: to the pod's listener on that port. */
  readonly target?: { readonly address?: string; readonly port: number }
  readonly reason?: string
  /** What the caller got. */
  readonly error?: string
  /** What the rules were asked: "tcp", "to pod", "from proxy", "port skipped". */
  readonly facts: readonly string[]
  /** Outbound: the process that connects, by its id on the node. */
  readonly process?: { readonly pid: number; readonly command: string }
  /** Outbound: the owner of the socket, as the rules were asked with; ids of the node. Absent where no rule of the pod asks for it. */
  readonly owner?: { readonly uid: number; readonly gid: number }
}

/** So many events are missing at this place, whoever they were of. */
export interface LostView {
  readonly lost: number
}

export interface DetachView {
  readonly removed: readonly string[]
  /** Pods that no longer pass through their proxy (--bypass), or whose connections are refused (--block). */
  readonly bypassed: readonly string[]
  readonly blocked: readonly string[]
  /** What could not be taken away from the lo of pods, and why. */
  readonly left: readonly string[]
  /** Sockets whose programs do not read what waits for them on the fast path: what they need is still there. */
  readonly waiting: readonly WaitingView[]
}

export interface WaitingView {
  /** A pod, or what leads to its network namespace. */
  readonly pod: string
  readonly sockets: number
}
