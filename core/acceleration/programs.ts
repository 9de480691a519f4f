/**
 * Judges the programs that read accelerated connections (the map `programs`): whether they can read a socket with splice(), which does not see what was redirected.
 * Sockets of apps join only when theirs is known; where FIONREAD is wrong for joined sockets, whether they ask it counts as well. The executable and every library that is mapped when it is looked at count; one that is loaded later, or a file that
 * is changed under the same inode, is not seen here, but its first splice() is, by the program at the tracepoint. A program that was seen splicing stays what it is.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Asks, type ProgramKeyRecord, programCodec, programKeyCodec, Splices } from '../contract.ts'
import type { Log } from '../datapath/datapath.ts'
import type { BpfMap } from '../native/api.ts'
import { examine, type Findings, Unreadable } from './elf.ts'
import { isSameProcess, type Mapping, mappedFiles, openMapped, readAt, runnerOf } from './process.ts'

/** Of one program: more is not looked at, and then it may splice for all that is known. */
const mostFiles = 512
const mostBytes = 128 * 1024 * 1024
const patienceMs = 1000
/** A reading that has not ended by then (a file system that does not answer) is left alone, and the next program is read. */
const usualStuckMs = 5000
/** As many such readings may go on: each holds one of the four threads with which the whole agent reads files. */
const mostStuck = 2
/** After each program the judge rests for so many times what it took, so that a pod with ever new programs costs a quarter of a CPU at most. */
const rest = 3
const longestRestMs = 1000
/** What is known of libraries, which many programs share. */
const mostKnown = 1024

export interface Verdict {
  readonly splices: Splices
  readonly asks: Asks
  readonly why: string
}

/** The worst counts. */
export function verdictOf(findings: readonly Findings[]): Verdict {
  const scripts = findings.some(({ runsScripts }) => runsScripts)
  const asked = findings.some(({ asks }) => asks)
  // An interpreter has the number for its scripts.
  const asks = scripts ? Asks.MAYBE : asked ? Asks.DOES : Asks.NEVER
  if (findings.some(({ splices }) => splices)) return { splices: Splices.DOES, asks, why: 'it has splice, tee, vmsplice or io_uring' }
  if (scripts) return { splices: Splices.MAYBE, asks, why: 'it runs scripts or other programs' }
  if (findings.some(({ mayCall }) => mayCall)) return { splices: Splices.MAYBE, asks, why: 'it makes system calls by number, perhaps this one' }
  return { splices: Splices.NEVER, asks, why: 'nothing in it splices' }
}

const atLeast = <Value extends number>(value: Value, least: Value): Value => (value > least ? value : least)

/** What could not be told may be. */
const untold = (why: string, { splices, asks }: Verdict = verdictOf([])): Verdict => ({
  splices: atLeast<Splices>(splices, Splices.MAYBE),
  asks: atLeast<Asks>(asks, Asks.MAYBE),
  why,
})

/** One program's, for as long as it goes on. */
interface Reading {
  /** Of the file that is being read. */
  device: number
}

interface Budget {
  bytes: number
  readonly until: number
}

export class ProgramJudge implements AsyncDisposable {
  readonly #programs: BpfMap
  readonly #log: Log
  readonly #onJudged: () => void
  /** By device, inode, size and time of the last change. */
  readonly #known = new Map<string, Findings>()
  /** Readings that do not end. Nothing else of their file systems is read meanwhile. */
  readonly #stuck = new Set<Reading>()
  readonly #stuckMs: number
  #work: Promise<void> | undefined
  #again = false
  readonly #ended = new AbortController()

  /** `onJudged`: sockets may have waited for it. */
  constructor(programs: BpfMap, log: Log, onJudged: () => void = () => {}, stuckMs = usualStuckMs) {
    this.#stuckMs = stuckMs
    this.#programs = programs
    this.#log = log
    this.#onJudged = onJudged
  }

