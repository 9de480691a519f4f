/**
 * The lo of enrolled pods: the program at its egress, addresses, the route of ids, routes for devices. Programs that are links have pins; what else is made here stands
 * in the map `added` before it is made, so that the next agent, and `detach`, know what to take away.
 */
import { unlinkSync } from 'node:fs'
import {
  itemOf,
  itemText,
  type LoopbackInPlace,
  type LoopbackItem,
  type LoopbackWant,
  loopbackSteps,
  nothing,
  type Present,
  recordOf,
} from '../compile/loopback.ts'
import { AddedKind, type AddedRecord, addedCodec } from '../contract.ts'
import type { BpfMap, BpfProgram, NamespacePlace, Native } from '../native/api.ts'
import { using, usingAsync } from '../scope.ts'
import { again, asReason, isDown, isGone } from './harm.ts'
import { loopbackProgram } from './hooks.ts'
import type { Layout } from './layout.ts'

/** How the program is attached on this kernel. */
export type LoopbackHook = 'link' | 'filter' | 'none'

/** Its namespace, and what is there. */
export type LoopbackPlace = NamespacePlace & Present

export interface LoopbackSetting {
  readonly native: Native
  readonly layout: Layout
  readonly added: BpfMap
  readonly hook: LoopbackHook
  /** A handle for the caller to close. */
  readonly program: () => BpfProgram
}

const one = Buffer.from([1, 0, 0, 0])
const idOf = (record: AddedRecord): string => addedCodec.encode(record).toString('hex')
const hookRecord = (netns: bigint, kind: AddedKind): AddedRecord => ({ netns, kind, length: 0, addr: [0, 0, 0, 0], family: 0, device: 0 })

export class Loopbacks {
  readonly #setting: LoopbackSetting
  /** What `added` holds. Nothing else writes it, so it is read once and kept. */
  readonly #records = new Map<bigint, Map<string, AddedRecord>>()
  /** Pods with a link, whether it is still attached or not. */
  readonly #pins: Set<bigint>
  /** Pods whose program is known to be at their lo. */
  readonly #attached: Set<bigint>
  #places: ReadonlyMap<bigint, LoopbackPlace> = new Map()

  /** `records`: what `added` holds. */
  constructor(setting: LoopbackSetting, records: readonly AddedRecord[]) {
    this.#setting = setting
    for (const record of records) this.#keep(record)
    this.#pins = new Set(setting.layout.loopbacks())
    // A filter gets this agent's program anew; a link has it.
    this.#attached = new Set(setting.hook === 'link' ? [...this.#pins].filter((netns) => this.#isLinked(netns)) : [])
  }

  /** A program can be attached on this kernel. */
  get canHook(): boolean {
    return this.#setting.hook !== 'none'
  }

  /** Takes over what an agent of another version has added. */
  adopt(records: readonly AddedRecord[]): void {
    for (const record of records) this.#remember(record)
  }

  /** What the agent has added to lo itself. */
  added(netns: bigint): LoopbackItem[] {
    return this.#of(netns).flatMap((record) => itemOf(record) ?? [])
  }

