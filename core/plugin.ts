/**
 * What a plugin sees and returns. A plugin is one pure function of (pod, options); it knows nothing of BPF, maps or files.
 */
import type { z as Zod } from 'zod'

export interface Container {
  readonly name: string
  readonly image?: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** securityContext.runAsUser and runAsGroup; absent: not set */
  readonly uid?: number
  readonly gid?: number
  readonly ports: readonly { readonly name?: string; readonly port: number; readonly protocol: 'tcp' | 'udp' }[]
}

/** Reads an annotation's value; throws an Error whose message says what was expected. */
export type Parser<T> = (text: string) => T

export interface Pod {
  readonly name: string
  readonly namespace: {
    readonly name: string
    readonly labels: Readonly<Record<string, string>>
    readonly annotations: Readonly<Record<string, string>>
  }
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly containers: readonly Container[]
  /**
   * Textual addresses of the pod without loopback and link-local ones, in the order in which they were seen first. One that the pod has lost since stays in
   * the list while the agent runs: what a mesh decides by them, it decides when the pod starts.
   */
  readonly addresses: readonly string[]
  /** Textual addresses of the name servers that the pod asks (its /etc/resolv.conf), where they are known; absent: they are not. */
  readonly nameservers?: readonly string[]
  /** The annotation's value as `parse` reads it; absent: the fallback; a bad value: a warning on the pod and the fallback. */
  read<T>(annotation: string, parse: Parser<T>, fallback: T): T
  /**
   * The same for any other text of the pod, such as an argument or a variable of a container, or an annotation of its namespace; `title` names it in the
   * warning: "the argument --port is ignored: ...".
   */
  parse<T>(title: string, text: string | undefined, parse: Parser<T>, fallback: T): T
  /** Adds a warning that `status` and `pods` show. */
  warn(message: string): void
}

/** 8080, '8080', '15090-15099' or '*'. */
export type PortSpec = number | string
/** 1337, '1337' or '1000-1999'; ids as the mesh's rules have them. */
export type IdSpec = number | string

/**
 * A named set. Members of different kinds are alternatives: a connection is in the set when any member matches. Which keys may be used where:
 * `port:` wants ports; `to:` wants cidrs or, of an outbound rule, interfaces; `from:` wants cidrs (source addresses) and, of an outbound rule, uid, gid,
 * mark or cgroup, of an inbound rule interfaces.
 */
export interface SetSpec {
  readonly ports?: readonly PortSpec[]
  /** '10.0.0.0/8', 'fd00::/8', a bare address, or '*' for everything of both families */
  readonly cidrs?: readonly string[]
  readonly uid?: readonly IdSpec[]
  readonly gid?: readonly IdSpec[]
  readonly mark?: readonly { readonly value: number; readonly mask: number }[]
  /** Ids of cgroups (inode number of the directory in cgroup v2); descendants are not included. */
  readonly cgroup?: readonly bigint[]
  /**
   * Names of network interfaces of the pod. In `to:` of an outbound rule: the route to the destination leaves by one of them ('lo' for the pod's own
   * addresses); in `from:` of an inbound rule: the connection came in by one of them. A name that the pod does not have matches nothing; one that ends
   * in '+' stands for every name that begins so, as in iptables.
   */
  readonly interfaces?: readonly string[]
}

export interface Match {
  readonly proto?: 'tcp' | 'udp'
  readonly family?: 'ipv4' | 'ipv6'
  /** destination port is in the set, or in each of the sets */
  readonly port?: string | readonly string[]
  /** 'pod': local to the pod (`-o lo`); 'loopback': exactly 127.0.0.1 or ::1; or a set of cidrs */
  readonly to?: string | readonly string[]
  /** 'passthrough': bound to 127.0.0.6 or ::6; 'loopback': bound to another loopback address; or a set */
  readonly from?: string | readonly string[]
}

export interface Rule {
  /** Appears in `pods`, `explain`, counters and the parity table. */
  readonly name: string
  /** All of these hold. */
  readonly when?: Match
  /** None of these holds. */
  readonly unless?: Match
  /** 'pass', 'drop' or the name of a target */
  readonly then: string
}

