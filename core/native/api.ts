/**
 * What the native addon offers. The addon is thin: it knows file descriptors, bytes and errno, and nothing of our structs.
 *
 * Every failure is a `NativeError`: `operation` (what was tried, with the path or name), `errno` (positive), `code` ("ENOENT"), and, for
 * loading, `log` (the verifier's). Methods that may take long (loading, dumping whole maps, everything that enters a namespace) return promises
 * and run on native threads; the others are single system calls.
 *
 * A handle owns one descriptor (opened with O_CLOEXEC). `close()` twice is a no-op; using a closed handle throws EBADF.
 */
import type { Loopback } from './loopback.ts'
import type { NamespaceState } from './state.ts'

export type { Filter, Loopback, NamespacePlace } from './loopback.ts'
export type * from './state.ts'

export interface Handle extends Disposable {
  readonly fd: number
  readonly closed: boolean
  close(): void
}

export interface MapInfo {
  readonly id: number
  readonly name: string
  /** enum bpf_map_type */
  readonly type: number
  readonly keySize: number
  readonly valueSize: number
  readonly maxEntries: number
  readonly flags: number
}

export interface Entry {
  readonly key: Buffer
  /** For a per-CPU map: one value per possible CPU, each padded to 8 bytes. */
  readonly value: Buffer
}

export interface BpfMap extends Handle {
  readonly info: MapInfo
  lookup(key: Uint8Array): Buffer | undefined
  /** flags: 0 any, 1 BPF_NOEXIST, 2 BPF_EXIST */
  update(key: Uint8Array, value: Uint8Array, flags?: number): void
  /** false: there was no such key */
  delete(key: Uint8Array): boolean
  /** Asks for the first key alone. */
  isEmpty(): boolean
  /** Every entry, with a batch call where the map type has one, else key by key. Sockhash values that cannot be read come back empty. */
  entries(): Promise<Entry[]>
  /** In the order given; uses the batch call where the map type has one. On failure `NativeError.done` says how many were written. */
  updateBatch(entries: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[]): Promise<void>
  /** Keys that are not there are skipped. Returns how many were deleted. */
  deleteBatch(keys: readonly Uint8Array[]): Promise<number>
  freeze(): void
  pin(path: string): void
}

export interface ProgramInfo {
  readonly id: number
  readonly name: string
  readonly type: number
  readonly tag: string
  readonly mapIds: readonly number[]
}

export interface BpfProgram extends Handle {
  readonly info: ProgramInfo
  pin(path: string): void
}

export interface LinkInfo {
  readonly id: number
  /** enum bpf_link_type */
  readonly type: number
  readonly programId: number
  /** cgroup links: the cgroup's id */
  readonly cgroupId?: bigint
  /** enum bpf_attach_type, for cgroup and netns links */
  readonly attachType?: number
  /** netns links: the namespace's inode; 0 when the namespace is gone */
  readonly netnsInode?: number
  /** TCX links; 0 when the interface is gone, or somebody has detached the link */
  readonly ifindex?: number
}

export interface BpfLink extends Handle {
  readonly info: LinkInfo
  /** Replaces the program; no event goes without one or the other. */
  update(program: BpfProgram): void
  pin(path: string): void
  /** BPF_LINK_DETACH: takes effect now, whoever else holds the link. */
  detach(): void
}

export interface OpenOptions {
  /** Programs that must not be loaded. */
  readonly skip?: readonly string[]
  /** Use these maps, already in the kernel, instead of creating new ones. A map of another shape is an error that names the field. */
  readonly reuse?: Readonly<Record<string, BpfMap>>
  /** Creates no other maps: each is a descriptor. For programs that need no others. */
  readonly onlyReused?: boolean
  /** Overrides of max_entries for maps that are created. */
  readonly maxEntries?: Readonly<Record<string, number>>
  /** Initial bytes of .rodata sections, by map name (".rodata", ".rodata.pod"). */
  readonly rodata?: Readonly<Record<string, Uint8Array>>
  /** A file with this kernel's BTF, for one that has none at /sys/kernel/btf/vmlinux. */
  readonly btf?: string
}

