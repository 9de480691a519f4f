/**
 * Registers proxies that listened before their pod was enrolled, on kernels where the iterator (bpf/listeners.bpf.c) cannot: sock_diag lists the
 * listeners, /proc tells who has each open, and a duplicate of that descriptor is what user space writes into the sockhash.
 *
 * A listener is known by its cookie all the way, so a number that is used again never puts another socket into the map.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Limit, listenerKeyCodec } from '../contract.ts'
import type { BpfMap, Listener, Native, NativeError } from '../native/api.ts'
import { type ProcessTable, processTable, socketsOf } from './processes.ts'

export interface ProxyPlace {
  /** Cookie of the network namespace, its path and its inode. */
  readonly netns: bigint
  readonly path: string
  readonly inode: number
  /** Ports of the proxy. */
  readonly ports: ReadonlySet<number>
}

export interface Unregistered {
  readonly address: string
  readonly port: number
  readonly uid: number
  /** "duplicate descriptor 7 of process 4711: Operation not permitted (EPERM)" */
  readonly reason: string
}

export interface Registration {
  /** Listeners that were put into the map; those that were there already do not count. */
  readonly registered: number
  /** Listeners that are still there and could not be. */
  readonly missing: readonly Unregistered[]
}

/** What addListener says of a process, a descriptor or a socket that is not there any more. */
const GONE: ReadonlySet<string> = new Set(['ESRCH', 'EBADF', 'ENOTSOCK', 'ESTALE'])

/** Milliseconds that the kernel may take to close the sockets of a process that ends. */
const ENDING = 50

const NOBODY = 'no process that the agent can see has it open; the agent needs the PID namespace of the node (hostPID: true)'

/** A table of processes that is read when it is first needed, and serves the pods of one apply. */
export function processesOnce(): () => Promise<ProcessTable> {
  let table: Promise<ProcessTable> | undefined
  return () => {
    table ??= processTable()
    return table
  }
}

/**
 * Looks among the processes of the namespace, and for what is not found there once more among all as they are then: a process may be younger than the
 * table, and a proxy of the node may listen in the namespaces of pods without being in them.
 */
export async function registerListeners(
  native: Native,
  map: BpfMap,
  place: ProxyPlace,
  processes: () => Promise<ProcessTable> = processesOnce(),
): Promise<Registration> {
  const first = await search(native, map, place, async () => (await processes()).in(place.inode))
  if (first.missing.length === 0) return { registered: first.registered, missing: [] }
  const second = await search(native, map, place, async () => {
    const table = await processTable()
    return new Set([...table.in(place.inode), ...table.all])
  })
  const registered = first.registered + second.registered
  if (second.missing.length === 0) return { registered, missing: [] }
  await sleep(ENDING) // a proxy that ends has no descriptors any more some time before its sockets are closed
  const open = new Set((await unregistered(native, map, place)).map(({ cookie }) => cookie))
  const missing = second.missing.filter(({ cookie }) => open.has(cookie)).map(({ address, port, uid, reason }) => ({ address, port, uid, reason }))
  return { registered, missing }
}

interface Found {
  readonly registered: number
  readonly missing: readonly (Unregistered & { readonly cookie: bigint })[]
}

async function search(native: Native, map: BpfMap, place: ProxyPlace, pids: () => Promise<Iterable<number>>): Promise<Found> {
  const wanted = new Map((await unregistered(native, map, place)).map((listener) => [listener.inode, listener]))
  const refusals = new Map<number, string>()
  let hidden = 0
  let registered = 0
  for (const pid of wanted.size === 0 ? [] : await pids()) {
    const sockets = await socketsOf(pid)
    if (sockets === undefined) hidden++ // who else has the socket open may be looked into
    for (const [inode, descriptor] of sockets ?? []) {
      const listener = wanted.get(inode)
      if (listener === undefined) continue
      const refusal = await register(native, map, place.netns, listener, pid, descriptor)
      if (refusal === undefined) registered++
      if (refusal === undefined) wanted.delete(inode)
      else if (refusal !== '') refusals.set(inode, refusal)
    }
    if (wanted.size === 0) break
  }
  const nobody = hidden === 0 ? NOBODY : `${hidden} processes may not be looked into: the agent needs the capability CAP_SYS_PTRACE`
  const missing = [...wanted.values()].map(({ inode, cookie, address, port, uid }) => {
    return { address, port, uid, cookie, reason: refusals.get(inode) ?? nobody }
  })
  return { registered, missing }
}

/** The proxy's listeners that have no slot: sock_ops may have registered some, or an earlier search. */
async function unregistered(native: Native, map: BpfMap, { netns, path, inode, ports }: ProxyPlace): Promise<Listener[]> {
  const listeners = (await native.namespaces.listeners(path)).filter(({ port }) => ports.has(port))
  if (listeners.some(({ namespace }) => namespace !== inode)) throw new Error(`${path} is another network namespace now`)
  const taken = new Set([...new Set(listeners.map(({ port }) => port))].flatMap((port) => slots(netns, port).flatMap((key) => cookieAt(map, key))))
  return listeners.filter(({ cookie }) => !taken.has(cookie))
}

/** undefined: it is registered; '': it is not there any more; else why the kernel refused. */
async function register(
  native: Native,
  map: BpfMap,
  netns: bigint,
  listener: Listener,
  pid: number,
  descriptor: number,
): Promise<string | undefined> {
  const { port, cookie } = listener
  try {
    const slot = await native.addListener(map, slots(netns, port), { pid, descriptor, cookie })
    return slot < 0 ? `all ${Limit.SLOTS} slots of the port are taken` : undefined
  } catch (error) {
    const { code, message } = error as NativeError
    return GONE.has(code) ? '' : message
  }
}

function slots(netns: bigint, port: number): Buffer[] {
  return Array.from({ length: Limit.SLOTS }, (_, slot) => listenerKeyCodec.encode({ netns, port, slot }))
}

/** User space sees the cookies of a sockhash's sockets (Linux 5.7). */
function cookieAt(map: BpfMap, key: Uint8Array): bigint[] {
  const value = map.lookup(key)
  return value === undefined ? [] : [value.readBigUInt64LE()]
}
