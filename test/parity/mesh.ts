/**
 * What the differential suite must know of a mesh: its pods, its own iptables rules for them, and what is worth trying with them. One directory of
 * test/meshes/ for each mesh has this; the suite itself knows none. Nothing here may be taken from plugins/: it is a second reading of the mesh.
 */
import type fc from 'fast-check'
import type { StaticPod } from '../lab/agent.ts'
import type { RuleFiles } from '../lab/restore.ts'
import type { DatagramChoice } from './datagrams.ts'
import type { Case, Identity } from './probe.ts'
import type { Kind, Mode } from './shape.ts'
import type { FirstPacket } from './tables.ts'

/** A pod and the options of the mesh's plugin, as the agent's configuration has them; the suite gives the pod its name and its network namespace. */
export interface MeshSet {
  readonly pod: Omit<StaticPod, 'name' | 'netns'>
  readonly options: Readonly<Record<string, unknown>>
}

/** What a reading of the mesh knows of the pod besides: its addresses without loopback and link-local ones, in their order. */
export interface Facts extends MeshSet {
  readonly addresses: readonly string[]
}

export type Reading<Rules> =
  /** `warned`: annotations, options or variables that the mesh ignores or cuts short: the pod has exactly one warning that names each. */
  | { readonly rules: Rules; readonly warned?: readonly string[] }
  /** The mesh does not start this pod: it is not enrolled, and its reason or a warning names what is at fault (an annotation's name without its prefix is enough). */
  | { readonly refused: string }
  /** The mesh would, but with rules that no socket can follow: the same, said in the same way. */
  | { readonly unsupported: string }

/** Somebody who connects. `mark`: SO_MARK of the socket */
export interface Who {
  readonly name: string
  readonly as: Identity
  readonly creator?: Identity
  readonly mark?: number
}

/** What rules speak of: the suite tries it, and its neighbours. */
export interface Interest {
  /** Users, groups and marks that the rules name, and some next to them; app, root and the proxy come by themselves. */
  readonly who: readonly Who[]
  /** Destinations of outbound rules: networks of both families */
  readonly networks: readonly string[]
  /** Sources of inbound rules: networks of both families */
  readonly sources: readonly string[]
  readonly outboundPorts: readonly number[]
  readonly inboundPorts: readonly number[]
  /** Where queries go: addresses of both families; empty: the usual ones of the test's network are tried */
  readonly nameservers: readonly string[]
  /** What outbound rules name of the two, where more is tried. */
  readonly ruled?: { readonly networks?: readonly string[]; readonly outboundPorts?: readonly number[] }
  /** There are rules for IPv6. */
  readonly ipv6: boolean
  /** Queries may be sent over UDP: no rule takes them, or its answers find their way back under iptables. */
  readonly udp: boolean
}

/** The proxy of the mesh, as the suite's listeners and clients play it. */
export interface Layout {
  readonly proxy: Identity
  /** SO_MARK of the proxy's sockets, where the mesh tells it by that. */
  readonly mark?: number
  /** Where it takes outbound and inbound connections by default; cases and rows of docs/parity.md say 15001 and 15006 for them. */
  readonly outboundPort: number
  readonly inboundPort: number
  /** Further ports that it listens on in the same way, for sets that move the two. */
  readonly moreProxyPorts?: readonly number[]
  /** Its DNS server: UDP and TCP on 127.0.0.1 and ::1, or on `address`. Cases and rows say 15053 for the port. */
  readonly dns?: { readonly port: number; readonly address?: string }
  /** Ports of its own that no rule leads to (admin, tunnel, metrics): on every address, named `proxy:PORT` */
  readonly ownPorts: readonly number[]
}

/** One fixed set-up of the suite: a pod of a kind, and how its proxy listens. */
export interface MeshSetup extends MeshSet {
  /**
   * Begins the names of its cases: "dual pod, DNS"; the mesh's own name before it counts as absent. Rows of docs/parity.md for all meshes look at the end:
   * "loopback proxy" where the proxy listens there alone, "no DNS proxy" where it has none.
   */
  readonly name: string
  readonly kind: Kind
  readonly mode: Mode
  /** TCP: every destination, and by every way (`thorough`); or those that `some` matches. */
  readonly tcp: 'plain' | 'thorough' | RegExp
  readonly udp?: DatagramChoice
  /** Sockets of IPv4 in a pod of IPv4 (other pods have few of these: they use mapped addresses): another test does that already. */
  readonly ipv4?: 'elsewhere'
  /** Cases that only this set-up has. */
  readonly more?: readonly Case[]
}

/** What the mesh's rules were measured to do elsewhere: of a case (with its set-up's name) a field. A probe that is wrong in both columns does not pass these. */
export type Measured = readonly [connection: string, field: string, value: string]

export interface MeshUnderTest<Rules = unknown> {
  /** Of the plugin, and of its directory in test/meshes/ */
  readonly name: string
  readonly layout: Layout
  /** Random pods: usual, odd and now and then wrong. Families are the suite's: it gives each set to pods of every kind. */
  readonly sets: fc.Arbitrary<MeshSet>
  readonly setups: readonly MeshSetup[]
  /** Rows of the column of iptables; the suite wants some. */
  readonly measured?: readonly Measured[]
  read(facts: Facts): Reading<Rules>
  /** The iptables rules that the mesh writes. */
  tables(rules: Rules): RuleFiles
  /** The same as pseudo code: 'pass', the port of the proxy (at 127.0.0.1 or ::1), or ADDRESS:PORT of another target. The judge where no kernel is asked. */
  output(rules: Rules, packet: FirstPacket): string
  prerouting(rules: Rules, packet: FirstPacket): string
  interest(rules: Rules): Interest
  /** Where these rules lead to. */
  ports(rules: Rules): { readonly outbound: number; readonly inbound: number }
}
