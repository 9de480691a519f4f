/**
 * The agent's side of acceleration: keeps its programs in place, and turns its switches. Like everything of the datapath it outlives the agent. Live sockets
 * keep the program that they were joined with, so that one is a stub, at `joined` from the beginning; what it calls is exchanged in `accelerators`.
 */
import { unlinkSync } from 'node:fs'
import type { AccelCount, AccelerationControl, AccelPair } from '../acceleration/api.ts'
import { u32Codec, u64Codec } from '../codec.ts'
import { type AccelSettingsRecord, AccelStop, accelSettingsCodec } from '../contract.ts'
import type { BpfMap, BpfObject, BpfProgram, Native } from '../native/api.ts'
import { using, usingAsync } from '../scope.ts'
import { readCounts, readPairs, sweepStale, tidyCounts } from './accelmaps.ts'
import type { AnyMap } from './contents.ts'
import type { Log } from './datapath.ts'
import { attachTypes, acceleration as programs } from './hooks.ts'
import { Latecomers } from './latecomers.ts'
import type { Layout } from './layout.ts'
import { drainOnce } from './leaving.ts'

/** Bytes, until the config says something else. */
const defaultBudget = 4n * 1024n * 1024n

const first = u32Codec.encode(0)

/** What each iterator walks. */
const walked = { drain: 'joined', stale: 'pairs', late: 'sides' } as const
const iterators = Object.keys(walked) as (keyof typeof walked)[]

export interface AccelerationParts {
  readonly native: Native
  readonly layout: Layout
  readonly object: BpfObject
  readonly maps: Readonly<Record<AnyMap, BpfMap>>
  readonly log: Log
  /** Why it is not there. */
  readonly unavailable: string | undefined
  /** Namespaces that are switched off. */
  readonly halted: ReadonlySet<bigint>
  /** Loads the program that decides once more, for a kernel that charges redirected bytes to the receiver, or for one that does not. */
  readonly reload: (charged: boolean) => Promise<BpfObject>
}

/** What must be there before the first socket is joined. */
export function placeAcceleration({ native, object, layout, maps }: Pick<AccelerationParts, 'native' | 'object' | 'layout' | 'maps'>): void {
  using(object.program(programs.decider), (program) => native.setProgram(maps.accelerators, 0, program))
  if (!hasStub(native, maps.joined)) using(object.program(programs.stub), (program) => native.attachMap(program, maps.joined, attachTypes.skMsg))
  for (const name of iterators) putIterator(native, layout, name, object.program(programs[name]), maps[walked[name]])
}

/** false also where the kernel does not tell (before 5.17): one stub is as good as another. */
function hasStub(native: Native, joined: BpfMap): boolean {
  try {
    return native.queryMap(joined, attachTypes.skMsg).length > 0
  } catch {
    return false
  }
}

/** Pinned, because whoever takes this datapath away may be of another version, whose own programs know nothing of these maps. */
function putIterator(native: Native, layout: Layout, name: string, program: BpfProgram, map: BpfMap): void {
  using(program, () => {
    if (layout.accelerationNames().includes(name)) using(native.pinnedLink(layout.acceleration(name)), (link) => link.update(program))
    else using(native.attachIterator(program, map), (link) => link.pin(layout.acceleration(name)))
  })
}

export class Acceleration implements AccelerationControl, Disposable {
  readonly #parts: AccelerationParts
  readonly #halted: Set<bigint>
  readonly #latecomers: Latecomers
  #unavailable: string | undefined

  constructor(parts: AccelerationParts) {
    this.#parts = parts
    this.#unavailable = parts.unavailable
    this.#halted = new Set(parts.halted)
    this.#latecomers = new Latecomers(parts.native, parts.layout, parts.maps.readers)
  }

  get unavailable(): string | undefined {
    return this.#unavailable
  }