/** A loaded object file. Closing it does not remove what was pinned or attached. */
export interface BpfObject extends Disposable {
  readonly programs: readonly string[]
  readonly maps: readonly string[]
  /** A handle with a descriptor of its own. */
  map(name: string): BpfMap
  program(name: string): BpfProgram
  /**
   * Another copy of a loaded program whose .rodata section `section` has these bytes instead. No parsing, no relocation: the instructions of
   * the loaded program with one descriptor patched (0.2 ms).
   */
  clone(program: string, section: string, rodata: Uint8Array): BpfProgram
  close(): void
}

export interface Listener {
  readonly family: 4 | 6
  readonly address: string
  readonly port: number
  readonly uid: number
  readonly inode: number
  /** SO_COOKIE: never used again while the node is up, unlike the inode. */
  readonly cookie: bigint
  /** Of IPv6, and takes no IPv4-mapped connections. */
  readonly ipv6Only: boolean
  /** Inode of its network namespace. */
  readonly namespace: number
}

/** Where a process has a socket open. */
export interface OpenSocket {
  readonly pid: number
  readonly descriptor: number
  /** SO_COOKIE of the socket that is meant; numbers of processes and descriptors are used again. */
  readonly cookie: bigint
}

export interface Namespaces {
  /**
   * The inode of the namespace behind each path, in order; undefined: there is none. Much cheaper than inspect(). The number tells namespaces
   * apart while they exist; the kernel uses it again for a later one.
   */
  inodes(paths: readonly string[]): Promise<(number | undefined)[]>
  /**
   * One result per path, in order; a path that cannot be read gives its error and does not disturb the others. The kernel tells a namespace's cookie
   * since Linux 5.14 (SO_NETNS_COOKIE). `cookies` is the other way: a map of socket cookie -> netns cookie (both __u64) that a program fills when a
   * UDP socket is created by a thread with the name COOKIE_THREAD.
   */
  inspect(paths: readonly string[], cookies?: BpfMap): Promise<(NamespaceState | NativeError)[]>
  /** TCP listeners of a namespace (sock_diag). */
  listeners(path: string): Promise<Listener[]>
  /**
   * true when a nat table of the namespace (nftables, iptables-nft or legacy) redirects something: a hooked chain has a rule, and some rule of
   * the table is a REDIRECT or DNAT. Which traffic it takes is not looked at.
   */
  hasNatRules(path: string): Promise<boolean>
  /** Where such rules redirect to: ports in ascending order, without those of rules that keep the port. undefined: hasNatRules is false. */
  natPorts(path: string): Promise<number[] | undefined>
  /** Reads an iterator to its end inside a namespace; returns what it printed. */
  iterate(path: string, iterator: BpfLink): Promise<string>
  /**
   * Calls back on the event loop after links, addresses, routes or rules of a namespace have changed, once for a burst; what has changed is for inspect()
   * to tell. Nothing that happens after the promise is settled is missed; nothing is called after close(). The watch does not keep the process
   * alive, but its socket keeps the namespace alive, which the kernel does not free before close(). Keep the handle: a forgotten one is closed.
   */
  watch(path: string, onChange: () => void): Promise<Handle>
}

export interface BtfMember {
  readonly name: string
  readonly type: number
  /** bits */
  readonly offset: number
}

export interface BtfType {
  readonly id: number
  /** "int" | "ptr" | "array" | "struct" | "union" | "enum" | "typedef" | ... */
  readonly kind: string
  readonly name: string
  /** bytes, for int, struct, union, enum */
  readonly size?: number
  readonly signed?: boolean
  /** the type behind a pointer, typedef, array or modifier */
  readonly type?: number
  /** array */
  readonly length?: number
  readonly members?: readonly BtfMember[]
  readonly values?: readonly { readonly name: string; readonly value: bigint }[]
}

export interface NativeError extends Error {
  readonly name: 'NativeError'
  readonly operation: string
  readonly errno: number
  readonly code: string
  readonly log?: string
  readonly done?: number
}

