/**
 * What the datapath would like from the kernel. Each feature is probed by doing, on this kernel with this process's rights; none is derived from
 * a version (`since` is for people: distributions backport). A feature is needed, or has a fallback, or is not used yet.
 */
import { Ability } from '../contract.ts'
import { acceleration } from '../datapath/hooks.ts'
import type { Native } from '../native/api.ts'
import { deniedHere } from './denied.ts'
import { binds, callsCookie, findsMptcp, readsKernel, seesArrival, selectsSocket, setsRetval, stores } from './questions.ts'

const BPF_MAP_TYPE_RINGBUF = 27

type Probe = (native: Native) => boolean | Promise<boolean>

interface Described {
  /** In the config (`attach.without`), in docs/kernels.md and in `merbridge status --output json`. */
  readonly id: string
  readonly name: string
  /** The kernel that brought it. */
  readonly since: string
  /** What it gives when it is there. */
  readonly detail: string
}

/** Found before the programs are loaded. */
export interface Probed extends Described {
  readonly probe: Probe
  /** What happens without it; absent: the datapath cannot be built without it. */
  readonly fallback?: string
  /** Told to the programs, as a constant. */
  readonly ability?: Ability
  /** Shown, and used by nothing yet. */
  readonly unused?: true
}

/** Found by loading the programs: the rest of the datapath does not need it. */
export interface Optional extends Described {
  readonly id: 'getpeername' | 'getsockname' | 'listener_iterator' | 'acceleration'
  /** All of them or none is used. */
  readonly programs: readonly string[]
  readonly fallback: string
}

/** The kernel tells the cookie of a namespace through a socket; asked for the agent's own one. */
async function tellsCookies(native: Native): Promise<boolean> {
  const [own] = await native.namespaces.inspect(['/proc/self/ns/net'])
  return own !== undefined && !(own instanceof Error)
}

