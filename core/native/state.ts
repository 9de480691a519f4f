/** What is in a network namespace. */
import type { NativeError } from './api.ts'

/** `count` ids from `inside` on are those from `outside` on in the agent's own user namespace. */
export interface IdMapping {
  readonly inside: number
  readonly outside: number
  readonly count: number
}

/** Which ids processes of a user namespace have, as the agent and the kernel's programs see them. */
export interface Users {
  readonly uid: readonly IdMapping[]
  readonly gid: readonly IdMapping[]
}

export interface Address {
  readonly family: 4 | 6
  /** Textual: "10.0.0.2", "fd00::2" */
  readonly address: string
  readonly prefix: number
  readonly index: number
  readonly interface: string
  /** rtnetlink scope: 0 universe, 253 link, 254 host */
  readonly scope: number
  readonly secondary: boolean
  /** IFA_F_* of IPv6: 0x01 temporary, 0x04 optimistic, 0x20 deprecated, 0x40 tentative; absent: none */
  readonly flags?: number
}

export interface Route {
  readonly family: 4 | 6
  /** Textual; "0.0.0.0" or "::" for a default route */
  readonly destination: string
  readonly prefix: number
  /** RT_TABLE_*: 255 local, 254 main, 253 default */
  readonly table: number
  /** RTN_*: 1 unicast, 2 local, 3 broadcast, 5 multicast, 6 blackhole, 7 unreachable, 8 prohibit, 9 throw */
  readonly type: number
  readonly metric: number
  /** Of IPv6 routes with equal metrics, what a router advertised: 1 high, -1 low; absent: medium */
  readonly preference?: number
  /** The route is only for packets from here, "fd00::/8" (IPv6) */
  readonly from?: string
  readonly source?: string
  readonly gateway?: string
  /** Interface index of the route, or of its first next hop. */
  readonly index?: number
}

/** A rule of policy routing (`ip rule`); those of a family are in the kernel's order. */
export interface Rule {
  readonly family: 4 | 6
  readonly priority: number
  /** FR_ACT_*: 1 table, 2 goto, 3 nop, 6 blackhole, 7 unreachable, 8 prohibit */
  readonly action: number
  /** 0: the action asks none */
  readonly table: number
  readonly inverted: boolean
  /** "10.0.0.0/8", "fd00::/8"; host bits may be set, and do not count. */
  readonly from?: string
  readonly to?: string
  readonly iif?: string
  /** What the bits of a socket's mark under `mask` must be. */
  readonly mark: number
  readonly mask: number
  /** Routes of this length and shorter ones do not count; -1: all count. */
  readonly suppress: number
  /** What else it looks at, in iproute2's words: "uidrange". */
  readonly others: readonly string[]
}

export interface Interface {
  readonly index: number
  readonly name: string
}

export interface NamespaceState {
  /** Never reused while the node is up. */
  readonly cookie: bigint
  readonly inode: number
  readonly interfaces: readonly Interface[]
  /** Of the user namespace that owns it; absent: the agent's own. An error: not known (yet), nothing that depends on ids can be said. */
  readonly users?: Users | NativeError
  readonly addresses: readonly Address[]
  readonly routes: readonly Route[]
  readonly rules: readonly Rule[]
}
