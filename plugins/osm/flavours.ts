/** OSM and what became of it: osm-edge, and FSM, its living successor. They differ in names; and which pods have their sidecar. */
import type { Container, Pod } from '../../core/plugin.ts'
import { short } from '../shared/text.ts'
import type { Options } from './options.ts'

export interface Flavour {
  readonly title: string
  /** Of its annotations and labels */
  readonly prefix: string
  /** Containers: the sidecar, and the one that writes the rules */
  readonly sidecar: string
  readonly init: string
  /** Label that the injector gives to a pod */
  readonly label: string
  /** Has a rule for its DNS proxy */
  readonly dns: boolean
}

const openServiceMesh = { prefix: 'openservicemesh.io', init: 'osm-init', label: 'osm-proxy-uuid' }

export const flavours: Readonly<Record<NonNullable<Options['flavour']>, Flavour>> = {
  osm: { title: 'OSM', ...openServiceMesh, sidecar: 'envoy', dns: false },
  'osm-edge': { title: 'osm-edge', ...openServiceMesh, sidecar: 'sidecar', dns: true },
  fsm: { title: 'FSM', prefix: 'flomesh.io', init: 'fsm-init', label: 'fsm-proxy-uuid', sidecar: 'sidecar', dns: true },
}

export const containerOf = (pod: Pod, name: string): Container | undefined => pod.containers.find((container) => container.name === name)

const monitor = (pod: Pod, { prefix }: Flavour): string | undefined => pod.namespace.labels[`${prefix}/monitored-by`]

/** What the injector leaves at a pod that it changed. */
export const isInjected = (pod: Pod, { label, init }: Flavour): boolean => pod.labels[label] !== undefined || containerOf(pod, init) !== undefined

const speaksOf = (pod: Pod, { prefix }: Flavour): boolean => Object.keys(pod.annotations).some((name) => name.startsWith(`${prefix}/`))

/** By what the injector left, else by whose names the pod and its namespace use. */
function detected(pod: Pod): Flavour {
  const { osm, 'osm-edge': edge, fsm } = flavours
  const sayFsm = [isInjected, monitor, speaksOf].find((says) => Boolean(says(pod, fsm)) !== Boolean(says(pod, osm)))
  if (sayFsm?.(pod, fsm)) return fsm
  return containerOf(pod, edge.sidecar) !== undefined && containerOf(pod, osm.sidecar) === undefined ? edge : osm
}

export const flavourOf = (pod: Pod, { flavour }: Options): Flavour => (flavour === undefined ? detected(pod) : flavours[flavour])

const words: ReadonlyMap<string, boolean> = new Map([
  ...['enabled', 'yes', 'true'].map((word) => [word, true] as const),
  ...['disabled', 'no', 'false'].map((word) => [word, false] as const),
])

/** Shall the pod have a sidecar? The pod's annotation comes before that of its namespace. `wrong`: values that no pod is created with. */
function injectionOf(pod: Pod, { prefix }: Flavour): { readonly wanted: boolean | undefined; readonly wrong: readonly string[] } {
  const key = `${prefix}/sidecar-injection`
  const texts = [
    { where: `annotation ${key}`, text: pod.annotations[key] },
    { where: `annotation ${key} of the namespace`, text: pod.namespace.annotations[key] },
  ].flatMap(({ where, text }) => (text === undefined ? [] : [{ where, text, wanted: words.get(text.toLowerCase()) }]))
  const wrong = texts.filter(({ wanted }) => wanted === undefined)
  return {
    wanted: texts[0]?.wanted,
    wrong: wrong.map(({ where, text }) => `${where}: expected enabled, yes, true, disabled, no or false, got '${short(text)}'`),
  }
}

const ignoreLabel = ({ prefix }: Flavour): string => `${prefix}/ignore`

/** What says that the pod shall have no sidecar, or that nobody creates it. The mesh reads it when a pod is created, so it is nothing to one that has been injected. */
function against(pod: Pod, flavour: Flavour): { readonly unwanted?: string; readonly ignored: boolean; readonly wrong: readonly string[] } {
  const { wanted, wrong } = injectionOf(pod, flavour)
  const unwanted = `${flavour.prefix}/sidecar-injection says that it shall have no sidecar`
  return { ...(wanted === false && { unwanted }), ignored: pod.namespace.labels[ignoreLabel(flavour)] !== undefined, wrong }
}

/** Why the mesh has no sidecar in the pod, whoever selects it. */
export function noSidecar(pod: Pod, flavour: Flavour): string | undefined {
  if (isInjected(pod, flavour)) return undefined
  const { unwanted, ignored, wrong } = against(pod, flavour)
  if (ignored) return `its namespace has the label ${ignoreLabel(flavour)}`
  return wrong.length === 0 ? unwanted : undefined
}

/** Values of the injection's annotation that the mesh creates no pod with. */
export const wrongInjection = (pod: Pod, flavour: Flavour): readonly string[] => (isInjected(pod, flavour) ? [] : injectionOf(pod, flavour).wrong)

/** One warning, when something speaks against the sidecar that the pod has. */
export function warnOfLateWords(pod: Pod, flavour: Flavour): void {
  if (!isInjected(pod, flavour)) return
  const { unwanted, ignored, wrong } = against(pod, flavour)
  const words = [...(unwanted === undefined ? [] : [unwanted]), ...(ignored ? [`its namespace has the label ${ignoreLabel(flavour)}`] : []), ...wrong]
  if (words.length === 0) return
  pod.warn(
    `${words.join(' and ')}; ${flavour.title} reads that when it creates a pod, and this one has its sidecar already: it has no effect until the pod is created again`,
  )
}

export function isSidecarPod(pod: Pod, options: Options): boolean {
  const flavour = flavourOf(pod, options)
  if (options.excludeNamespaces.includes(pod.namespace.name) || containerOf(pod, flavour.sidecar) === undefined) return false
  if (isInjected(pod, flavour)) return true
  return noSidecar(pod, flavour) === undefined && monitor(pod, flavour) !== undefined && injectionOf(pod, flavour).wanted !== undefined
}
