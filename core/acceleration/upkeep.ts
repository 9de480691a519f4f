/** What acceleration needs from time to time: executables looked at, entries of what is gone removed, the joined sockets of an earlier version seen off. */
import { u64Codec } from '../codec.ts'
import type { Datapath, Log } from '../datapath/datapath.ts'
import { ProgramJudge } from './programs.ts'

const sweepMs = 30_000

export class Upkeep implements AsyncDisposable {
  readonly #datapath: Datapath
  readonly #log: Log
  readonly #judge: ProgramJudge
  /** Where datapaths of other versions still have joined sockets. */
  #others: string | undefined
  /** Of performance.now() */
  #sweep = 0

  constructor(datapath: Datapath, log: Log) {
    this.#datapath = datapath
    this.#log = log
    this.#judge = new ProgramJudge(datapath.maps.programs, log, () => void datapath.acceleration.joinLate())
    datapath.acceleration.onReader = () => this.#judgeNew()
  }

  /**
   * Once a second; executables also when somebody asks for a look at sockets. They are read beside the turns of the agent: it may take long, and nothing waits for it.
   */
  look(): void {
    const { acceleration } = this.#datapath
    if (acceleration.unavailable !== undefined) return
    void acceleration.mend()
    this.#judgeNew()
  }

  #judgeNew(): void {
    if (this.#datapath.have.accelerated.size > 0) this.#judge.look()
  }

  async removeOthers(bpffs: string): Promise<void> {
    this.#others = (await this.#datapath.removeOthers(bpffs, this.#log)) ? bpffs : undefined
  }

  /** `known`: netns cookies of the pods that are there; undefined: nobody has looked yet. */
  async tidy(known: readonly bigint[] | undefined): Promise<void> {
    if (this.#others !== undefined) await this.removeOthers(this.#others)
    if (known === undefined) return
    const { acceleration, have } = this.#datapath
    const enrolled = [...have.pods.values()].map(({ key }) => u64Codec.decode(key))
    await acceleration.tidy(new Set([...known, ...enrolled]))
    if (performance.now() < this.#sweep) return
    this.#sweep = performance.now() + sweepMs
    await acceleration.sweep()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#judge[Symbol.asyncDispose]()
  }
}
