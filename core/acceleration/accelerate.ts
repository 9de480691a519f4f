/**
 * `merbridge accelerate on|off [POD]`, in the agent: sets the switch in the kernel, and says what else keeps acceleration off. The switches are there also where
 * the kernel cannot accelerate: what is off stays off when what it lacks comes back, as after another config.
 */
import type { Agent } from '../agent.ts'
import { AccelStop } from '../contract.ts'
import type { Outcome } from '../enrol.ts'
import { MerbridgeError } from '../errors.ts'
import { nodeOff, podOff } from '../observe/acceleration.ts'
import { findPod } from '../pods/named.ts'
import { podTitle } from '../pods/static.ts'
import { byOperator } from './mode.ts'
import type { AccelerateView } from './view.ts'

type Switch = AccelerateView['switch']

function switchOf(query: URLSearchParams): Switch {
  const word = query.get('switch')
  if (word === 'on' || word === 'off') return word
  throw new MerbridgeError(
    'USAGE',
    `"${(word ?? '').slice(0, 40)}" is neither on nor off`,
    'Say: merbridge accelerate on, or: merbridge accelerate off.',
  )
}

function accelerateNode(agent: Agent, to: Switch): AccelerateView {
  const { acceleration } = agent.datapath
  const changed = ((acceleration.stopped() & AccelStop.OPERATOR) !== 0) !== (to === 'off')
  if (to === 'off') acceleration.stop(AccelStop.OPERATOR)
  else acceleration.resume(AccelStop.OPERATOR)
  const overrides = nodeOff(agent, AccelStop.OPERATOR)
  return { switch: to, changed, accelerating: to === 'on' && overrides.length === 0, overrides }
}

function outcomeOf(agent: Agent, name: string): Outcome & { readonly netns: bigint } {
  const titled = agent.outcomes.map((outcome) => ({ name: outcome.pod.name, namespace: outcome.pod.namespace.name, outcome }))
  const { outcome } = findPod(titled, name)
  const { netns } = outcome
  if (netns !== undefined) return { ...outcome, netns }
  throw new MerbridgeError(
    'POD_NOT_ENROLLED',
    `the pod ${podTitle(outcome.pod)} has no network namespace yet`,
    'Switch it when it is there, or give it the annotation merbridge.io/acceleration: none.',
  )
}

async function acceleratePod(agent: Agent, to: Switch, name: string): Promise<AccelerateView> {
  const { acceleration } = agent.datapath
  const { netns, pod } = outcomeOf(agent, name)
  const changed = acceleration.halted().has(netns) !== (to === 'off')
  acceleration.setHalted(netns, to === 'off')
  await agent.switched()
  const now = outcomeOf(agent, podTitle(pod))
  const overrides = [...nodeOff(agent), ...(now.acceleration?.why === byOperator ? [] : podOff(now, agent.datapath.have.accelerated))]
  return { pod: podTitle(pod), switch: to, changed, accelerating: to === 'on' && overrides.length === 0, overrides }
}

export async function accelerate(agent: Agent, query: URLSearchParams): Promise<AccelerateView> {
  const to = switchOf(query)
  const pod = query.get('pod')
  return pod === null ? accelerateNode(agent, to) : acceleratePod(agent, to, pod)
}
