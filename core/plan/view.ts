/** What `plan` prints; `--output json` prints exactly this. */
import type { PodState } from '../views.ts'

export type PodChange = 'joins' | 'leaves' | 'new rules' | 'new routes' | 'unchanged' | 'stays out'

export interface RulesChange {
  /** "outbound rule 3 'included port': port included outbound ports (80) -> outbound (127.0.0.1:15001)" */
  readonly added: readonly string[]
  readonly removed: readonly string[]
  readonly changed: readonly { readonly before: string; readonly after: string }[]
  /** Rules that stay have another order among each other. */
  readonly reordered: boolean
  /** false: the policy in the kernel is of a config or a version that is not known here; then its rules have no names. */
  readonly known: boolean
}

export interface PlannedPod {
  readonly name: string
  readonly change: PodChange
  /** What it would be afterwards; absent: it is not listed. */
  readonly state?: PodState
  readonly reason?: string
  readonly warnings: readonly string[]
  /** Hexadecimal ids of its policy now and afterwards. */
  readonly policyBefore?: string
  readonly policyAfter?: string
  /** "lo gets ::6" */
  readonly loopback?: readonly string[]
}

export interface PlannedRules {
  readonly pods: readonly string[]
  readonly policyBefore?: string
  readonly policyAfter?: string
  readonly rules: RulesChange
}

export interface PlannedEntry {
  readonly map: string
  readonly change: 'add' | 'change' | 'remove'
  /** "policy 00ff: port 80: excluded outbound ports" */
  readonly entry: string
  /** Of an entry that changes: what it is now. */
  readonly before?: string
  /** A policy's rules. */
  readonly details?: readonly string[]
}

export interface PlannedMap {
  readonly map: string
  readonly added: number
  readonly changed: number
  readonly removed: number
  /** Entries afterwards. */
  readonly entries: number
  readonly capacity: number
}

export interface PlanView {
  readonly file: string
  readonly bpffs: string
  /** Something would be written or removed. */
  readonly changes: boolean
  readonly datapath: { readonly inPlace: boolean; readonly generation?: number }
  readonly agentRuns: boolean
  /** Keys that a running agent does not change: it would refuse the config until it is restarted. */
  readonly needsRestart: readonly string[]
  readonly notes: readonly string[]
  readonly pods: readonly PlannedPod[]
  readonly rules: readonly PlannedRules[]
  readonly maps: readonly PlannedMap[]
  readonly entries: readonly PlannedEntry[]
}
