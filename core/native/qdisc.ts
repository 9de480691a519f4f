/** The messages of tc (linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h) about the qdisc clsact and the BPF filters at its egress, at lo. */
import { attribute, attributes, CREATE, changeRequest, dumpRequest, EXCLUSIVE, messages, type REPLACE, text, u32 } from './netlink.ts'

const [RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC] = [36, 37, 38]
const [RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER] = [44, 45, 46]
/** struct tcmsg */
const TC = 20
/** lo has it in every namespace. */
export const LOOPBACK = 1
/** TC_H_CLSACT, and the qdisc's own handle */
const [CLSACT, CLSACT_HANDLE] = [0xfffffff1, 0xffff0000]
const [INGRESS, EGRESS] = [0xfffffff2, 0xfffffff3]
const ETH_P_ALL = 3
const [TCA_KIND, TCA_OPTIONS] = [1, 2]
const [TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_ID] = [6, 7, 8, 11]
const DIRECT_ACTION = 1

/** By this name and this handle ours is told from others'. */
const OUR_NAME = 'merbridge'
const OUR_HANDLE = 0x6d62

export interface Filter {
  /** The lower, the earlier. */
  readonly priority: number
  readonly programId: number
}

function tcMessage({ parent, handle = 0, info = 0 }: { readonly parent: number; readonly handle?: number; readonly info?: number }): Buffer {
  const body = Buffer.alloc(TC)
  body.writeInt32LE(LOOPBACK, 4)
  body.writeUInt32LE(handle, 8)
  body.writeUInt32LE(parent, 12)
  body.writeUInt32LE(info, 16)
  return body
}

const string = (value: string): Buffer => Buffer.from(`${value}\0`)
/** The priority, and the protocol in network order. */
const infoOf = (priority: number): number => ((priority << 16) | (ETH_P_ALL << 8)) >>> 0

const qdisc = tcMessage({ parent: CLSACT, handle: CLSACT_HANDLE })
export const addQdisc = changeRequest(RTM_NEWQDISC, CREATE | EXCLUSIVE, qdisc, attribute(TCA_KIND, string('clsact')))
export const removeQdisc = changeRequest(RTM_DELQDISC, 0, qdisc)

/** `how`: EXCLUSIVE or REPLACE */
export function addFilter(program: number, priority: number, how: typeof EXCLUSIVE | typeof REPLACE): Buffer {
  const options = [attribute(TCA_BPF_FD, u32(program)), attribute(TCA_BPF_NAME, string(OUR_NAME)), attribute(TCA_BPF_FLAGS, u32(DIRECT_ACTION))]
  const message = tcMessage({ parent: EGRESS, handle: OUR_HANDLE, info: infoOf(priority) })
  return changeRequest(RTM_NEWTFILTER, CREATE | how, message, attribute(TCA_KIND, string('bpf')), attribute(TCA_OPTIONS, ...options))
}

export const removeFilter = (priority: number): Buffer =>
  changeRequest(RTM_DELTFILTER, 0, tcMessage({ parent: EGRESS, handle: OUR_HANDLE, info: infoOf(priority) }), attribute(TCA_KIND, string('bpf')))

/** Answered in this order: filters at egress, at ingress, qdiscs. */
export const TC_REQUESTS = [
  dumpRequest(RTM_GETTFILTER, tcMessage({ parent: EGRESS })),
  dumpRequest(RTM_GETTFILTER, tcMessage({ parent: INGRESS })),
  dumpRequest(RTM_GETQDISC, tcMessage({ parent: 0 })),
]

/** Our filter; undefined: it is not there. */
export function ourFilter(egress: Buffer): Filter | undefined {
  for (const { type, body } of messages(egress)) {
    if (type !== RTM_NEWTFILTER || body.length < TC || body.readUInt32LE(8) !== OUR_HANDLE) continue
    const all = attributes(body, TC)
    const options = attributes(all.get(TCA_OPTIONS) ?? Buffer.alloc(0))
    if (text(all.get(TCA_KIND)) !== 'bpf' || text(options.get(TCA_BPF_NAME)) !== OUR_NAME) continue
    return { priority: body.readUInt32LE(16) >>> 16, programId: options.get(TCA_BPF_ID)?.readUInt32LE(0) ?? 0 }
  }
  return undefined
}

/** How many filters an answer has; each priority also has a line of its own, without a handle. */
export const countFilters = (answer: Buffer): number =>
  [...messages(answer)].filter(({ type, body }) => type === RTM_NEWTFILTER && body.length >= TC && body.readUInt32LE(8) !== 0).length

export const hasQdisc = (answer: Buffer): boolean =>
  [...messages(answer)].some(
    ({ type, body }) => type === RTM_NEWQDISC && body.readInt32LE(4) === LOOPBACK && text(attributes(body, TC).get(TCA_KIND)) === 'clsact',
  )