  /** Begins to judge what nobody has judged yet; when that goes on already, once more after it: what has come since then it does not see. */
  look(): void {
    if (this.#ended.signal.aborted) return
    if (this.#work !== undefined) {
      this.#again = true
      return
    }
    this.#work = this.#lookOnce()
      .catch((error: unknown) => this.#log('debug', 'programs could not be looked at; trying again', { reason: String(error) }))
      .finally(() => {
        this.#work = undefined
        if (!this.#again) return
        this.#again = false
        this.look()
      })
  }

  /** What is being read is read to its end; a file system that does not answer is not waited for. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort()
    let timer: NodeJS.Timeout | undefined
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, 2000)
    })
    await Promise.race([this.#work, patience])
    clearTimeout(timer)
  }

  async #lookOnce(): Promise<void> {
    for (const { key, value } of await this.#programs.entries()) {
      if (this.#ended.signal.aborted) return
      if (programCodec.decode(value).splices !== Splices.UNKNOWN) continue
      const began = performance.now()
      await this.#settle(key, value)
      const pause = Math.min(longestRestMs, rest * (performance.now() - began))
      await sleep(pause, undefined, { signal: this.#ended.signal }).catch(() => {})
    }
  }

  async #settle(key: Buffer, value: Buffer): Promise<void> {
    const { pid, started } = programCodec.decode(value)
    const program = programKeyCodec.decode(key)
    const verdict = await this.#judgeInTime(program, pid, started)
    if (this.#ended.signal.aborted) return
    const now = this.#programs.lookup(key)
    if (now === undefined || programCodec.decode(now).splices !== Splices.UNKNOWN) return // seen splicing meanwhile
    if (verdict === undefined)
      this.#programs.delete(key) // its next process enters it again
    else this.#programs.update(key, programCodec.encode({ ...programCodec.decode(now), splices: verdict.splices, asks: verdict.asks }))
    this.#onJudged()
    this.#log('debug', 'program judged', { pid, verdict: verdict?.why ?? 'its process is gone' })
  }

  async #judgeInTime(program: ProgramKeyRecord, pid: number, started: bigint): Promise<Verdict | undefined> {
    if (this.#stuck.size >= mostStuck) return untold('readings of other programs do not end')
    const reading: Reading = { device: program.device }
    const work = this.#judgeAnywhere(program, pid, started, reading)
    const over = new AbortController()
    const late = sleep(this.#stuckMs, 'late' as const, { signal: over.signal }).catch(() => 'late' as const)
    const verdict = await Promise.race([work, late]).finally(() => over.abort())
    if (verdict !== 'late') return verdict
    this.#stuck.add(reading)
    void work.catch(() => undefined).finally(() => this.#stuck.delete(reading))
    return untold('reading it does not end')
  }

  /** The process that read first may be gone, but its parent or child may have the sockets, which do not tell again. */
  async #judgeAnywhere(program: ProgramKeyRecord, pid: number, started: bigint, reading: Reading): Promise<Verdict | undefined> {
    const verdict = await this.judge(program, pid, started, reading)
    if (verdict !== undefined) return verdict
    const runner = await runnerOf(program)
    return runner && this.judge(program, runner.pid, runner.started, reading)
  }

  /** undefined: the process is gone, or runs another program by now. */
  async judge(program: ProgramKeyRecord, pid: number, started: bigint, reading: Reading = { device: 0 }): Promise<Verdict | undefined> {
    try {
      const files = await mappedFiles(pid)
      const isProgram = ({ inode, device }: Mapping) => inode === program.inode && device === program.device
      if (!files.some(isProgram) || !(await isSameProcess(pid, started))) return undefined
      const verdict = files.length > mostFiles ? untold(`${files.length} files are too many`) : await this.#examineAll(pid, files, isProgram, reading)
      return (await isSameProcess(pid, started)) ? verdict : undefined
    } catch (error) {
      if (!(await isSameProcess(pid, started))) return undefined
      return untold(error instanceof Error ? error.message : String(error))
    }
  }

  async #examineAll(pid: number, files: readonly Mapping[], isProgram: (file: Mapping) => boolean, reading: Reading): Promise<Verdict> {
    const budget: Budget = { bytes: mostBytes, until: performance.now() + patienceMs }
    const findings: Findings[] = []
    let problem: string | undefined
    for (const file of files) {
      try {
        if ([...this.#stuck].some(({ device }) => device === file.device)) throw new Unreadable('its file system does not answer')
        reading.device = file.device
        findings.push(await this.#examine(pid, file, isProgram(file), budget))
      } catch (error) {
        problem ??= error instanceof Error ? error.message : String(error)
      }
    }
    const verdict = verdictOf(findings)
    return problem === undefined ? verdict : untold(problem, verdict)
  }

  async #examine(pid: number, mapping: Mapping, main: boolean, budget: Budget): Promise<Findings> {
    const file = await openMapped(pid, mapping)
    if (file === undefined) throw new Unreadable('a mapped file is no regular file')
    try {
      const { size, ctimeMs } = await file.stat()
      const id = `${mapping.device} ${mapping.inode} ${size} ${ctimeMs} ${main}`
      const known = this.#known.get(id)
      if (known !== undefined) return known
      const found = await examine((offset, length) => {
        budget.bytes -= length
        if (budget.bytes < 0 || performance.now() > budget.until) throw new Unreadable('it takes too long to read')
        return readAt(file, offset, length)
      }, main)
      if (this.#known.size >= mostKnown) this.#known.clear()
      this.#known.set(id, found)
      return found
    } finally {
      await file.close()
    }
  }
}
