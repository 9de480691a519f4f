/** Which pods have a sidecar, and what Kuma's injector says of them. */
import type { Container, Pod } from '../../core/plugin.ts'
import { short } from '../shared/text.ts'
import type { Options } from './options.ts'
import { enabled } from './values.ts'

export const sidecarOf = (pod: Pod): Container | undefined => pod.containers.find(({ name }) => name === 'kuma-sidecar')
export const initOf = (pod: Pod): Container | undefined => pod.containers.find(({ name }) => name === 'kuma-init')

const injection = 'kuma.io/sidecar-injection'

/** The label of the pod, or where it has none that of its namespace; 'wrong': Kuma cannot read it and starts nothing. */
function labelled(pod: Pod): boolean | 'wrong' | undefined {
  const text = pod.labels[injection] ?? pod.namespace.labels[injection]
  if (text === undefined) return undefined
  try {
    return enabled(text)
  } catch {
    return 'wrong'
  }
}

/** What is wrong with the label; undefined: nothing. */
export function wrongLabel(pod: Pod): string | undefined {
  if (labelled(pod) !== 'wrong') return undefined
  const own = pod.labels[injection]
  const where = own === undefined ? `label ${injection} of the namespace` : `label ${injection}`
  return `${where}: expected enabled, disabled, true, false, yes or no, got '${short(own ?? pod.namespace.labels[injection] ?? '')}'`
}

/** The pod's own word; that of its namespace may have changed since the pod was started. */
export const noSidecar = (pod: Pod): boolean => pod.labels[injection] !== undefined && labelled(pod) === false

/** As kuma-cni asks; pods that nobody injected into tell by their label. */
export function isSidecarPod(pod: Pod, { setup, excludeNamespaces }: Options): boolean {
  if (excludeNamespaces.includes(pod.namespace.name) || sidecarOf(pod) === undefined) return false
  if (setup === 'cni' && initOf(pod) !== undefined) return false
  if (noSidecar(pod)) return false
  const injected = pod.annotations['kuma.io/sidecar-injected']
  if (injected !== undefined) return injected === 'true'
  const label = labelled(pod)
  return label === true || label === 'wrong'
}

const own = ['kuma-sidecar', 'kuma-init', 'kuma-validation']

/** Containers besides Kuma's own that run as the sidecar's user: nothing of theirs is captured. */
export const namesakes = (pod: Pod, uid: number): readonly string[] =>
  pod.containers.filter((each) => each.uid === uid && !own.includes(each.name)).map(({ name }) => name)
