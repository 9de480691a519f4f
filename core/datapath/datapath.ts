/**
 * The datapath in the kernel: builds or adopts it, knows what is in its maps, and hands out what apply needs. Pins in bpffs own everything, so
 * the agent's end changes nothing.
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { u64Codec } from '../codec.ts'
import { mapNames as agentMaps, type Capacities, type MapContents, type MapName } from '../compile/maps.ts'
import { type Ability, type MetaRecord, metaCodec } from '../contract.ts'
import { MerbridgeError } from '../errors.ts'
import { type Feature, hasAbility, type KernelFacts, optionalFeatures } from '../features/probe.ts'
import type { BpfLink, BpfMap, BpfObject, BpfProgram, Namespaces, Native, OpenOptions } from '../native/api.ts'
import { using, usingAsync } from '../scope.ts'
import { Acceleration, placeAcceleration } from './acceleration.ts'
import { readAdded } from './added.ts'
import { type Attaching, attachHook, dropDeadPods, loadedHooks, removeUnusedHooks, repairHooks, repairPins } from './attach.ts'
import { readCarried, writeCarried } from './carried.ts'
import { type AnyMap, allMaps, type Contents, mapsOf, pinnedMaps, readAll, readContents, usingMaps } from './contents.ts'
import { attachCookieTeller, type CookieTeller } from './cookies.ts'
import { acceleration, inbound, listenersIterator, loopbackProgram } from './hooks.ts'
import { buildLayout, currentLayout, type Layout, otherLayouts, setDamagedAside } from './layout.ts'
import { retire } from './leaving.ts'
import type { Unregistered } from './listeners.ts'
import { abilitiesOf, directDecider, loadDecider, loadObject } from './load.ts'
import { type Looker, lookerOf } from './looker.ts'
import { type LoopbackHook, Loopbacks } from './loopback.ts'

export type Log = (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: object) => void

export { type AnyMap, allMaps }

export interface Setting {
  readonly bpffs: string
  readonly cgroup: string
  /** The object file with all programs. */
  readonly object: string
  readonly kernel: KernelFacts
  /** Other capacities than those of maps.bpf.h, for maps that are made. */
  readonly maxEntries?: Readonly<Partial<Record<AnyMap, number>>>
}

const metaKey = Buffer.alloc(4)

export class Datapath implements Disposable {
  readonly native: Native
  /** How namespaces are read on this kernel. */
  readonly namespaces: Namespaces
  /** Those that only loading could show. */
  readonly features: readonly Feature[]
  readonly layout: Layout
  readonly object: BpfObject
  readonly maps: Readonly<Record<AnyMap, BpfMap>>
  /** What the kernel's maps hold. Nothing else writes them, so it is read once and kept. */
  have: MapContents
  readonly adopted: boolean
  /** Proxies may have begun to listen while the hook that registers them was gone: apply must look for them. */
  listenersMissed = false
  /** Proxies that listen and could not be registered, by pod: the next apply tries again. */
  readonly unfound = new Map<bigint, readonly Unregistered[]>()
  readonly loopbacks: Loopbacks
  readonly acceleration: Acceleration

  readonly #attaching: Attaching
  readonly #teller: CookieTeller | undefined

  readonly #abilities: bigint

  private constructor(attaching: Attaching, prepared: Prepared, contents: Contents, adopted: boolean, log: Log) {
    const { native, layout, object } = attaching
    const { features, teller, abilities, loopback: hook } = prepared
    this.namespaces = teller?.namespaces ?? native.namespaces
    this.#teller = teller
    this.features = features
    this.#abilities = abilities
    this.native = native
    this.layout = layout
    this.object = object
    this.maps = mapsOf(object)
    this.have = contents.have
    this.adopted = adopted
    this.#attaching = attaching
    const program = () => object.program(loopbackProgram)
    this.loopbacks = new Loopbacks({ native, layout, added: this.maps.added, hook, program }, contents.added)
    const { halted } = contents
    const accelerated = () => [...this.have.accelerated.values()].map(({ key }) => u64Codec.decode(key))
    this.acceleration = new Acceleration({ ...prepared, native, layout, maps: this.maps, log, halted, accelerated })
  }