export interface TargetSpec {
  /** Absent: the port that was asked for is kept. */
  readonly port?: number
  /** Default 127.0.0.1; false: connections of this family are refused. */
  readonly ipv4?: string | false
  /** Default ::1 */
  readonly ipv6?: string | false
}

export interface Interception {
  readonly sets?: Readonly<Record<string, SetSpec>>
  readonly targets?: Readonly<Record<string, TargetSpec>>
  /**
   * TCP connections that the pod makes, and its datagrams over UDP: each `connect`, and each datagram that is sent with an address. First match wins; no
   * match passes.
   */
  readonly outbound: readonly Rule[]
  /** TCP connections that reach the pod from outside. A target's port says which listener of the pod takes them. */
  readonly inbound: readonly Rule[]
  /** Who the mesh's proxy is; `explain POD from-proxy` assumes a connection of these ids and this mark. It decides nothing. */
  readonly proxy?: { readonly uid?: number; readonly gid?: number; readonly mark?: number }
  /**
   * Addresses of IPv6 that the pod's lo has while the pod is enrolled, such as '::6', from which a proxy hands connections over to the app. At most 4, all
   * in ::/96, which is nobody's: not '::' and not '::1'.
   */
  readonly loopbackAddresses?: readonly string[]
}

/**
 * This pod cannot be intercepted at the socket, or its mesh intercepts nothing in it. A pod that is not enrolled stays so and is named; one that is keeps the rules
 * that it has, with a warning, until it starts again: without them its connections would bypass the mesh, because of a change that the mesh reads only then.
 */
export interface Cannot {
  readonly cannot: string
}

/**
 * The mesh itself refuses what this pod asks for (an annotation that it would not start the pod with). A pod that is not enrolled stays so and is named; one that
 * is keeps the rules that it has, because meshes read their annotations when a pod starts.
 */
export interface Refused {
  readonly refused: string
}

export interface Plugin<Options = unknown> {
  /** Version of this interface. */
  readonly api: 1
  readonly name: string
  readonly options: Zod.ZodType<Options>
  /**
   * Does this pod belong to the mesh? Asked for pods that were discovered, not for those that the config lists by name. `options`: as describe gets them;
   * absent: nobody set any.
   */
  readonly selects: (pod: Pod, options?: Options) => boolean
  readonly describe: (pod: Pod, options: Options) => Interception | Cannot | Refused
}

export interface Kit {
  readonly definePlugin: <Options>(plugin: Plugin<Options>) => Plugin<Options>
  readonly z: typeof Zod
  readonly cannot: (reason: string) => Cannot
  readonly refused: (reason: string) => Refused
  /** Parsers for annotations. Lists are split at commas, empty elements dropped, elements trimmed. */
  readonly ports: Parser<PortSpec[]>
  readonly cidrs: Parser<string[]>
  readonly ids: Parser<IdSpec[]>
  readonly boolean: Parser<boolean>
  /** Plain data of one document of YAML (or JSON) with at most 16 kB and 64 levels, without aliases and tags; an Error with the name LimitError where there is more. */
  readonly yaml: Parser<unknown>
  /** Schemas for lists among a plugin's options; an element is what the parser of the same kind reads, with the same message when it is not. */
  readonly portList: Zod.ZodArray<Zod.ZodType<PortSpec>>
  readonly cidrList: Zod.ZodArray<Zod.ZodType<string>>
  readonly idList: Zod.ZodArray<Zod.ZodType<IdSpec>>
}

/** A plugin whatever its options are: what `options` parsed is what `describe` gets. */
export type AnyPlugin = Omit<Plugin, 'describe' | 'selects'> & {
  /** Where it was loaded from; absent: built in. */
  readonly file?: string
  readonly selects: (pod: Pod, options?: never) => boolean
  readonly describe: (pod: Pod, options: never) => Interception | Cannot | Refused
}

/** What a plugin's file exports as default. */
export type PluginModule = (kit: Kit) => AnyPlugin

/** How the config names a plugin: a built-in mesh, the absolute path of a file, or a package that is installed in a plugin directory. */
export type MeshReference = string | { readonly path: string } | { readonly package: string }
