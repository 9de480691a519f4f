/** Which pods have Linkerd's proxy, and where Linkerd's annotations stand. */
import type { Container, Pod } from '../../core/plugin.ts'
import { short } from '../shared/text.ts'
import type { Options } from './options.ts'

const named = (pod: Pod, wanted: string): Container | undefined => pod.containers.find(({ name }) => name === wanted)

/** A native sidecar stands among the init containers, and here as well. */
export const proxyOf = (pod: Pod): Container | undefined => named(pod, 'linkerd-proxy')
export const initOf = (pod: Pod): Container | undefined => named(pod, 'linkerd-init')

/** Installed with a proxy, not injected: annotations and labels about injection do not concern it. */
export const isControlPlane = (pod: Pod): boolean => (pod.labels['linkerd.io/control-plane-component'] ?? '') !== ''

export interface Annotation {
  /** For messages: with whose it is. */
  readonly title: string
  readonly text: string
}

/**
 * The pod's annotation, else its namespace's. Linkerd's injector copies those of the namespace onto the pod where it has none, and an empty one counts; the CNI plugin takes an
 * empty one for none.
 */
export function annotationOf(pod: Pod, name: string, setup: Options['setup']): Annotation | undefined {
  const found = [
    { title: `annotation ${name}`, text: pod.annotations[name] },
    { title: `annotation ${name} of namespace ${pod.namespace.name}`, text: pod.namespace.annotations[name] },
  ]
  for (const { title, text } of found) {
    if (text !== undefined && (setup === 'init' || text !== '')) return { title, text }
  }
  return undefined
}

const injectName = 'linkerd.io/inject'
const injectValues = ['', 'enabled', 'ingress', 'disabled']

/** A value that Linkerd does not know, on the pod or on its namespace: it injects nothing then. */
export function unknownInject(pod: Pod): string | undefined {
  if (isControlPlane(pod)) return undefined
  const found = [
    [`annotation ${injectName} of namespace ${pod.namespace.name}`, pod.namespace.annotations[injectName] ?? ''],
    [`annotation ${injectName}`, pod.annotations[injectName] ?? ''],
  ] as const
  const [unknown] = found.filter(([, text]) => !injectValues.includes(text))
  return unknown && `${unknown[0]}: expected enabled, ingress or disabled, got '${short(unknown[1])}'; Linkerd injects no proxy with it`
}

/** Why Linkerd gives the pod no proxy, whoever selects it; undefined: it does, or it cannot be told. */
export function notInjected(pod: Pod): string | undefined {
  if (isControlPlane(pod)) return undefined
  const asked = pod.annotations[injectName] || pod.namespace.annotations[injectName]
  return asked === 'disabled' ? `${injectName} says that it shall have no proxy` : unknownInject(pod)
}

const webhooksLabel = 'config.linkerd.io/admission-webhooks'

export function isMeshed(pod: Pod, { setup, excludeNamespaces }: Options): boolean {
  if (excludeNamespaces.includes(pod.namespace.name) || proxyOf(pod) === undefined) return false
  if (setup === 'cni' && initOf(pod) !== undefined) return false
  if (isControlPlane(pod)) return true
  return pod.namespace.labels[webhooksLabel] !== 'disabled' && notInjected(pod) === undefined
}
