/**
 * The agent's side of acceleration: keeps its programs in place, and turns its switches. Like everything of the datapath it outlives the agent. Live sockets
 * keep the program that they were joined with, so that one is a stub, at `joined` from the beginning; what it calls is exchanged in `accelerators`.
 */
import { renameSync, unlinkSync } from 'node:fs'
import type { AccelCount, AccelerationControl, AccelPair } from '../acceleration/api.ts'
import { u32Codec, u64Codec } from '../codec.ts'
import { type AccelSettingsRecord, AccelStop, accelSettingsCodec } from '../contract.ts'
import type { BpfMap, BpfObject, BpfProgram, Native } from '../native/api.ts'
import { using } from '../scope.ts'
import { readCounts, readEnds, readPairs, sweepStale, tidyCounts } from './accelmaps.ts'
import type { AnyMap } from './contents.ts'
import type { Log } from './datapath.ts'
import { attachTypes, acceleration as programs } from './hooks.ts'
import { Latecomers } from './latecomers.ts'
import type { Layout } from './layout.ts'
import { drainOnce } from './leaving.ts'
import { type Looker, Looking } from './looker.ts'
import { Nudges } from './nudges.ts'

/** Bytes, until the config says something else. */
const defaultBudget = 4n * 1024n * 1024n

const first = u32Codec.encode(0)

/** The link of a new program, until it has the place of the old one. */
const nextReading = 'reading-next'

/** What each iterator walks: a map, or the sockets of the namespace that it is read in. Which one `late` is, the kernel decides. */
const walked = { drain: 'joined', stale: 'pairs', nudge: undefined } as const
const lookers = { mb_late: 'sides', mb_walk: undefined } as const
const iterators = ['drain', 'stale', 'nudge', 'late'] as const

export interface AccelerationParts {
  readonly native: Native
  readonly layout: Layout
  readonly object: BpfObject
  /** Decides about messages; belongs to the acceleration. undefined where there is none. */
  readonly decider: BpfProgram | undefined
  readonly maps: Readonly<Record<AnyMap, BpfMap>>
  readonly log: Log
  readonly looker: Looker
  /** Namespaces of accelerated pods. */
  readonly accelerated: () => Iterable<bigint>
  /** Why it is not there. */
  readonly unavailable: string | undefined
  /** Namespaces that are switched off. */
  readonly halted: ReadonlySet<bigint>
  /** Loads the program that decides once more, for a kernel that charges redirected bytes to the receiver, or for one that does not. */
  readonly reload: (charged: boolean) => Promise<BpfProgram>
}

