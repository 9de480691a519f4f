/** Questions to the verifier: the smallest whole program that does the thing. The kernel takes it, or the feature is not there. */
import type { Native } from '../native/api.ts'
import { add, call, copy, load, loadMap, loadWord, program, set, skipIfNull, storeOnStack } from './instructions.ts'

/** enum bpf_prog_type, enum bpf_attach_type; and where the context has its socket (struct bpf_sock_addr, bpf_sock_ops, bpf_sockopt, sk_msg_md). */
const hooks = {
  sockOps: { type: 13, attach: 3, socket: 184 },
  skMsg: { type: 16, attach: 7, socket: 72 },
  connect: { type: 18, attach: 10, socket: 64 },
  getsockopt: { type: 25, attach: 21, socket: 0 },
  skLookup: { type: 30, attach: 36, socket: 0 },
} as const
type Hook = keyof typeof hooks

/** enum bpf_func_id */
const helpers = { bind: 64, skStorageGet: 107, probeReadKernel: 113, netnsCookie: 122, skAssign: 124, setRetval: 187, mptcpSock: 196 } as const

/** struct bpf_sk_lookup */
const ingressInterface = 64

const takes = (native: Native, hook: Hook, ...body: readonly Buffer[]): boolean =>
  native.takesProgram(hooks[hook].type, hooks[hook].attach, program(...body))

export const callsCookie =
  (hook: Hook) =>
  (native: Native): boolean =>
    takes(native, hook, call(helpers.netnsCookie))

/** bpf_sk_storage_get(map, context->sk, NULL, 0); the context may have no socket. */
export const stores =
  (hook: Hook) =>
  (native: Native): boolean => {
    const map = native.storageMap()
    try {
      const lookUp = [loadMap(1, map.fd), set(3, 0), set(4, 0), call(helpers.skStorageGet)]
      return takes(native, hook, load(2, 1, hooks[hook].socket), skipIfNull(2, lookUp.length + 1), ...lookUp)
    } finally {
      map.close()
    }
  }

/** bpf_bind(context, a zeroed struct sockaddr_in, 16) */
export const binds = (native: Native): boolean =>
  takes(native, 'connect', storeOnStack(-16, 0), storeOnStack(-8, 0), copy(2, 10), add(2, -16), set(3, 16), call(helpers.bind))

/** bpf_sk_assign(context, NULL, 0) */
export const selectsSocket = (native: Native): boolean => takes(native, 'skLookup', set(2, 0), set(3, 0), call(helpers.skAssign))

/** A load of context->ingress_ifindex */
export const seesArrival = (native: Native): boolean => takes(native, 'skLookup', loadWord(2, 1, ingressInterface))

/** bpf_skc_to_mptcp_sock(context->sk); the context may have no socket. */
export const findsMptcp = (native: Native): boolean =>
  takes(native, 'sockOps', load(1, 1, hooks.sockOps.socket), skipIfNull(1, 1), call(helpers.mptcpSock))

/** bpf_probe_read_kernel(8 bytes on the stack, 8, 0) */
const reads = [copy(1, 10), add(1, -8), set(2, 8), set(3, 0), call(helpers.probeReadKernel)]
export const readsKernel = (native: Native): boolean => takes(native, 'connect', ...reads) && takes(native, 'sockOps', ...reads)

/** bpf_set_retval(-1) */
const retval = [set(1, -1), call(helpers.setRetval)]
export const setsRetval = (native: Native): boolean => takes(native, 'connect', ...retval) && takes(native, 'getsockopt', ...retval)
