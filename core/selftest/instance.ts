/** A private copy of the programs of acceleration, with maps of its own, at the cgroup of the self-test. Nothing of it is pinned. */
import { randomBytes } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  AccelMode,
  type AccelReason,
  Asks,
  accelCountCodec,
  acceleratedCodec,
  accelKeyCodec,
  accelSettingsCodec,
  programCodec,
  programKeyCodec,
  type Splices,
} from '../contract.ts'
import { acceleration, allPrograms, attachTypes, hooks } from '../datapath/hooks.ts'
import { abilitiesOf, loadDecider } from '../datapath/load.ts'
import { lookerOf } from '../datapath/looker.ts'
import { marksIn } from '../datapath/looks.ts'
import type { KernelFacts } from '../features/probe.ts'
import type { BpfLink, BpfMap, BpfObject, Handle, Native } from '../native/api.ts'
import { using, usingAsync } from '../scope.ts'

/** The programs that the self-test is about. */
const { join, again4, again6, stub, decider, reading, late } = acceleration

const joinMs = 5
/** A slow look takes a quarter of the time at most: the exchanges are what the test is about. */
const rest = 3
const nobody = 0xffffffff
const first = Buffer.alloc(4)

/** Far smaller than those of the datapath: nothing but the self-test's connections is in them. */
const maxEntries = { joined: 4096, pairs: 4096 }

/** As the kernel has it; stat() tells it with the bits in other places. */
export const kernelDevice = (dev: bigint): number => Number((((dev >> 8n) & 0xfffn) << 20n) | (dev & 0xffn) | ((dev >> 12n) & 0xfff00n))

export interface Counted {
  readonly messages: bigint
  readonly bytes: bigint
}

export class Instance implements Disposable {
  readonly #object: BpfObject
  readonly #links: readonly Handle[]
  /** How many sockets wait. */
  readonly #look: (netns: string) => Promise<number>
  readonly #maps: Readonly<Record<'accelerated' | 'accel_settings' | 'accel_counters' | 'programs', BpfMap>>
  /** A look takes milliseconds, because it goes over all TCP sockets of the node. */
  readonly isSlow: boolean
  #budget = 0n
  #stopped = 0

  private constructor(object: BpfObject, links: readonly Handle[], isSlow: boolean, look: (netns: string) => Promise<number>) {
    this.isSlow = isSlow
    this.#object = object
    this.#links = links
    this.#look = look
    this.#maps = {
      accelerated: object.map('accelerated'),
      accel_settings: object.map('accel_settings'),
      accel_counters: object.map('accel_counters'),
      programs: object.map('programs'),
    }
  }

  /** Throws what the kernel says when it does not take one of the programs. */
  static async load(native: Native, path: string, kernel: KernelFacts, cgroup: string): Promise<Instance> {
    const looker = lookerOf(kernel.skip)
    const needed: readonly string[] = [join, again4, again6, stub, decider, reading, looker]
    const object = await native.load(path, {
      skip: allPrograms.filter((name) => !needed.includes(name)),
      rodata: { '.rodata.abilities': abilitiesOf(kernel.abilities), '.rodata.seed': randomBytes(8) },
      maxEntries,
      ...(kernel.btf === undefined ? {} : { btf: kernel.btf }),
    })
    const links: Handle[] = []
    try {
      using(object.map('joined'), (joined) => using(object.program(stub), (program) => native.attachMap(program, joined, attachTypes.skMsg)))
      // The build of it that the agent runs, too.
      const { abilities } = kernel
      await usingAsync(await loadDecider(native, { path, kernel, maxEntries, abilities, charged: false }, object), async (program) =>
        using(object.map('accelerators'), (array) => native.setProgram(array, 0, program)),
      )
      using(object.program(reading), (program) => links.push(native.attachTracing(program)))
      const attach = (map?: BpfMap): BpfLink => using(object.program(looker), (program) => native.attachIterator(program, map))
      const joiner = looker === late ? using(object.map('sides'), attach) : attach()
      links.push(joiner)
      for (const { program, attachType } of hooks.filter(({ program }) => needed.includes(program)))
        using(object.program(program), (loaded) => links.push(native.attachCgroup(loaded, cgroup, attachType)))
      return new Instance(object, links, looker !== late, async (netns) => marksIn(await native.namespaces.iterate(netns, joiner)))
    } catch (error) {
      for (const link of links) link.close()
      object.close()
      throw error
    }
  }

  /** Joins the connections that have shown what they are, again and again, until `work` is done. `netns`: the path of their namespace, which ends with it. */
  async joining<T>(netns: string, work: () => Promise<T>): Promise<T> {
    let done = false
    const look = async () => {
      const began = performance.now()
      try {
        if ((await this.#look(netns)) > 0) await this.#look(netns) // of two ends that are ready, the second joins at once
      } catch (error) {
        if (existsSync(netns)) throw error
      }
      await sleep(this.isSlow ? Math.max(joinMs, rest * (performance.now() - began)) : joinMs)
    }
    const joiner = (async () => {
      while (!done) await look()
    })()
    joiner.catch(() => {}) // told below
    try {
      return await work()
    } finally {
      done = true
      await joiner
    }
  }

  /** Both ends of the connections of this namespace are taken for proxies, as their sockets belong to root. */
  enrol(netns: bigint): void {
    const value = acceleratedCodec.encode({ netns, mode: AccelMode.ALL, uid: 0, gid: nobody, mark: 0 })
    const key = Buffer.alloc(8)
    key.writeBigUInt64LE(netns)
    this.#maps.accelerated.update(key, value)
  }

  /** What is known of how a program reads. */
  judge(path: string, splices: Splices): void {
    const { ino, dev } = statSync(path, { bigint: true })
    const value = programCodec.encode({ splices, asks: Asks.NEVER, pid: 0, started: 0n })
    this.#maps.programs.update(programKeyCodec.encode({ inode: ino, device: kernelDevice(dev) }), value)
  }

  set budget(bytes: bigint) {
    this.#budget = bytes
    this.#write()
  }

  /** enum accel_stop, or-ed. */
  set stopped(bits: number) {
    this.#stopped = bits
    this.#write()
  }

  #write(): void {
    this.#maps.accel_settings.update(first, accelSettingsCodec.encode({ budget: this.#budget, stopped: this.#stopped, quirks: 0 }))
  }

  /** Messages of sockets of the namespace of which this became so far. */
  counted(netns: bigint, reason: AccelReason): Counted {
    const bytes = this.#maps.accel_counters.lookup(accelKeyCodec.encode({ netns, reason }))
    const perCpu = Array.from({ length: (bytes?.length ?? 0) / accelCountCodec.size }, (_, cpu) =>
      accelCountCodec.decode((bytes as Buffer).subarray(cpu * accelCountCodec.size, (cpu + 1) * accelCountCodec.size)),
    )
    return {
      messages: perCpu.reduce((sum, { messages }) => sum + messages, 0n),
      bytes: perCpu.reduce((sum, each) => sum + each.bytes, 0n),
    }
  }

  [Symbol.dispose](): void {
    for (const link of this.#links) link.close()
    for (const map of Object.values(this.#maps)) map.close()
    this.#object.close()
  }
}
