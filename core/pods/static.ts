/**
 * Pods that the config lists by name: which of them can be enrolled, with what is in their namespaces now (watch.ts looks). Namespaces come and
 * go while the agent runs; a pod whose namespace is not there is waiting, not an error.
 */
import { createHash } from 'node:crypto'
import { isSpare, parseAddress } from '../address.ts'
import type { StaticPod } from '../config/schema.ts'
import type { NamespaceState, NativeError } from '../native/api.ts'

export type Placement =
  | {
      readonly pod: StaticPod
      readonly state: NamespaceState
      /** It has or had NAT rules of its own. */
      readonly natRules?: boolean
      /** Every address that it had since it was first seen, in that order: what its mesh decided by them stays true. */
      readonly everSeen?: readonly string[]
    }
  | { readonly pod: StaticPod; readonly waiting: string }

export interface Snapshot {
  readonly placements: readonly Placement[]
  /** Changes when anything does that a plugin or compile can see. */
  readonly signature: string
}

export const podTitle = (pod: StaticPod): string => `${pod.namespace.name}/${pod.name}`

function isError(result: NamespaceState | NativeError): result is NativeError {
  return result instanceof Error
}

/** undefined: the pod can be enrolled. `node` is the inode of the agent's own namespace. */
function whyNot({ netns }: StaticPod, state: NamespaceState | NativeError, node: number, owners: ReadonlyMap<bigint, StaticPod>): string | undefined {
  if (isError(state)) {
    if (state.code === 'ENOENT') return `its network namespace ${netns} does not exist (yet)`
    if (state.code === 'EINVAL') return `${netns} is not a network namespace`
    return `its network namespace ${netns} cannot be read: ${state.message}`
  }
  if (state.inode === node) return `${netns} is the node's own network namespace: such pods (hostNetwork) are left alone`
  const owner = owners.get(state.cookie)
  return owner && `its network namespace is that of pod ${podTitle(owner)}, which is listed first`
}

/** Trouble of the agent or the kernel, which says nothing about the pod: it must not leave the datapath, and bypass the mesh, for that. */
const transient = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EAGAIN', 'EINTR', 'EIO', 'ETIMEDOUT'])

const digests = new WeakMap<NamespaceState, string>()

const userText = ({ users }: NamespaceState): unknown => (users instanceof Error ? users.message : users)

/** Computed once for each state: those of most pods are the same objects at every look. */
function digestOf(state: NamespaceState): string {
  const known = digests.get(state)
  if (known !== undefined) return known
  const text = JSON.stringify([String(state.cookie), state.interfaces, userText(state), state.addresses, state.routes, state.rules])
  const digest = createHash('sha256').update(text).digest('hex')
  digests.set(state, digest)
  return digest
}

/**
 * Throws the first error that is transient: then everything stays as it is.
 *
 * One result for each pod; `node` is the inode of the agent's own namespace. Two pods in one namespace: the later one waits, with the reason.
 */
export function takeSnapshot(pods: readonly StaticPod[], results: readonly (NamespaceState | NativeError)[], node: number): Snapshot {
  for (const result of results) {
    const error = isError(result) ? result : result.users
    if (error instanceof Error && transient.has(error.code)) throw error
  }
  const owners = new Map<bigint, StaticPod>()
  const hash = createHash('sha256')
  const placements = pods.map((pod, index): Placement => {
    const result = results[index] as NamespaceState | NativeError // one result for each path
    const waiting = whyNot(pod, result, node, owners)
    if (waiting !== undefined || isError(result)) {
      hash.update(`${waiting}\n`)
      return { pod, waiting: waiting ?? 'it cannot be read' }
    }
    owners.set(result.cookie, pod)
    hash.update(`${digestOf(result)}\n`)
    return { pod, state: result }
  })
  return { placements, signature: hash.digest('hex') }
}

/** ::6 on lo is there for the pod's proxy; it must not make the pod one that has IPv6. */
function isOwn({ address, scope }: NamespaceState['addresses'][number]): boolean {
  const parsed = parseAddress(address)
  return scope === 0 && !(parsed !== undefined && isSpare(parsed))
}

/** Textual addresses as a plugin sees them: no loopback, no link-local, primary ones first. */
export function podAddresses(state: NamespaceState): string[] {
  const global = state.addresses.filter(isOwn)
  return [...global.filter((address) => !address.secondary), ...global.filter((address) => address.secondary)].map((address) => address.address)
}