export interface Native {
  /** libbpf's version, "1.1.2" */
  readonly libbpf: string
  readonly possibleCpus: number
  load(path: string, options?: OpenOptions): Promise<BpfObject>
  pinnedMap(path: string): BpfMap
  pinnedProgram(path: string): BpfProgram
  pinnedLink(path: string): BpfLink
  createMap(options: {
    readonly name: string
    readonly type: number
    readonly keySize: number
    readonly valueSize: number
    readonly maxEntries: number
    readonly flags?: number
  }): BpfMap
  /** attachType: enum bpf_attach_type; `cgroup`: a directory of cgroup v2 */
  attachCgroup(program: BpfProgram, cgroup: string, attachType: number): BpfLink
  /** BPF_SK_LOOKUP (36) at the namespace behind `netns` */
  attachNetns(program: BpfProgram, netns: string, attachType: number): BpfLink
  /** `map`: whose elements it walks. Where the link is pinned, each reading of the pin is a walk. */
  attachIterator(program: BpfProgram, map?: BpfMap): BpfLink
  /** At the tracepoint that the program was loaded for (BPF_PROG_TYPE_TRACING, "tp_btf/..."). Such a link takes no other program. */
  attachTracing(program: BpfProgram): BpfLink
  /** BPF_PROG_ATTACH to a sockmap, sockhash: attachType 7 sk_msg verdict */
  attachMap(program: BpfProgram, map: BpfMap, attachType: number): void
  detachMap(program: BpfProgram, map: BpfMap, attachType: number): void
  /** Puts a program into a BPF_MAP_TYPE_PROG_ARRAY. */
  setProgram(array: BpfMap, index: number, program: BpfProgram): void
  /**
   * Puts a TCP listener of another process into a sockhash with values of 8 bytes, under the first of the keys that is free; the key's index, -1:
   * none is. For a moment the process's descriptor is duplicated (pidfd_getfd, Linux 5.6, CAP_SYS_PTRACE); the map does not keep the socket open.
   * ESRCH, EBADF, ENOTSOCK, ESTALE: the process, the descriptor or the socket is not there any more.
   */
  addListener(map: BpfMap, keys: readonly Uint8Array[], socket: OpenSocket): Promise<number>
  /** Ids of the programs attached at a cgroup (effective: true includes those of its ancestors), in the order of execution. */
  queryCgroup(cgroup: string, attachType: number, effective: boolean): number[]
  queryNetns(netns: string, attachType: number): number[]
  /** Of a sockmap, sockhash (Linux 5.17) */
  queryMap(map: BpfMap, attachType: number): number[]
  /** undefined: no such program any more */
  programById(id: number): ProgramInfo | undefined
  /** Records of a BPF_MAP_TYPE_RINGBUF; a native thread waits, the callback runs on the event loop. close() ends it. */
  ringBuffer(map: BpfMap, onRecord: (record: Buffer) => void): Handle
  readonly namespaces: Namespaces
  readonly loopback: Loopback
  /** All BTF types of an object file, or of /sys/kernel/btf/vmlinux (126,000 of them, half a second). For tools: it runs on the event loop. */
  btf(path: string): BtfType[]
  /** The kernel takes a program of these types (enum bpf_prog_type, enum bpf_attach_type) with these instructions (linux/bpf.h, 8 bytes each). */
  takesProgram(programType: number, attachType: number, instructions: Uint8Array): boolean
  /** A map of socket storage with int keys and values, for probes. */
  storageMap(): BpfMap
  /** enum bpf_map_type */
  hasMapType(type: number): boolean
  /** BPF_LINK_CREATE (Linux 5.7) */
  hasLinks(): boolean
  /** Waits until every BPF program that runs now has ended (membarrier, an RCU grace period). */
  barrier(): Promise<void>
  /** An exclusive flock; undefined: somebody else has it. The file is made with mode 0600 and holds the owner's pid. */
  lock(path: string): Handle | undefined
  /** statfs(2).f_type */
  filesystemType(path: string): number
  mountBpffs(path: string): void
}
