/** What is changed in other network namespaces, and all of it about their lo: a program at its egress, its addresses, local routes. */
import { type Cidr, parseCidr } from '../address.ts'
import { addon, type NamespaceDump } from './addon.ts'
import { familyNumber } from './addresses.ts'
import type { BpfLink, BpfProgram, NativeError } from './api.ts'
import { descriptorOf, LinkHandle, nativeError, ProgramHandle } from './handles.ts'
import { attribute, CREATE, changeRequest, EXCLUSIVE, REPLACE, u32 } from './netlink.ts'
import { addFilter, addQdisc, countFilters, type Filter, hasQdisc, LOOPBACK, ourFilter, removeFilter, removeQdisc, TC_REQUESTS } from './qdisc.ts'
import { NETLINK_ROUTE } from './rtnetlink.ts'

export type { Filter }

export interface NamespacePlace {
  /** Path of the network namespace. */
  readonly path: string
  /** Its inode, so that a namespace that was replaced under the same path is noticed: ESTALE. */
  readonly inode: number
}

/** What does not fit (a namespace that is gone, a right that is missing) is a NativeError. */
export interface Loopback {
  /** A TCX link (Linux 6.6) at the egress of lo, where the program is the first; for the caller to pin. */
  attach(program: BpfProgram, place: NamespacePlace): Promise<BpfLink>
  /** The same as a filter of tc, before all others that leave room before them. One of ours that is there gets the program. */
  addFilter(program: BpfProgram, place: NamespacePlace): Promise<{ readonly madeQdisc: boolean }>
  /** Our filter; undefined: it is not there. */
  filter(place: NamespacePlace): Promise<Filter | undefined>
  /** clsact is there. */
  hasQdisc(place: NamespacePlace): Promise<boolean>
  /** Our filter and, with `qdisc`, the clsact qdisc if nobody else has a filter there. What is not there is no error. */
  removeFilter(place: NamespacePlace, qdisc: boolean): Promise<void>
  /**
   * An address of lo ("::6/128", without detection of duplicates) or a local route to it ("fd00::/96"). false: it was there.
   * `device`: the route is for look-ups that ask for this interface, and comes after all others.
   */
  add(kind: 'address' | 'route', cidr: string, place: NamespacePlace, device?: number): Promise<boolean>
  /** false: it was not there. */
  remove(kind: 'address' | 'route', cidr: string, place: NamespacePlace, device?: number): Promise<boolean>
  /** The kernel has TCX. */
  takesLinks(): Promise<boolean>
  /** The kernel has clsact and filters with BPF; asked in a namespace made for it. */
  takesFilters(): Promise<boolean>
}

/** Priorities that are tried: at one of them hang only filters of one kind. */
const FIRST_PRIORITY = 1
const LAST_PRIORITY = 16
const EBUSY = 16
const NO_INTERFACE = 0x7fffffff

const [RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE] = [20, 21, 24, 25]
const IFA_F_NODAD = 2
const [IFA_ADDRESS, IFA_LOCAL] = [1, 2]
const [RTA_DST, RTA_OIF, RTA_PRIORITY] = [1, 4, 6]
const [RT_SCOPE_UNIVERSE, RT_SCOPE_HOST] = [0, 254]
const [RT_TABLE_LOCAL, RTN_LOCAL] = [255, 2]
/** "proto 109" in `ip route`; a number that nobody else uses, so that only a route of ours is removed. */
const OUR_PROTOCOL = 109

/** After lo's own, so that look-ups without a device find what they always did; and of no other device, as an equal one is refused. */
const deviceMetric = (device: number): number => 0x4000_0000 + device

function bytesOf({ family, words }: Cidr): Buffer {
  const bytes = Buffer.alloc(family === 4 ? 4 : 16)
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32BE(words[at / 4] ?? 0, at)
  return bytes
}

function request(change: 'add' | 'remove', kind: 'address' | 'route', cidr: string, device = LOOPBACK): Buffer {
  const parsed = parseCidr(cidr)
  const flags = change === 'add' ? CREATE | EXCLUSIVE : 0
  const [family, bytes] = [familyNumber(parsed.family), bytesOf(parsed)]
  if (kind === 'address') {
    const body = Buffer.from([family, parsed.length, IFA_F_NODAD, 0, LOOPBACK, 0, 0, 0])
    return changeRequest(change === 'add' ? RTM_NEWADDR : RTM_DELADDR, flags, body, attribute(IFA_LOCAL, bytes), attribute(IFA_ADDRESS, bytes))
  }
  const scope = parsed.family === 4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE
  const body = Buffer.from([family, parsed.length, 0, 0, RT_TABLE_LOCAL, OUR_PROTOCOL, scope, RTN_LOCAL, 0, 0, 0, 0])
  const metric = device === LOOPBACK ? [] : [attribute(RTA_PRIORITY, u32(deviceMetric(device)))]
  return changeRequest(
    change === 'add' ? RTM_NEWROUTE : RTM_DELROUTE,
    flags,
    body,
    attribute(RTA_DST, bytes),
    attribute(RTA_OIF, u32(device)),
    ...metric,
  )
}

