/**
 * The naive redirect of naive.bpf.c, at a cgroup: every TCP connection that is established there from now on, both of whose sockets belong to processes of
 * the cgroup, is joined without a check. It does harm to those connections; that is what it is for.
 *
 *     using naive = await Naive.attach('/sys/fs/cgroup/unified/mine')
 *     ...
 *     assert(naive.counts().messages > 0)
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { BpfLink, BpfMap, BpfProgram } from '../core/native/api.ts'
import { native } from '../core/native/index.ts'

const OBJECT = join(import.meta.dirname, '../build/bench/naive.o')

/** enum bpf_attach_type */
const SOCK_OPS = 3
const SK_MSG_VERDICT = 7

/** In the order of enum naive_count. */
const COUNTS = ['sockets', 'messages', 'bytes', 'passed'] as const
/** Sockets that were put into the sockhash; messages and bytes that were redirected; messages that went by TCP because the peer was not there. */
export type NaiveCounts = Readonly<Record<(typeof COUNTS)[number], number>>

export class Naive implements Disposable {
  readonly #link: BpfLink
  readonly #program: BpfProgram
  readonly #sockets: BpfMap
  readonly #counts: BpfMap

  private constructor(link: BpfLink, program: BpfProgram, sockets: BpfMap, counts: BpfMap) {
    this.#link = link
    this.#program = program
    this.#sockets = sockets
    this.#counts = counts
  }

  /** `cgroup`: a directory of cgroup v2. */
  static async attach(cgroup: string): Promise<Naive> {
    if (!existsSync(OBJECT)) throw new Error(`no ${OBJECT}: run npm run setup`)
    using object = await native.load(OBJECT)
    using enrol = object.program('naive_enrol')
    const [program, sockets, counts] = [object.program('naive_redirect'), object.map('sockets'), object.map('counts')]
    native.attachMap(program, sockets, SK_MSG_VERDICT) // first: a socket keeps the program that the map had when it came
    return new Naive(native.attachCgroup(enrol, cgroup, SOCK_OPS), program, sockets, counts)
  }

  counts(): NaiveCounts {
    const number = (index: number) => {
      const perCpu = this.#counts.lookup(Buffer.from(Uint32Array.of(index).buffer)) ?? Buffer.alloc(0)
      return Array.from({ length: perCpu.length / 8 }, (_, cpu) => Number(perCpu.readBigUInt64LE(cpu * 8))).reduce((sum, each) => sum + each, 0)
    }
    return Object.fromEntries(COUNTS.map((name, index) => [name, number(index)])) as NaiveCounts
  }

  /** No socket is joined from now on. Those that are go on by TCP; what was in their queues is lost. Twice is a no-op. */
  detach(): void {
    if (this.#link.closed) return
    this.#link.detach()
    native.detachMap(this.#program, this.#sockets, SK_MSG_VERDICT)
    for (const handle of [this.#link, this.#program, this.#sockets, this.#counts]) handle.close()
  }

  [Symbol.dispose](): void {
    this.detach()
  }
}