export const probed = [
  {
    id: 'cgroup_links',
    name: 'bpf_link at cgroups',
    since: '5.7',
    probe: (native) => native.hasLinks(),
    detail: 'programs stay attached without the agent, beside those of others',
  },
  { id: 'bind', name: 'bpf_bind in connect', since: '4.17', probe: binds, detail: "the proxy sees the pod's address" },
  {
    id: 'connect_netns_cookie',
    name: 'netns cookie in connect',
    since: '5.7',
    probe: callsCookie('connect'),
    detail: 'which pod a socket belongs to',
  },
  {
    id: 'sockops_netns_cookie',
    name: 'netns cookie in sock_ops',
    since: '5.15',
    probe: callsCookie('sockOps'),
    detail: 'which pod a socket belongs to',
    fallback: "read from the kernel's struct net",
    ability: Ability.SOCKOPS_COOKIE,
  },
  {
    id: 'socket_netns_cookie',
    name: 'netns cookie of a namespace',
    since: '5.14',
    probe: tellsCookies,
    detail: 'SO_NETNS_COOKIE',
    fallback: 'a program at socket creation tells it, while the agent runs',
  },
  {
    id: 'connect_storage',
    name: 'socket storage in connect, getpeername',
    since: '5.8',
    probe: stores('connect'),
    detail: 'remembers the destination that was asked for',
  },
  {
    id: 'sockops_storage',
    name: 'socket storage in sock_ops',
    since: '5.4',
    probe: stores('sockOps'),
    detail: 'hands it to the accepted socket',
  },
  {
    id: 'getsockopt_storage',
    name: 'socket storage in getsockopt',
    since: '5.4',
    probe: stores('getsockopt'),
    detail: 'answers SO_ORIGINAL_DST',
  },
  { id: 'sk_lookup', name: 'sk_lookup', since: '5.9', probe: selectsSocket, detail: 'inbound connections without NAT' },
  {
    id: 'kernel_reads',
    name: 'reading kernel fields',
    since: '5.5',
    probe: readsKernel,
    detail: "whose socket: the credentials of its file, as iptables' owner match",
    fallback: 'whose socket: the real ids of the process that connects (lockdown, or no CAP_PERFMON)',
    ability: Ability.KERNEL_READS,
  },
  {
    id: 'set_retval',
    name: 'errno of a refusal',
    since: '5.18',
    probe: setsRetval,
    detail: 'as routing or a closed port would give (bpf_set_retval)',
    fallback: 'ENETUNREACH and ECONNREFUSED by a destination that gives them; other errors of routing become EPERM',
    ability: Ability.SET_RETVAL,
  },
  {
    id: 'arrival_interface',
    name: 'arrival interface in sk_lookup',
    since: '5.17',
    probe: seesArrival,
    detail: 'inbound rules that name interfaces',
    fallback: 'not here: a pod whose inbound rules name interfaces cannot be enrolled, and says so',
    ability: Ability.ARRIVAL,
  },
  {
    id: 'mptcp_socket',
    name: 'MPTCP socket of a subflow',
    since: '5.19',
    probe: findsMptcp,
    detail: 'an app with an MPTCP socket sees the destination that it asked for',
    fallback: 'not here: an app that asks its MPTCP socket for its peer sees the proxy',
    ability: Ability.MPTCP,
  },
  {
    id: 'tcx',
    name: 'TCX at lo',
    since: '6.6',
    probe: (native) => native.loopback.takesLinks(),
    detail: 'UDP to several servers from one socket: a program at the lo of pods, as a link',
    fallback: 'the same program as a filter of tc (qdisc clsact), which others can see and remove',
  },
  {
    id: 'clsact',
    name: 'BPF filters of tc',
    since: '4.5',
    probe: (native) => native.loopback.takesFilters(),
    detail: 'stands in for TCX',
    fallback: 'not here: where TCX is not either, a pod whose rules take UDP cannot be enrolled, and says so',
  },
  {
    id: 'ring_buffer',
    name: 'ring buffer',
    since: '5.8',
    probe: (native) => native.hasMapType(BPF_MAP_TYPE_RINGBUF),
    detail: 'merbridge monitor',
  },
  {
    id: 'getsockopt_netns_cookie',
    name: 'netns cookie in getsockopt',
    since: '5.15',
    probe: callsCookie('getsockopt'),
    detail: '',
    unused: true,
  },
  {
    id: 'skmsg_netns_cookie',
    name: 'netns cookie in sk_msg',
    since: '5.15',
    probe: callsCookie('skMsg'),
    detail: '',
    unused: true,
  },
  {
    id: 'skmsg_storage',
    name: 'socket storage in sk_msg',
    since: '5.9',
    probe: stores('skMsg'),
    detail: 'which connection a message belongs to',
    fallback: 'not here: no acceleration',
  },
  {
    id: 'storage_iterator',
    name: 'iterator over socket storage',
    since: '5.9',
    probe: () => deniedHere('storage_iterator') === undefined,
    detail: 'finds the sockets that acceleration may join, of all pods at once',
    fallback: "acceleration finds its sockets by reading each pod's namespace",
  },
] as const satisfies readonly Probed[]

export const optional = [
  {
    id: 'getpeername',
    name: 'getpeername hook',
    since: '5.8',
    programs: ['mb_getpeername4', 'mb_getpeername6'],
    detail: 'an app sees the destination that it asked for',
    fallback: 'not here: an app that asks for its peer sees the proxy',
  },
  {
    id: 'getsockname',
    name: 'getsockname hook',
    since: '5.8',
    programs: ['mb_getsockname4', 'mb_getsockname6'],
    detail: "a UDP app that is bound to a port alone sees the pod's address as its own",
    fallback: 'not here: a UDP app that is bound to a port alone sees loopback as its own address',
  },
  {
    id: 'listener_iterator',
    name: 'iterator into a sockhash',
    since: '5.10',
    programs: ['mb_listeners'],
    detail: 'finds proxies that listened before their pod was enrolled',
    fallback: 'the agent looks for them in /proc and copies their sockets (pidfd_getfd, Linux 5.6)',
  },
  {
    id: 'acceleration',
    name: 'acceleration',
    since: '5.15',
    programs: Object.values(acceleration),
    detail: 'connections inside the node pass over TCP, where their receiver cannot tell',
    fallback: 'not here: every connection stays plain TCP',
  },
] as const satisfies readonly Optional[]

type WithFallback = Extract<(typeof probed)[number], { readonly fallback: string }> | (typeof optional)[number]
export type Forceable = WithFallback['id']

/** What a config may ask to do without: features that have a fallback. */
export const forceable = [...probed.filter((feature) => 'fallback' in feature), ...optional].map(({ id }) => id) as readonly Forceable[]
