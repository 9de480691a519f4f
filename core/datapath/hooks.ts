/** The programs that are shared by all pods, and where each is attached. Numbers are enum bpf_attach_type of linux/bpf.h. */

export interface Hook {
  /** Name of the pin and of the hook in `status`. */
  readonly name: string
  readonly program: string
  readonly attachType: number
}

export const attachTypes = {
  sockCreate: 2,
  sockOps: 3,
  skMsg: 7,
  connect4: 10,
  connect6: 11,
  sendmsg4: 14,
  sendmsg6: 15,
  recvmsg4: 19,
  recvmsg6: 20,
  getsockopt: 21,
  setsockopt: 22,
  getpeername4: 29,
  getpeername6: 30,
  getsockname4: 31,
  getsockname6: 32,
  skLookup: 36,
} as const

/**
 * In the order of attachment: what answers for a redirected socket is there before the first redirect happens, so connect and sendmsg are
 * the last. They are removed the other way round.
 */
export const hooks: readonly Hook[] = [
  { name: 'getsockopt', program: 'mb_getsockopt', attachType: attachTypes.getsockopt },
  { name: 'setsockopt', program: 'mb_setsockopt', attachType: attachTypes.setsockopt },
  { name: 'getpeername4', program: 'mb_getpeername4', attachType: attachTypes.getpeername4 },
  { name: 'getpeername6', program: 'mb_getpeername6', attachType: attachTypes.getpeername6 },
  { name: 'getsockname4', program: 'mb_getsockname4', attachType: attachTypes.getsockname4 },
  { name: 'getsockname6', program: 'mb_getsockname6', attachType: attachTypes.getsockname6 },
  { name: 'recvmsg4', program: 'mb_recvmsg4', attachType: attachTypes.recvmsg4 },
  { name: 'recvmsg6', program: 'mb_recvmsg6', attachType: attachTypes.recvmsg6 },
  { name: 'sockops', program: 'mb_sockops', attachType: attachTypes.sockOps },
  { name: 'join', program: 'mb_join', attachType: attachTypes.sockOps }, // after sockops, which says whose socket it is
  { name: 'again4', program: 'mb_again4', attachType: attachTypes.connect4 },
  { name: 'again6', program: 'mb_again6', attachType: attachTypes.connect6 },
  { name: 'connect4', program: 'mb_connect4', attachType: attachTypes.connect4 },
  { name: 'connect6', program: 'mb_connect6', attachType: attachTypes.connect6 },
  { name: 'sendmsg4', program: 'mb_sendmsg4', attachType: attachTypes.sendmsg4 },
  { name: 'sendmsg6', program: 'mb_sendmsg6', attachType: attachTypes.sendmsg6 },
]

/** What redirects: all of them are gone before anything is that answers for what they did. */
export const redirecting: ReadonlySet<string> = new Set(['connect4', 'connect6', 'sendmsg4', 'sendmsg6'])

/** Loaded once; each pod gets a copy with its netns cookie (__u64, host order) as the only content of this section. */
export const inbound = { program: 'mb_inbound', section: '.rodata.pod' } as const
/** Turns datagrams with an id round, at the egress of a pod's lo. */
export const loopbackProgram = 'mb_lo'
export const listenersIterator = 'mb_listeners'

/** Tells the agent the cookies of namespaces, where the kernel does not. */
export const cookieProgram = 'mb_cookie'

/** What acceleration is made of; all of them or none is there, but for mb_late and mb_walk, of which it is one. */
export const acceleration = {
  /** Hooks of their own. */
  join: 'mb_join',
  again4: 'mb_again4',
  again6: 'mb_again6',
  /** At `joined`: calls the one in `accelerators`, because live sockets keep the program that they were joined with. */
  stub: 'mb_accelerator',
  decider: 'mb_accelerate',
  /** At the tracepoint tcp_rcv_space_adjust. */
  reading: 'mb_reading',
  /** Iterators over `joined`, `pairs` and `sides`; and over the sockets of a namespace. */
  drain: 'mb_drain',
  stale: 'mb_stale',
  late: 'mb_late',
  /** Instead of mb_late where that may crash the node. */
  walk: 'mb_walk',
  nudge: 'mb_nudge',
} as const

export const allPrograms: readonly string[] = [
  ...hooks.map(({ program }) => program),
  inbound.program,
  loopbackProgram,
  listenersIterator,
  cookieProgram,
  ...Object.values(acceleration).filter((program) => !hooks.some((hook) => hook.program === program)),
]