  /** Before the first pod is enrolled. Sockets that an earlier agent joined go back to TCP where there is no acceleration any more. */
  begin(how: { readonly built: boolean; readonly replaced: boolean }): void {
    if (how.built) this.setBudget(defaultBudget)
    if (this.unavailable !== undefined) {
      this.stop(AccelStop.KERNEL)
      this.#endReading()
      return
    }
    this.resume(AccelStop.LEAVING) // of a detach that did not come to its end
    if (how.built) return
    if (how.replaced || this.#parts.maps.accelerators.lookup(first) === undefined) placeAcceleration(this.#parts)
    if (how.replaced) this.#endReading()
    this.repair()
  }

  /** Puts back what others have unpinned. */
  repair(): void {
    if (this.unavailable !== undefined) return
    const { layout } = this.#parts
    const missing = iterators.filter((name) => !layout.accelerationNames().includes(name))
    if (missing.length === 0) return
    layout.create()
    placeAcceleration(this.#parts)
    this.#parts.log('warn', 'programs of acceleration were not pinned any more, and are again', { programs: missing })
  }

  /** `wanted`: some pod has a mode. The program runs whenever TCP bytes are read on this node, so it is only there while somebody gains by it. */
  watchReaders(wanted: boolean): void {
    if (this.unavailable !== undefined) return
    const { native, object, layout } = this.#parts
    if (!wanted) this.#endReading()
    if (wanted) this.#latecomers.begin()
    if (!wanted || layout.accelerationNames().includes('reading')) return
    try {
      using(object.program(programs.reading), (program) => using(native.attachTracing(program), (link) => link.pin(layout.acceleration('reading'))))
    } catch (error) {
      this.#unavailable = `the kernel did not attach the program that sees who reads: ${error instanceof Error ? error.message : String(error)}`
      this.stop(AccelStop.KERNEL)
      this.#parts.log('warn', 'no acceleration', { reason: this.#unavailable })
    }
  }

  #endReading(): void {
    this.#latecomers[Symbol.dispose]()
    const { layout } = this.#parts
    if (layout.accelerationNames().includes('reading')) unlinkSync(layout.acceleration('reading'))
  }

  #settings() {
    const value = this.#parts.maps.accel_settings.lookup(first)
    return value === undefined ? { budget: defaultBudget, stopped: 0, quirks: 0 } : accelSettingsCodec.decode(value)
  }

  #set(change: Partial<AccelSettingsRecord>): void {
    this.#parts.maps.accel_settings.update(first, accelSettingsCodec.encode({ ...this.#settings(), ...change }))
  }

  stopped(): number {
    return this.#settings().stopped
  }

  stop(bits: number): void {
    this.#set({ stopped: this.stopped() | bits })
  }

  resume(bits: number): void {
    // What the kernel cannot do, nobody switches on.
    const possible = this.unavailable === undefined ? bits : bits & ~AccelStop.KERNEL
    this.#set({ stopped: this.stopped() & ~possible })
  }

  budget(): bigint {
    return this.#settings().budget
  }

  setBudget(bytes: bigint): void {
    this.#set({ budget: bytes })
  }

  halted(): ReadonlySet<bigint> {
    return this.#halted
  }

  setHalted(netns: bigint, halted: boolean): void {
    const { halted: map } = this.#parts.maps
    if (halted) map.update(u64Codec.encode(netns), u32Codec.encode(1))
    else map.delete(u64Codec.encode(netns))
    if (halted) this.#halted.add(netns)
    else this.#halted.delete(netns)
  }

  /** enum accel_quirk, or-ed: what the self-test has found wrong on this kernel. */
  setQuirks(quirks: number): void {
    this.#set({ quirks })
  }

  /**
   * Whether this kernel charges redirected bytes to the receiver, which only an exchange can show: then the budget is compared with the exact figure.
   * Another program takes the present one's place, for the next message of every connection.
   */
  async setCharged(charged: boolean): Promise<void> {
    if (this.unavailable !== undefined) return
    const { native, maps, reload } = this.#parts
    await usingAsync(await reload(charged), async (object) =>
      using(object.program(programs.decider), (program) => native.setProgram(maps.accelerators, 0, program)),
    )
  }

  /** Looking at the sockets counts what TCP has carried for those that are not joined. */
  async counts(): Promise<AccelCount[]> {
    await this.joinLate()
    return readCounts(this.#parts.maps.accel_counters)
  }

  pairs(): Promise<AccelPair[]> {
    return readPairs(this.#parts.maps.pairs)
  }

  /** Takes every socket out of `joined` that can go without losing a byte. How many stay. */
  drain(): Promise<number> {
    return drainOnce(this.#parts.native, this.#parts.layout)
  }

  /** Removes the entries of connections both of whose ends are gone. How many. */
  async sweep(): Promise<number> {
    return this.unavailable === undefined ? sweepStale(this.#parts.layout, this.#parts.maps.pairs) : 0
  }

  /** What is in the kernel goes on. */
  [Symbol.dispose](): void {
    this.#latecomers[Symbol.dispose]()
  }

  /** Looks now whether sockets may join; it happens by itself, soon after they are read for the first time. */
  async joinLate(): Promise<void> {
    if (this.unavailable === undefined) await this.#latecomers.look()
  }

  /** `known`: netns cookies of the pods that are there, enrolled or not. */
  async tidy(known: ReadonlySet<bigint>): Promise<void> {
    for (const netns of this.#halted) if (!known.has(netns)) this.setHalted(netns, false)
    await tidyCounts(this.#parts.maps.accel_counters, known)
  }
}