  /** Adopts what is pinned if it is of this contract and complete, else builds it. Adopting what fits writes nothing. */
  static async open(native: Native, setting: Setting, log: Log): Promise<Datapath> {
    const layout = currentLayout(setting.bpffs)
    const objects = [setting.object, directDecider(setting.object)].filter((path) => path !== undefined)
    const hash = createHash('sha256')
    for (const path of objects) hash.update(readFileSync(path))
    const programs = hash.update(choices(setting.kernel)).digest()
    const pinned = layout.mapNames()
    if (allMaps.every((name) => pinned.includes(name))) return Datapath.#adopt(native, layout, setting, programs, log)
    if (existsSync(layout.directory)) {
      log('warn', 'the datapath in place lacks parts; it is replaced', { bpffs: setDamagedAside(setting.bpffs) })
    }
    return Datapath.#build(native, setting, programs, log)
  }

  static async #adopt(native: Native, layout: Layout, setting: Setting, programs: Buffer, log: Log): Promise<Datapath> {
    const reuse = pinnedMaps(native, layout)
    const loaded = await prepare(native, setting, { reuse })
    for (const map of Object.values(reuse)) map.close()
    const attaching = { native, layout, object: loaded.object, cgroup: setting.cgroup }
    layout.create() // a part of it may be missing
    const datapath = new Datapath(attaching, loaded, await readContents(loaded.object), true, log)
    datapath.repair(log)
    const replaced = !datapath.meta().programs.equals(programs)
    datapath.acceleration.begin({ built: false, replaced })
    datapath.acceleration.watchReaders(datapath.have.accelerated.size > 0)
    if (!replaced) {
      log('info', 'datapath adopted', { bpffs: layout.directory, generation: Number(datapath.meta().generation) })
    } else {
      datapath.#replacePrograms()
      datapath.writeMeta({ ...datapath.meta(), programs })
      log('info', 'programs replaced', { bpffs: layout.directory })
    }
    return datapath
  }

  static async #build(native: Native, setting: Setting, programs: Buffer, log: Log): Promise<Datapath> {
    const loaded = await prepare(native, setting, { maxEntries: setting.maxEntries ?? {} })
    const { object, decider, looker } = loaded
    const carried = await readCarried(native, otherLayouts(setting.bpffs), log)
    const layout = await buildLayout(setting.bpffs, async (temporary) => {
      writeCarried(object, carried)
      for (const name of allMaps) using(object.map(name), (map) => map.pin(temporary.map(name)))
      const attaching = { native, layout: temporary, object, cgroup: setting.cgroup }
      if (loaded.unavailable === undefined)
        usingMaps(object, (maps) => placeAcceleration({ native, layout: temporary, object, decider, maps, looker }))
      for (const hook of loadedHooks(object)) attachHook(attaching, hook)
    })
    const attaching = { native, layout, object, cgroup: setting.cgroup }
    const datapath = new Datapath(attaching, loaded, await readContents(object), false, log)
    datapath.acceleration.begin({ built: true, replaced: false })
    await datapath.#takeOver(setting.bpffs)
    datapath.writeMeta({ ...datapath.meta(), programs })
    log('info', 'datapath built', { bpffs: layout.directory, cgroup: setting.cgroup })
    return datapath
  }

  /** Another build of the programs for the same maps: each link gets its new program without a gap. */
  #replacePrograms(): void {
    const { native, layout, object } = this
    removeUnusedHooks(this.#attaching)
    for (const hook of loadedHooks(object)) {
      using(object.program(hook.program), (program) => using(native.pinnedLink(layout.link(hook.name)), (link) => link.update(program)))
    }
    for (const netns of layout.pods()) {
      using(this.inboundCopy(netns), (program) => using(native.pinnedLink(layout.pod(netns)), (link) => link.update(program)))
    }
    this.loopbacks.replacePrograms()
  }

  /** What is at the lo of pods outlives a version of the datapath. */
  async #takeOver(bpffs: string): Promise<void> {
    const others = otherLayouts(bpffs).filter((layout) => layout.mapNames().includes('added'))
    for (const layout of others)
      await usingAsync(this.native.pinnedMap(layout.map('added')), async (map) => this.loopbacks.adopt(await readAdded(map)))
  }

  /** Mends what others did to our links. true: pods have lost theirs, and must be applied again. */
  repair(log: Log): boolean {
    repairPins(this.#attaching, this.maps, log)
    this.acceleration.repair()
    if (repairHooks(this.#attaching, log)) this.listenersMissed = true
    return dropDeadPods(this.#attaching) || this.searchAgain || this.layout.pods().length !== this.have.pods.size
  }

  /** Apply has something to do although no map changes. */
  get searchAgain(): boolean {
    return this.listenersMissed || this.unfound.size > 0
  }

  /** The programs may use it on this kernel. */
  can(ability: Ability): boolean {
    return hasAbility(this.#abilities, ability)
  }

  get capacities(): Capacities {
    return Object.fromEntries(agentMaps.map((name) => [name, this.maps[name].info.maxEntries])) as Record<MapName, number>
  }

  meta(): MetaRecord {
    const bytes = this.maps.meta.lookup(metaKey)
    if (bytes === undefined) throw new MerbridgeError('DATAPATH_FOREIGN', 'the map meta is empty', 'run "merbridge detach", then start again')
    return metaCodec.decode(bytes)
  }

  writeMeta(meta: MetaRecord): void {
    this.maps.meta.update(metaKey, metaCodec.encode(meta))
  }

  /** The copy of the inbound program for one pod. */
  inboundCopy(netns: bigint): ReturnType<BpfObject['clone']> {
    const rodata = Buffer.alloc(8)
    rodata.writeBigUInt64LE(netns)
    return this.object.clone(inbound.program, inbound.section, rodata)
  }

  /** undefined: this kernel does not take the program. */
  iterator(): BpfLink | undefined {
    if (!this.object.programs.includes(listenersIterator)) return undefined
    return using(this.object.program(listenersIterator), (program) => this.native.attachIterator(program))
  }

  /** Reads the agent's maps again, after an apply that the kernel did not accept to the end. */
  async refresh(): Promise<void> {
    this.have = await readAll(this.object)
  }

  /**
   * Datapaths of other versions of the contract, whose maps this build cannot read: gone as soon as this one does their work, but for the sockets that they
   * have joined. Those are waited for: true as long as there are some; then it wants to be called again.
   */
  async removeOthers(bpffs: string, log: Log): Promise<boolean> {
    let waits = false
    for (const other of otherLayouts(bpffs)) {
      const stay = await retire(this.native, other, this.acceleration.looking.paths())
      if (stay === 0) log('info', 'the datapath of another version was removed', { bpffs: other.directory })
      else waits = true
    }
    return waits
  }

  [Symbol.dispose](): void {
    this.#teller?.close()
    this.acceleration[Symbol.dispose]()
    for (const map of Object.values(this.maps)) map.close()
    this.object.close()
  }
}

interface Prepared {
  readonly object: BpfObject
  readonly features: readonly Feature[]
  readonly teller: CookieTeller | undefined
  readonly abilities: bigint
  readonly loopback: LoopbackHook
  readonly looker: Looker
  /** Why there is no acceleration. */
  readonly unavailable: string | undefined
  /** Decides about messages. */
  readonly decider: BpfProgram | undefined
  /** Loads it, for a kernel that charges the receiver, or for one that does not. */
  readonly reload: (charged: boolean) => Promise<BpfProgram>
}

/** Everything that can be refused without a trace. */
async function prepare(
  native: Native,
  { object: path, kernel, cgroup }: Setting,
  maps: Pick<OpenOptions, 'reuse' | 'maxEntries'>,
): Promise<Prepared> {
  const { object, refused, abilities } = await loadObject(native, { path, kernel, ...maps })
  try {
    const teller = kernel.tellsCookies ? undefined : attachCookieTeller(native, object, cgroup)
    const unavailable = kernel.skip.get(acceleration.stub) ?? refused.get(acceleration.stub)
    const reload = (charged: boolean) => loadDecider(native, { path, kernel, abilities, charged, ...maps }, object)
    const decider = unavailable === undefined ? await reload(false) : undefined
    const features = optionalFeatures(kernel, refused)
    return { object, decider, features, teller, abilities, loopback: kernel.loopback, looker: lookerOf(kernel.skip), unavailable, reload }
  } catch (error) {
    object.close()
    throw error
  }
}

/** What of the kernel's facts changes the programs that are attached. */
function choices(kernel: KernelFacts): string {
  return [abilitiesOf(kernel.abilities).toString('hex'), ...kernel.skip.keys()].join(' ')
}
