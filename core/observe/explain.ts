/** `merbridge explain`, the agent's part: finds the pod and gives the question the kernel's maps. */
import type { Agent } from '../agent.ts'
import { u64Codec } from '../codec.ts'
import { Limit, listenerKeyCodec } from '../contract.ts'
import type { Datapath } from '../datapath/datapath.ts'
import { MerbridgeError } from '../errors.ts'
import { answer, type Kernel } from '../explain/answer.ts'
import { parseQuestion } from '../explain/question.ts'
import type { ExplainView } from '../explain/view.ts'
import type { Listener } from '../native/api.ts'
import { findPod } from '../pods/named.ts'
import { podTitle } from '../pods/static.ts'
import type { Started } from './status.ts'

const slots = Array.from({ length: Limit.SLOTS }, (_, slot) => slot)

const takes = ({ family, ipv6Only }: Listener, wanted: 4 | 6): boolean => (wanted === 6 ? family === 6 : !ipv6Only)

/** The sockhash gives the cookies of the sockets that it has; which families they take, the namespace says. */
async function kernelOf({ maps, native }: Datapath, netns: bigint, path: string, features: Started['features']): Promise<Kernel> {
  const present = await native.namespaces.listeners(path).catch(() => []) // the namespace went away: the next tick says so
  const listeners = new Map(present.map((listener) => [listener.cookie, listener]))
  return {
    read: (map, key) => maps[map].lookup(key),
    listens: (port, family) => {
      const found = slots.flatMap((slot) => maps.listeners.lookup(listenerKeyCodec.encode({ netns, port, slot })) ?? [])
      if (found.length === 0) return 'no'
      const known = found.map((cookie) => listeners.get(u64Codec.decode(cookie)))
      return known.some((listener) => listener === undefined || takes(listener, family)) ? 'yes' : 'other family'
    },
    anyErrno: features.some(({ id, state }) => id === 'set_retval' && state === 'yes'),
  }
}

/** Throws USAGE, POD_UNKNOWN and POD_NOT_ENROLLED. */
export async function explainView(agent: Agent, { features }: Started, query: URLSearchParams): Promise<ExplainView> {
  const question = parseQuestion(query)
  const outcomes = agent.outcomes.map((outcome) => ({ name: outcome.pod.name, namespace: outcome.pod.namespace.name, outcome }))
  const { outcome } = findPod(outcomes, question.pod)
  const { pod, netns, state, reason, addresses } = outcome
  const name = podTitle(pod)
  // A pod that failed may have its rules of before, and the kernel goes by those.
  if (netns === undefined || agent.datapath.maps.pods.lookup(u64Codec.encode(netns)) === undefined) {
    const why = reason === undefined ? '' : `: ${reason}`
    throw new MerbridgeError(
      'POD_NOT_ENROLLED',
      `pod ${name} is not enrolled (${state})${why}`,
      'Its connections are not touched here, so there is no rule to explain. See: merbridge pods.',
    )
  }
  const view = answer(
    question,
    { name, netns, addresses, compiled: agent.enrolment?.desired.pods.get(netns) },
    await kernelOf(agent.datapath, netns, pod.netns, features),
  )
  const why = outcome.kept ? outcome.warnings.slice(-1) : []
  const ofBefore = state === 'enrolled' ? why : [`the pod is ${state}: ${reason ?? 'no reason is known'}; these are the rules that it has`]
  return { ...view, notes: [...view.notes, ...ofBefore] }
}
