/** What `explain` prints; `--output json` prints exactly this. */
import type { Who } from './question.ts'

export interface Finding {
  /** "from sidecar (uid 1337, gid 1337)" */
  readonly condition: string
  /** "uid 1000, gid 1000" */
  readonly actual: string
}

export interface ExplainedRule {
  readonly direction: 'outbound' | 'inbound'
  readonly index: number
  readonly name: string
  readonly condition: string
  readonly then: string
}

export interface ExplainView {
  readonly pod: string
  readonly connection: {
    readonly who: Who
    readonly protocol: 'tcp' | 'udp'
    /** As it is decided: 'ipv4' for an IPv4-mapped address. */
    readonly family: 'ipv4' | 'ipv6'
    readonly to: string
    /** Absent: the socket is not bound. */
    readonly source?: string
    readonly uid?: number
    readonly gid?: number
    readonly mark?: number
  }
  /** What was not asked for and chosen here. */
  readonly assumed: readonly string[]
  /** false: no rule is asked about such connections. */
  readonly intercepted: boolean
  /** Hexadecimal id of the policy in the kernel. */
  readonly policy?: string
  /** The rule that decides; absent: none matches, which passes. */
  readonly rule?: ExplainedRule
  /** Why it matches. */
  readonly matched: readonly Finding[]
  /** The rules before it, and what of each does not hold. */
  readonly earlier: readonly (ExplainedRule & { readonly failed: readonly Finding[] })[]
  /** Everything that is true of the connection, as the rules call it. */
  readonly facts: readonly string[]
  readonly verdict: 'pass' | 'redirect' | 'refused'
  /** "goes to 127.0.0.1:15001, with source 10.0.0.2" */
  readonly result: string
  readonly to?: string
  readonly source?: string
  readonly errno?: string
  /** Name of the counter of refusals (`merbridge pods NAME`). */
  readonly reason?: string
  readonly notes: readonly string[]
}
