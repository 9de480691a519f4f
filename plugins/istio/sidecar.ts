/** Which pods have a sidecar, and what its container says. */
import type { Container, Kit, Pod } from '../../core/plugin.ts'
import { short } from '../shared/text.ts'
import type { Options } from './options.ts'

export const sidecarOf = (pod: Pod): Container | undefined => pod.containers.find(({ name }) => name === 'istio-proxy')
const initOf = (pod: Pod): Container | undefined => pod.containers.find(({ name }) => name === 'istio-init')

/** Where istiod injects nothing, whatever labels say. */
const neverInjected = ['kube-system', 'kube-public', 'kube-node-lease', 'local-path-storage']

const injectKey = 'sidecar.istio.io/inject'
/** The label beats the annotation. */
const injectOf = (pod: Pod): string => pod.labels[injectKey] ?? pod.annotations[injectKey] ?? ''

/** undefined: Istio cannot read it and goes on as if it were not there. */
function truth(text: string, { boolean }: Kit): boolean | undefined {
  try {
    return boolean(text)
  } catch {
    return undefined
  }
}

/** What Istio's injector (init) or its CNI plugin (cni) makes of the label or annotation `inject`. */
function injectWanted(text: string, setup: Options['setup'], kit: Kit): boolean | undefined {
  return setup === 'init'
    ? new Map([
        ['true', true],
        ['false', false],
      ]).get(text)
    : truth(text, kit)
}

/** Why Istio sets up nothing in a pod, whoever selects it: a proxy that is no sidecar is a gateway; DISABLE_ENVOY is set for apps that speak the mesh's protocol themselves. */
export function noSidecar(pod: Pod, setup: Options['setup'], kit: Kit): string | undefined {
  const { args = [], env = {} } = sidecarOf(pod) ?? {}
  const [command, role = ''] = args
  if (truth(env.DISABLE_ENVOY ?? '', kit) === true) return 'DISABLE_ENVOY: the app is its own proxy'
  if (command === 'proxy' && role !== '' && role !== 'sidecar')
    return `its proxy has the arguments "proxy ${short(role)}": it is a gateway, not a sidecar`
  return injectWanted(injectOf(pod), setup, kit) === false ? `${injectKey} says that it shall have no sidecar` : undefined
}

/** In the order in which istio-cni asks. */
export function isSidecarPod(pod: Pod, { setup, excludeNamespaces }: Options, kit: Kit): boolean {
  if (excludeNamespaces.includes(pod.namespace.name)) return false
  if (setup === 'init' && neverInjected.includes(pod.namespace.name)) return false
  if (setup === 'cni' && initOf(pod) !== undefined) return false
  if (sidecarOf(pod) === undefined || noSidecar(pod, setup, kit) !== undefined) return false
  return pod.annotations['sidecar.istio.io/status'] !== undefined
}

/**
 * The environment that Istio's rules are made from: of the container istio-proxy, and with init of istio-init, which gets the same variables from
 * the proxy's configuration.
 */
export const environmentOf = (pod: Pod, setup: Options['setup']): Container['env'] => ({
  ...sidecarOf(pod)?.env,
  ...(setup === 'init' ? initOf(pod)?.env : {}),
})

/** The variable that is true, if one is. What is neither true nor false counts as false, with a warning. */
export function trueAmong(pod: Pod, environment: Container['env'], names: readonly string[], kit: Kit): string | undefined {
  const all = names.filter((name) => {
    const text = environment[name]
    const value = text === undefined ? false : truth(text, kit)
    if (value === undefined) pod.warn(`environment variable ${name}: expected true or false, got '${short(text ?? '')}'; Istio takes it for false`)
    return value
  })
  return all[0]
}

/** Says what Istio ignores without a word to the pod's owner. */
export function warnOfIgnored(pod: Pod, setup: Options['setup'], kit: Kit): void {
  const inject = injectOf(pod)
  if (inject !== '' && injectWanted(inject, setup, kit) === undefined) {
    const kind = pod.labels[injectKey] === undefined ? 'annotation' : 'label'
    pod.warn(`${kind} ${injectKey}: expected true or false, got '${short(inject)}'; Istio ignores it`)
  }
  trueAmong(pod, sidecarOf(pod)?.env ?? {}, ['DISABLE_ENVOY'], kit)
}
