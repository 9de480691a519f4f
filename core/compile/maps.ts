/** The maps that the agent fills, as complete desired contents, and what does not fit into them. */
import { MerbridgeError } from '../errors.ts'
import type { Entry } from '../native/api.ts'

export const mapNames = ['policies', 'port_sets', 'owner_sets', 'cidr_sets', 'routes', 'proxy_ports', 'nat_pods', 'accelerated', 'pods'] as const
export type MapName = (typeof mapNames)[number]

/** Hexadecimal key -> entry. */
export type MapContent = ReadonlyMap<string, Entry>
export type MapContents = Readonly<Record<MapName, MapContent>>

export type Capacities = Readonly<Record<MapName, number>>

/** `subject` is what does not fit: "default/web", "outbound rule 3 'all'". */
export const compileError = (subject: string, message: string, hint: string): MerbridgeError =>
  new MerbridgeError('COMPILE_FAILED', `${subject}: ${message}`, hint)

/** Collects entries and refuses the first one that a map has no room for. */
export class MapBuilder {
  readonly #capacities: Capacities
  readonly #contents: Record<MapName, Map<string, Entry>>
  /** What `whole` would have to take back. */
  #added: [MapName, string][] = []

  constructor(capacities: Capacities) {
    this.#capacities = capacities
    this.#contents = Object.fromEntries(mapNames.map((name) => [name, new Map<string, Entry>()])) as Record<MapName, Map<string, Entry>>
  }

  /** `subject` names the pod and, where there is one, the set that the entry belongs to. */
  add(map: MapName, key: Buffer, value: Buffer, subject: string): void {
    const content = this.#contents[map]
    const id = key.toString('hex')
    if (content.size >= this.#capacities[map] && !content.has(id)) {
      throw compileError(
        subject,
        `map ${map} is full: it holds ${this.#capacities[map]} entries`,
        map === 'routes'
          ? 'Its network namespace has too many routes; see: ip route show table all, in the pod.'
          : 'List fewer ports, networks or pods; adjacent ports and networks need fewer entries when they are written as a range or as one network.',
      )
    }
    if (!content.has(id)) this.#added.push([map, id])
    content.set(id, { key, value })
  }

  /** All that `work` adds, or nothing when it throws. */
  whole(work: () => void): void {
    this.#added = []
    try {
      work()
    } catch (error) {
      for (const [map, id] of this.#added) this.#contents[map].delete(id)
      throw error
    }
  }

  contents(): MapContents {
    return this.#contents
  }
}
