/**
 * Live decisions for those who watch. The kernel is told to sample only while somebody does, for five seconds at a time: an agent that is killed
 * leaves nothing on. Viewers share one ring; what one of them cannot take is lost to it, counted, and told. Nothing is kept for anybody.
 */
import type { Agent } from '../agent.ts'
import { u32Codec } from '../codec.ts'
import { type EventRecord, eventCodec, type MonitoringRecord, monitoringCodec } from '../contract.ts'
import { MerbridgeError } from '../errors.ts'
import type { Handle } from '../native/api.ts'
import { podTitle } from '../pods/static.ts'
import type { EventView, LostView } from '../views.ts'
import { eventView, type KnownPod } from './events.ts'
import { type EventFilter, wants } from './filter.ts'

/** Somebody who watches. */
export interface Viewer {
  readonly filter: EventFilter
  /** false: there is no room now, and the event is lost to this viewer. */
  send(view: EventView | LostView): boolean
  /** The agent ends. */
  end(): void
}

const maxViewers = 8
const renewMs = 1000
/** Nanoseconds. */
const lifetime = 5_000_000_000n
/** Events in a second that are decoded; the event loop has other work too. */
const mostPerSecond = 10_000
const only = u32Codec.encode(0)

const off: MonitoringRecord = { until: 0n, netns: 0n, sample: 0 }

/** What the kernel must tell so that every viewer can have its share. */
export function union(filters: readonly EventFilter[], netnsOf: (pod: string) => bigint | undefined, now: bigint): MonitoringRecord {
  if (filters.length === 0) return off
  const [first] = filters
  const same = first?.pod !== undefined && filters.every(({ pod }) => pod === first.pod) ? first.pod : undefined
  const netns = same === undefined ? undefined : netnsOf(same)
  return { until: now + lifetime, netns: netns ?? 0n, sample: Math.min(...filters.map(({ sample }) => sample)) }
}

/** The kernel chose one in `event.sampled`; a viewer that wants fewer gets its share of those. */
const sampledFor = (filter: EventFilter, sampled: number): boolean => filter.sample <= sampled || Math.random() * filter.sample < sampled

export class Monitor implements Disposable {
  readonly #agent: Agent
  /** Viewer -> events that it has not been told to have lost. */
  readonly #viewers = new Map<Viewer, number>()
  #pods: ReadonlyMap<bigint, KnownPod> = new Map()
  #podsOf: unknown
  #ring: Handle | undefined
  #timer: NodeJS.Timeout | undefined
  #since = 0n
  #lost = 0n
  #room = mostPerSecond
  #over = 0

  constructor(agent: Agent) {
    this.#agent = agent
    const written = agent.datapath.maps.monitoring.lookup(only)
    if (written !== undefined && monitoringCodec.decode(written).sample !== 0) this.#tell(off) // the last agent was killed while somebody watched
  }

  /** From now on; call what is returned when the viewer has left. Throws MONITOR_BUSY. */
  watch(viewer: Viewer): () => void {
    if (this.#viewers.size >= maxViewers) {
      throw new MerbridgeError('MONITOR_BUSY', `${maxViewers} watch already`, 'End one of the other "merbridge monitor" commands first.')
    }
    this.#viewers.set(viewer, 0)
    try {
      if (this.#ring === undefined) this.#open()
      this.#renew()
    } catch (error) {
      this.#leave(viewer)
      throw error
    }
    return () => this.#leave(viewer)
  }

  [Symbol.dispose](): void {
    for (const viewer of [...this.#viewers.keys()]) {
      this.#leave(viewer)
      viewer.end()
    }
  }

  #open(): void {
    const { maps, native } = this.#agent.datapath
    this.#since = process.hrtime.bigint() // what is older was left in the ring by an earlier watch
    this.#lost = this.#lostInKernel()
    this.#room = mostPerSecond
    this.#ring = native.ringBuffer(maps.events, (record) => this.#take(record))
    this.#timer = setInterval(() => this.#everySecond(), renewMs).unref()
  }

  #leave(viewer: Viewer): void {
    if (!this.#viewers.delete(viewer)) return
    if (this.#viewers.size > 0) {
      this.#renew()
      return
    }
    clearInterval(this.#timer)
    this.#tell(off)
    this.#ring?.close()
    this.#ring = undefined
  }

  #tell(settings: MonitoringRecord): void {
    this.#agent.datapath.maps.monitoring.update(only, monitoringCodec.encode(settings))
  }

  #renew(): void {
    const netnsOf = (pod: string) => this.#agent.outcomes.find((outcome) => podTitle(outcome.pod) === pod)?.netns
    const filters = [...this.#viewers.keys()].map(({ filter }) => filter)
    this.#tell(union(filters, netnsOf, process.hrtime.bigint()))
  }

  #everySecond(): void {
    this.#renew()
    const lost = this.#lostInKernel()
    const missing = Number(lost - this.#lost) + this.#over
    this.#lost = lost
    this.#over = 0
    this.#room = mostPerSecond
    for (const [viewer, before] of this.#viewers) {
      this.#viewers.set(viewer, before + missing)
      this.#confess(viewer)
    }
  }

  #lostInKernel(): bigint {
    return this.#agent.datapath.maps.events_lost.lookup(only)?.readBigUInt64LE() ?? 0n
  }

  /** Tells a viewer what it has lost. false: it has no room for that either. */
  #confess(viewer: Viewer): boolean {
    const lost = this.#viewers.get(viewer) ?? 0
    if (lost === 0) return true
    if (!viewer.send({ lost })) return false
    this.#viewers.set(viewer, 0)
    return true
  }

  #take(record: Buffer): void {
    if (this.#room <= 0) {
      this.#over++
      return
    }
    this.#room--
    const event = eventCodec.decode(record)
    if (event.time < this.#since) return
    const view = eventView(event, wallClock(event), this.#podOf(event.netns))
    for (const viewer of this.#viewers.keys()) {
      if (!wants(viewer.filter, view) || !sampledFor(viewer.filter, event.sampled)) continue
      if (!this.#confess(viewer) || !viewer.send(view)) this.#viewers.set(viewer, (this.#viewers.get(viewer) ?? 0) + 1)
    }
  }

  /** Also a pod that has just left: its last events are still on their way. */
  #podOf(netns: bigint): KnownPod {
    const { enrolment, outcomes } = this.#agent
    if (this.#podsOf !== enrolment) {
      const present = outcomes.flatMap(({ pod, netns: cookie }) =>
        cookie === undefined ? [] : [[cookie, { title: podTitle(pod), compiled: enrolment?.desired.pods.get(cookie) }] as const],
      )
      const left = [...this.#pods].filter(([, { compiled }]) => compiled !== undefined).map(([cookie, { title }]) => [cookie, { title }] as const)
      this.#pods = new Map<bigint, KnownPod>([...left, ...present])
      this.#podsOf = enrolment
    }
    return this.#pods.get(netns) ?? { title: `network namespace ${netns}` }
  }
}

const wallClock = ({ time }: EventRecord): number => Date.now() - Number(process.hrtime.bigint() - time) / 1e6
