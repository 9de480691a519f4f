/**
 * Pods that still have NAT rules of their own, from before they were enrolled or written since. Nothing tells when rules come or go, so all pods are
 * asked in turn, each at least every ten seconds (0.4 ms for each), and one that is new at once: before it is enrolled.
 */
import { listed } from '../config/nearest.ts'
import type { Log } from '../datapath/datapath.ts'
import type { Namespaces } from '../native/api.ts'
import { type Placement, podTitle } from './static.ts'

/** Looks until all pods have been asked. */
const round = 10

interface Known {
  readonly title: string
  readonly path: string
  /** Where its rules redirect to, as was seen last; undefined: it has none. */
  ports: readonly number[] | undefined
  /** Has, or had: conntrack remembers the connections of rules that are gone. */
  had: boolean
}

export class RuleWatch {
  readonly #namespaces: Namespaces
  readonly #log: Log
  /** By netns cookie; who was asked longest ago comes first. */
  readonly #known = new Map<bigint, Known>()
  /** Those that had rules when an earlier agent looked. */
  readonly #earlier: Set<bigint>

  constructor(namespaces: Namespaces, earlier: Iterable<bigint>, log: Log) {
    this.#namespaces = namespaces
    this.#earlier = new Set(earlier)
    this.#log = log
  }

  has(netns: bigint | undefined): boolean {
    return netns !== undefined && this.#known.get(netns)?.ports !== undefined
  }

  /** The rules and the config are of different minds about the proxy's ports. */
  warning(netns: bigint | undefined, proxyPorts: readonly number[]): string | undefined {
    const ports = netns === undefined ? [] : (this.#known.get(netns)?.ports ?? [])
    const other = ports.filter((port) => !proxyPorts.includes(port))
    if (other.length === 0 || proxyPorts.length === 0) return undefined
    const [theirs, ours] = [listed(other.map(String), 'and'), listed(proxyPorts.map(String), 'and')]
    return `its own iptables rules redirect to port ${theirs}, the config to ${ours}: connections go where the config says; if the sidecar listens where the rules say, correct the config's options`
  }

  had(netns: bigint): boolean {
    return this.#known.get(netns)?.had === true
  }

  /** Changes when a pod is found to have rules for the first time. */
  get signature(): string {
    return [...this.#known.keys()]
      .filter((netns) => this.had(netns))
      .sort()
      .join()
  }

  /** Asks those that are new, and some of the others. */
  async look(placements: readonly Placement[]): Promise<void> {
    const present = new Map(placements.flatMap((placement) => ('state' in placement ? [[placement.state.cookie, placement.pod] as const] : [])))
    for (const netns of this.#known.keys()) if (!present.has(netns)) this.#known.delete(netns)
    const due = [...this.#known.keys()].slice(0, Math.ceil(this.#known.size / round))
    const fresh = [...present.keys()].filter((netns) => !this.#known.has(netns))
    for (const [netns, pod] of present) {
      if (!this.#known.has(netns))
        this.#known.set(netns, { title: podTitle(pod), path: pod.netns, ports: undefined, had: this.#earlier.delete(netns) })
    }
    await this.#ask([...due, ...fresh])
  }

  /** The pods, with whether they have or had rules. */
  marked(placements: readonly Placement[]): Placement[] {
    return placements.map((placement) => ('state' in placement ? { ...placement, natRules: this.had(placement.state.cookie) } : placement))
  }

  /** Asks all of them, for somebody who wants to know now. */
  lookAgain(): Promise<void> {
    return this.#ask([...this.#known.keys()])
  }

  async #ask(cookies: readonly bigint[]): Promise<void> {
    await Promise.all(
      cookies.map(async (netns) => {
        const known = this.#known.get(netns)
        if (known === undefined) return
        try {
          this.#note(known, await this.#namespaces.natPorts(known.path))
        } catch {
          // The namespace went away, which the next look says; or the kernel had no memory: what was seen last stays.
        }
        if (this.#known.get(netns) !== known) return
        this.#known.delete(netns) // to the end of the queue
        this.#known.set(netns, known)
      }),
    )
  }

  #note(known: Known, ports: readonly number[] | undefined): void {
    const [has, had] = [ports !== undefined, known.ports !== undefined]
    if (has && !had) this.#log('warn', 'the pod has iptables rules of its own as well', { pod: known.title })
    if (!has && had) this.#log('info', 'the pod has no iptables rules of its own any more', { pod: known.title })
    known.ports = ports
    known.had ||= has
  }
}
