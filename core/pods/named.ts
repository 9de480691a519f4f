/** Finds what an operator means by a pod's name. */
import { listed, nearest } from '../config/nearest.ts'
import { MerbridgeError } from '../errors.ts'

interface Named {
  readonly name: string
  readonly namespace: string
}

const title = (pod: Named) => `${pod.namespace}/${pod.name}`

/** NAME, where it is unique, or NAMESPACE/NAME. Throws POD_UNKNOWN with the names that are near. */
export function findPod<Pod extends Named>(pods: readonly Pod[], name: string): Pod {
  const found = pods.filter((pod) => title(pod) === name || pod.name === name)
  const [first] = found
  if (first !== undefined && found.length === 1) return first
  if (found.length > 1) {
    throw new MerbridgeError('POD_UNKNOWN', `several pods have the name "${name}"`, `Give one of ${listed(found.map(title))}.`)
  }
  const close = nearest(name, [...new Set(pods.flatMap((pod) => [title(pod), pod.name]))]).slice(0, 3)
  const hint = close.length > 0 ? `Did you mean ${listed(close)}?` : 'List the pods with: merbridge pods'
  throw new MerbridgeError('POD_UNKNOWN', `the config lists no pod "${name}"`, hint)
}
