/** `merbridge explain`, the agent's part: finds the pod and gives the question the kernel's maps. */
import type { Agent } from '../agent.ts'
import { u64Codec } from '../codec.ts'
import { Limit, listenerKeyCodec } from '../contract.ts'
import type { Datapath } from '../datapath/datapath.ts'
import { MerbridgeError } from '../errors.ts'
import { answer, type Kernel } from '../explain/answer.ts'
import { parseQuestion } from '../explain/question.ts'
import type { ExplainView } from '../explain/view.ts'
import { findPod } from '../pods/named.ts'
import { podTitle } from '../pods/static.ts'
import type { Started } from './status.ts'

const slots = Array.from({ length: Limit.SLOTS }, (_, slot) => slot)

function kernelOf({ maps }: Datapath, netns: bigint, features: Started['features']): Kernel {
  return {
    read: (map, key) => maps[map].lookup(key),
    listens: (port) => slots.some((slot) => maps.listeners.lookup(listenerKeyCodec.encode({ netns, port, slot })) !== undefined),
    anyErrno: features.some(({ id, state }) => id === 'set_retval' && state === 'yes'),
  }
}

/** Throws USAGE, POD_UNKNOWN and POD_NOT_ENROLLED. */
export function explainView(agent: Agent, { features }: Started, query: URLSearchParams): ExplainView {
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
    kernelOf(agent.datapath, netns, features),
  )
  return state === 'enrolled'
    ? view
    : { ...view, notes: [...view.notes, `the pod is ${state}: ${reason ?? 'no reason is known'}; these are the rules that it has`] }
}