/** false: it failed with one of these codes. */
async function unless(codes: readonly string[], work: Promise<unknown>): Promise<boolean> {
  try {
    await work
    return true
  } catch (error) {
    if (codes.includes((error as NativeError).code)) return false
    throw error
  }
}

const change = ({ path, inode }: NamespacePlace, ...requests: readonly Buffer[]): Promise<void> => addon().namespaceChange(path, inode, requests)

interface Hooks {
  readonly ours: Filter | undefined
  /** All filters, ours too, at both ends. */
  readonly filters: number
  readonly qdisc: boolean
}

async function look({ path, inode }: NamespacePlace): Promise<Hooks> {
  const [answer] = (await addon().namespaceDump([path], NETLINK_ROUTE, TC_REQUESTS, undefined)) as [NamespaceDump | Error]
  if (answer instanceof Error) throw answer
  const [egress, ingress, qdiscs] = answer.replies as [Buffer, Buffer, Buffer]
  if (answer.inode !== inode) return { ours: undefined, filters: 0, qdisc: false }
  return { ours: ourFilter(egress), filters: countFilters(egress) + countFilters(ingress), qdisc: hasQdisc(qdiscs) }
}

/** The first priority at which there is room. EINVAL: filters of another kind are there; EEXIST: another one has our number. */
async function addFirst(program: BpfProgram, place: NamespacePlace): Promise<void> {
  for (let priority = FIRST_PRIORITY; priority < LAST_PRIORITY; priority++)
    if (await unless(['EINVAL', 'EEXIST'], change(place, addFilter(program.fd, priority, EXCLUSIVE)))) return
  await change(place, addFilter(program.fd, LAST_PRIORITY, EXCLUSIVE))
}

export const loopback: Loopback = {
  async attach(program, { path, inode }) {
    return new LinkHandle(await addon().attachEgress(descriptorOf(program), path, inode, LOOPBACK))
  },

  async addFilter(program, place) {
    const { ours, qdisc } = await look(place)
    if (ours !== undefined) {
      await change(place, addFilter(program.fd, ours.priority, REPLACE))
      return { madeQdisc: false }
    }
    // The kernel would take the filter there, too, and run it at the other end.
    const madeQdisc = !qdisc && (await unless(['EEXIST'], change(place, addQdisc)))
    if (!qdisc && !madeQdisc)
      throw nativeError(
        `add a filter to lo of ${place.path}`,
        EBUSY,
        'lo has the qdisc "ingress", in whose place "clsact" has to be: tc qdisc show dev lo',
      )
    try {
      await addFirst(program, place)
    } catch (error) {
      if (madeQdisc) await change(place, removeQdisc).catch(() => undefined)
      throw error
    }
    return { madeQdisc }
  },

  async filter(place) {
    return (await look(place)).ours
  },

  async hasQdisc(place) {
    return (await look(place)).qdisc
  },

  async removeFilter(place, qdisc) {
    const { ours } = await look(place)
    if (ours !== undefined) await unless(['ENOENT'], change(place, removeFilter(ours.priority)))
    const left = await look(place)
    if (qdisc && left.qdisc && left.filters === 0) await unless(['ENOENT', 'EINVAL'], change(place, removeQdisc))
  },

  add(kind, cidr, place, device) {
    return unless(['EEXIST'], change(place, request('add', kind, cidr, device)))
  },

  remove(kind, cidr, place, device) {
    const gone = kind === 'address' ? ['EADDRNOTAVAIL'] : ['ESRCH', 'ENOENT', 'ENODEV']
    return unless(gone, change(place, request('remove', kind, cidr, device)))
  },

  async takesLinks() {
    const program = new ProgramHandle(addon().filterProgram())
    try {
      await addon().attachEgress(descriptorOf(program), '/proc/self/ns/net', 0, NO_INTERFACE)
      return true
    } catch (error) {
      const { code } = error as NativeError
      if (code !== 'ENODEV' && code !== 'EINVAL') throw error
      return code === 'ENODEV' // it looks for the interface
    } finally {
      program.close()
    }
  },

  async takesFilters() {
    const program = new ProgramHandle(addon().filterProgram())
    try {
      await addon().namespaceChange('', 0, [addQdisc, addFilter(program.fd, FIRST_PRIORITY, EXCLUSIVE)])
      return true
    } catch (error) {
      if (['ENOENT', 'EOPNOTSUPP', 'EINVAL'].includes((error as NativeError).code)) return false
      throw error
    } finally {
      program.close()
    }
  },
}
