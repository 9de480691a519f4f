/** A probe that stays in a namespace and answers one question after the other: where there are many, starting it would take a third of the time. */
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { kill, type LabPod } from '../lab/net.ts'
import { probe } from './probe.ts'

/** Milliseconds for one answer. */
const ANSWER_DEADLINE = 60_000

class Attendant {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string, undefined>
  #problems = ''
  /** The last question, answered or not: they are asked one after the other. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(pod: LabPod) {
    this.#child = pod.spawn([...probe, 'attend'], { stdio: ['pipe', 'pipe', 'pipe'] })
    const { stdin, stdout, stderr } = this.#child
    if (stdin === null || stdout === null || stderr === null) throw new Error('the probe has no output')
    stdin.on('error', () => {}) // it has ended: then there is no answer
    stderr.on('data', (data: Buffer) => {
      this.#problems = (this.#problems + data.toString()).slice(-2000)
    })
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]()
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  ask(command: string, spec: unknown): Promise<unknown> {
    const answer = this.#last.then(() => this.#ask(command, spec))
    this.#last = answer.catch(() => {})
    return answer
  }

  async #ask(command: string, spec: unknown): Promise<unknown> {
    this.#child.stdin?.write(`${JSON.stringify([command, spec])}\n`)
    const late = setTimeout(() => this.#child.kill('SIGKILL'), ANSWER_DEADLINE)
    const { value, done } = await this.#lines.next()
    clearTimeout(late)
    if (!done) return JSON.parse(value)
    await kill(this.#child)
    throw new Error(`probe ${command}: no answer\n${this.#problems}`)
  }
}

/** They end with their pods. */
const attendants = new WeakMap<LabPod, Attendant>()

export function askAttendant(pod: LabPod, command: 'connect' | 'exchange', spec: unknown): Promise<unknown> {
  const known = attendants.get(pod)
  const attendant = known === undefined || known.ended ? new Attendant(pod) : known
  attendants.set(pod, attendant)
  return attendant.ask(command, spec)
}
