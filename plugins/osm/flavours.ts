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
  fsm: { title: 'FSM', prefix: 'flomesh.io', init: 'fsm-init', label: 'fsm-proxy-uuid', sidecar: 'sidecar', dns: false },
}

export const containerOf = (pod: Pod, name: string): Container | undefined => pod.containers.find((container) => container.name === name)

const monitor = (pod: Pod, { prefix }: Flavour): string | undefined =>
  pod.namespace.labels[`${prefix}/monitored-by`] ?? pod.namespace.annotations[`${prefix}/monitored-by`]

/** What the injector leaves at a pod that it changed. */
const isInjected = (pod: Pod, { label, init }: Flavour): boolean => pod.labels[label] !== undefined || containerOf(pod, init) !== undefined

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
export function injectionOf(pod: Pod, { prefix }: Flavour): { readonly wanted: boolean | undefined; readonly wrong: readonly string[] } {
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

/** Why the mesh has no sidecar in the pod, whoever selects it. */
export function noSidecar(pod: Pod, flavour: Flavour): string | undefined {
  const { prefix } = flavour
  if (pod.namespace.labels[`${prefix}/ignore`] !== undefined) return `its namespace has the label ${prefix}/ignore`
  const { wanted, wrong } = injectionOf(pod, flavour)
  return wanted === false && wrong.length === 0 ? `${prefix}/sidecar-injection says that it shall have no sidecar` : undefined
}

export function isSidecarPod(pod: Pod, options: Options): boolean {
  const flavour = flavourOf(pod, options)
  if (options.excludeNamespaces.includes(pod.namespace.name)) return false
  if (containerOf(pod, flavour.sidecar) === undefined || noSidecar(pod, flavour) !== undefined) return false
  return isInjected(pod, flavour) || (monitor(pod, flavour) !== undefined && injectionOf(pod, flavour).wanted !== undefined)
}