  /** The program counts although somebody has detached it. */
  inPlace(netns: bigint): LoopbackInPlace {
    return { program: this.#hasHook(netns), added: this.added(netns) }
  }

  /** For people. */
  inWords(netns: bigint, { program, items }: LoopbackWant): string[] {
    const added = new Set(this.added(netns).map(itemText))
    const hook = this.#attached.has(netns) ? `(${this.#setting.hook})` : 'is not attached'
    return [
      ...(program ? [`program ${loopbackProgram} ${hook}`] : []),
      ...items.map(itemText).map((text) => `${text}, ${added.has(text) ? 'added' : 'was there'}`),
    ]
  }

  /** Pods at whose lo something of ours is. */
  known(): Set<bigint> {
    return new Set([...this.#pins, ...this.#records.keys()])
  }

  /** Where pods are now; of those that left meanwhile, where they were. */
  seen(places: ReadonlyMap<bigint, LoopbackPlace>): void {
    this.#places = new Map([...this.#places, ...places])
  }

  isPlaced(netns: bigint): boolean {
    return this.#places.has(netns)
  }

  /** Something must be added to lo, or taken away. */
  isDue(netns: bigint, want: LoopbackWant): boolean {
    const place = this.#places.get(netns)
    if (place === undefined) return false
    const { add, remove } = loopbackSteps(want, this.added(netns), place)
    return add.length + remove.length > 0 || (want.program ? !this.#attached.has(netns) : this.#hasHook(netns))
  }

  /** Before the pod is switched to rules that need it. true: an address or a route was added. A pod that had nothing has nothing after a failure. */
  async put(netns: bigint, want: LoopbackWant): Promise<boolean> {
    const place = this.#places.get(netns)
    if (place === undefined) throw new Error('its network namespace is not known any more')
    const hadNothing = !this.known().has(netns)
    try {
      return await this.#put(netns, want, place)
    } catch (error) {
      const left = hadNothing ? await this.drop(netns, nothing) : []
      throw left.length === 0 ? error : new Error(`${(error as Error).message}; and could not be taken away again: ${left.join(', ')}`)
    }
  }

  async #put(netns: bigint, want: LoopbackWant, place: LoopbackPlace): Promise<boolean> {
    if (want.program && !this.#attached.has(netns)) {
      try {
        await (this.#setting.hook === 'link' ? this.#attachLink(netns, place) : this.#attachFilter(netns, place))
      } catch (error) {
        throw new Error(`its lo cannot have the program for answers over UDP: ${(error as Error).message}`)
      }
      this.#attached.add(netns)
    }
    const { add } = loopbackSteps(want, [], place)
    for (const item of add) await this.#add(netns, item, place)
    return add.length > 0
  }

  /** After the pod was switched away from rules that needed it. Returns what could not be taken away, in words. */
  async drop(netns: bigint, want: LoopbackWant): Promise<string[]> {
    const place = this.#places.get(netns)
    const failed: string[] = []
    const attempt = async (what: string, records: readonly AddedRecord[], work: (place: LoopbackPlace) => Promise<unknown>) => {
      try {
        if (place !== undefined) await work(place)
      } catch (error) {
        if (!isGone(error)) failed.push(`${what}: ${(error as Error).message}`)
      }
      for (const record of records) this.#forget(record)
    }
    if (!want.program) {
      this.#unpin(netns)
      const [filter, qdisc] = [hookRecord(netns, AddedKind.FILTER), hookRecord(netns, AddedKind.QDISC)]
      const removal = (at: LoopbackPlace) => this.#setting.native.loopback.removeFilter(at, this.#has(qdisc))
      if (this.#has(filter)) await attempt('the filter', [filter, qdisc], removal)
      this.#attached.delete(netns)
    }
    const { remove } = loopbackSteps(want, this.added(netns), place ?? { addresses: [], routes: [] })
    for (const item of remove)
      await attempt(itemText(item), [recordOf(netns, item)], (at) => this.#setting.native.loopback.remove(item.kind, item.cidr, at, item.device))
    if (!this.known().has(netns)) this.#dropPlace(netns)
    return failed
  }

  /** Pods whose program somebody has detached: they are due from now on. */
  async lookAgain(): Promise<bigint[]> {
    const pinned = new Set(this.#setting.layout.loopbacks())
    for (const netns of this.#pins) if (!pinned.has(netns)) this.#pins.delete(netns)
    const checked = [...this.#attached]
    const there = await Promise.all(checked.map((netns) => (this.#setting.hook === 'link' ? this.#isLinked(netns) : this.#isFiltered(netns))))
    const lost = checked.filter((_, index) => !there[index])
    for (const netns of lost) this.#attached.delete(netns)
    return lost
  }

  /** Every link gets this object's program; filters get it when their pod is put next. */
  replacePrograms(): void {
    const { native, layout, program } = this.#setting
    for (const netns of [...this.#pins].filter((each) => this.#isLinked(each)))
      using(program(), (handle) => using(native.pinnedLink(layout.loopback(netns)), (link) => link.update(handle)))
  }

  async #attachLink(netns: bigint, place: LoopbackPlace): Promise<void> {
    const { native, layout, program } = this.#setting
    await usingAsync(program(), (handle) =>
      again('EEXIST', () => native.loopback.attach(handle, place)).then((made) =>
        using(made, (link) => {
          this.#unpin(netns)
          link.pin(layout.loopback(netns))
          this.#pins.add(netns)
        }),
      ),
    )
    const filter = hookRecord(netns, AddedKind.FILTER) // of an agent that was told to do without links
    const qdisc = hookRecord(netns, AddedKind.QDISC)
    if (!this.#has(filter)) return
    await native.loopback.removeFilter(place, this.#has(qdisc))
    for (const record of [filter, qdisc]) this.#forget(record)
  }

  async #attachFilter(netns: bigint, place: LoopbackPlace): Promise<void> {
    const { native, program } = this.#setting
    const filter = hookRecord(netns, AddedKind.FILTER)
    const qdisc = hookRecord(netns, AddedKind.QDISC)
    const had = this.#has(filter)
    this.#remember(filter)
    const hadQdisc = this.#has(qdisc)
    if (!(await native.loopback.hasQdisc(place))) this.#remember(qdisc)
    try {
      await usingAsync(program(), (handle) => native.loopback.addFilter(handle, place))
    } catch (error) {
      if (!had) this.#forget(filter)
      if (!hadQdisc) this.#forget(qdisc)
      throw error
    }
    this.#unpin(netns)
  }

  async #add(netns: bigint, item: LoopbackItem, place: LoopbackPlace): Promise<void> {
    const record = recordOf(netns, item)
    const had = this.#has(record)
    this.#remember(record)
    try {
      const isNew = await this.#setting.native.loopback.add(item.kind, item.cidr, place, item.device)
      if (!isNew && !had) this.#forget(record) // somebody was faster
    } catch (error) {
      if (!had) this.#forget(record)
      if (item.device !== undefined && isDown(error)) return // the namespace is read again
      throw asReason(item, error)
    }
  }

  #isLinked(netns: bigint): boolean {
    const { native, layout } = this.#setting
    if (!this.#pins.has(netns)) return false
    return using(native.pinnedLink(layout.loopback(netns)), (link) => link.info.ifindex !== 0)
  }

  async #isFiltered(netns: bigint): Promise<boolean> {
    const place = this.#places.get(netns)
    if (place === undefined) return true // nothing can be said
    try {
      return (await this.#setting.native.loopback.filter(place)) !== undefined
    } catch (error) {
      if (isGone(error)) return true
      throw error
    }
  }

  #hasHook(netns: bigint): boolean {
    return this.#pins.has(netns) || this.#has(hookRecord(netns, AddedKind.FILTER))
  }

  #unpin(netns: bigint): void {
    if (this.#pins.delete(netns)) unlinkSync(this.#setting.layout.loopback(netns))
  }

  #of(netns: bigint): AddedRecord[] {
    return [...(this.#records.get(netns)?.values() ?? [])]
  }

  #has(record: AddedRecord): boolean {
    return this.#records.get(record.netns)?.has(idOf(record)) ?? false
  }

  #keep(record: AddedRecord): void {
    const own = this.#records.get(record.netns) ?? new Map<string, AddedRecord>()
    this.#records.set(record.netns, own.set(idOf(record), record))
  }

  #remember(record: AddedRecord): void {
    if (this.#has(record)) return
    this.#setting.added.update(addedCodec.encode(record), one)
    this.#keep(record)
  }

  #forget(record: AddedRecord): void {
    this.#setting.added.delete(addedCodec.encode(record))
    const own = this.#records.get(record.netns)
    own?.delete(idOf(record))
    if (own?.size === 0) this.#records.delete(record.netns)
  }

  #dropPlace(netns: bigint): void {
    const places = new Map(this.#places)
    places.delete(netns)
    this.#places = places
  }
}