/** What must be there before the first socket is joined. */
export function placeAcceleration(parts: Pick<AccelerationParts, 'native' | 'object' | 'decider' | 'layout' | 'maps' | 'looker'>): void {
  const { native, object, decider, layout, maps, looker } = parts
  if (decider !== undefined) native.setProgram(maps.accelerators, 0, decider)
  if (!hasStub(native, maps.joined)) using(object.program(programs.stub), (program) => native.attachMap(program, maps.joined, attachTypes.skMsg))
  for (const name of iterators) {
    const map = name === 'late' ? lookers[looker] : walked[name]
    putIterator(native, layout, name, object.program(name === 'late' ? looker : programs[name]), map && maps[map])
  }
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
function putIterator(native: Native, layout: Layout, name: string, program: BpfProgram, map: BpfMap | undefined): void {
  using(program, () => {
    const path = layout.acceleration(name)
    if (layout.accelerationNames().includes(name) && takesProgram(native, path, program)) return
    using(native.attachIterator(program, map), (link) => link.pin(path))
  })
}

/** A link cannot be given a program that walks something else: then it goes. */
function takesProgram(native: Native, path: string, program: BpfProgram): boolean {
  try {
    using(native.pinnedLink(path), (link) => link.update(program))
    return true
  } catch {
    unlinkSync(path)
    return false
  }
}

export class Acceleration implements AccelerationControl, Disposable {
  readonly #parts: AccelerationParts
  readonly #halted: Set<bigint>
  readonly #latecomers: Latecomers
  readonly #nudges: Nudges
  readonly looking: Looking
  #unavailable: string | undefined
  #decider: BpfProgram | undefined
  /** There is something to look at: sockets were seen reading, perhaps by a program that nobody has judged, or want to leave. */
  onReader: () => void = () => {}

  constructor(parts: AccelerationParts) {
    this.#parts = parts
    this.#unavailable = parts.unavailable
    this.#decider = parts.decider
    this.#halted = new Set(parts.halted)
    this.looking = new Looking(parts)
    this.#nudges = new Nudges((netns) => this.looking.nudge(netns))
    this.#latecomers = new Latecomers(parts.native, parts.maps.readers, {
      look: () => this.looking.look(),
      asked: () => this.onReader(),
      still: (netns) => this.#nudges.tell(netns),
    })
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
    this.#latecomers.begin()
    if (how.built) return
    if (how.replaced || this.#parts.maps.accelerators.lookup(first) === undefined) placeAcceleration({ ...this.#parts, decider: this.#decider })
    if (how.replaced && this.#pinned('reading')) this.#beginReading()
    this.repair()
    void this.#findEnds().catch(() => {}) // the next sweep does it
  }

  /** Puts back what others have unpinned. */
  repair(): void {
    if (this.unavailable !== undefined) return
    const { layout } = this.#parts
    const missing = iterators.filter((name) => !layout.accelerationNames().includes(name))
    if (missing.length === 0) return
    layout.create()
    placeAcceleration({ ...this.#parts, decider: this.#decider })
    this.#parts.log('warn', 'programs of acceleration were not pinned any more, and are again', { programs: missing })
  }

  /** `wanted`: some pod has a mode. The program runs whenever TCP bytes are read on this node, so it is only there while somebody gains by it. */
  watchReaders(wanted: boolean): void {
    if (this.unavailable !== undefined) return
    if (!wanted) this.#endReading()
    if (wanted && !this.#pinned('reading')) this.#beginReading()
  }

  /** Its link cannot be given another program, so a new one takes the place of the old one, and no read is missed: both run for a moment. */
  #beginReading(): void {
    const { native, object, layout } = this.#parts
    const next = layout.acceleration(nextReading)
    try {
      if (this.#pinned(nextReading)) unlinkSync(next) // of an agent that was killed just here
      using(object.program(programs.reading), (program) => using(native.attachTracing(program), (link) => link.pin(next)))
      renameSync(next, layout.acceleration('reading'))
    } catch (error) {
      this.#unavailable = `the kernel did not attach the program that sees who reads: ${error instanceof Error ? error.message : String(error)}`
      this.stop(AccelStop.KERNEL)
      this.#parts.log('warn', 'no acceleration', { reason: this.#unavailable })
    }
  }

  #endReading(): void {
    for (const name of ['reading', nextReading]) if (this.#pinned(name)) unlinkSync(this.#parts.layout.acceleration(name))
  }

  #pinned(name: string): boolean {
    return this.#parts.layout.accelerationNames().includes(name)
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
    const old = this.#decider
    this.#decider = await reload(charged)
    native.setProgram(maps.accelerators, 0, this.#decider)
    old?.close()
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
    if (this.unavailable !== undefined) return 0
    await this.#findEnds()
    return sweepStale(this.#parts.layout, this.#parts.maps.pairs)
  }

  /** What was told while no agent was there, or when the ring buffer was full. */
  async #findEnds(): Promise<void> {
    const { all, behind } = await readEnds(this.#parts.maps.pairs)
    this.looking.remain(all)
    for (const netns of behind) this.#nudges.tell(netns)
  }

  /** Once a second: sockets leave that have become what a joined one must not be. */
  async mend(): Promise<void> {
    if (this.unavailable === undefined && !this.#parts.maps.joined.isEmpty()) await this.#latecomers.mend()
  }

  /** What is in the kernel goes on. */
  [Symbol.dispose](): void {
    this.#latecomers[Symbol.dispose]()
    this.#nudges[Symbol.dispose]()
    this.#decider?.close()
  }

  /** Looks now whether sockets may join or leave; it happens by itself, soon after somebody has asked for it. */
  async joinLate(): Promise<void> {
    if (this.unavailable === undefined) await this.#latecomers.look()
  }

  /** `known`: netns cookies of the pods that are there, enrolled or not. */
  async tidy(known: ReadonlySet<bigint>): Promise<void> {
    for (const netns of this.#halted) if (!known.has(netns)) this.setHalted(netns, false)
    await tidyCounts(this.#parts.maps.accel_counters, known)
  }
}
