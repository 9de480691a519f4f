/** The agent's side of a plugin's process: asks and waits for the answer. The process is started when it is needed, and ended after a while without questions. */
import { fileURLToPath } from 'node:url'
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'
import type { Bridge } from './bridge.ts'
import { attempts, deadline, maxMemory } from './limits.ts'
import type { Answer, Question } from './protocol.ts'

/** Milliseconds. The process itself keeps the plugin's deadline; it is killed when it cannot. */
const patience = { start: 15_000, load: 3 * attempts * deadline + 1000, answer: attempts * deadline + 1000, end: 2000 }
const idleMs = 10_000

/** Compiled or not, these files are beside this one. */
const extension = import.meta.url.endsWith('.js') ? 'js' : 'ts'
const beside = (name: string) => new URL(`./${name}.${extension}`, import.meta.url)

interface Ended {
  readonly ended: string
}
const isEnd = (message: unknown): message is Ended => typeof message === 'object' && message !== null && 'ended' in message

/** Of the thread alone: this process may have been started with options that no thread takes. */
const quiet = '--disable-warning=ExperimentalWarning'

/** V8 aborts a process whose heap is full. */
const endOf = ({ ended }: Ended) => (ended === 'SIGABRT' ? `needed more than ${maxMemory} MiB of memory` : `ended its process (${ended})`)

/** A thread and the process behind it. */
class Link {
  readonly #port: MessagePort
  readonly #counter: Int32Array
  #ended = false

  constructor() {
    const { port1, port2 } = new MessageChannel()
    const sent = new SharedArrayBuffer(4)
    const data: Bridge = { port: port2, sent, program: fileURLToPath(beside('child')) }
    this.#port = port1
    this.#counter = new Int32Array(sent)
    const worker = new Worker(beside('bridge'), { workerData: data, transferList: [port2], execArgv: [quiet], env: {}, stdout: true, stderr: true })
    worker.on('error', () => {}) // then nobody answers, which is noticed
    worker.unref()
    port1.unref()
  }

  /** The process is gone. */
  get ended(): boolean {
    if (!this.#ended) this.receive(0) // nothing else comes without being asked for
    return this.#ended
  }

  /** undefined: nothing came in time. */
  receive(milliseconds: number): unknown {
    const message = this.#wait(milliseconds)
    if (isEnd(message)) this.#ended = true
    return message
  }

  #wait(milliseconds: number): unknown {
    const end = performance.now() + milliseconds
    for (;;) {
      const before = Atomics.load(this.#counter, 0)
      const received = receiveMessageOnPort(this.#port)
      if (received !== undefined) return received.message
      const left = end - performance.now()
      if (left <= 0 || Atomics.wait(this.#counter, 0, before, left) === 'timed-out') return receiveMessageOnPort(this.#port)?.message
    }
  }

  send(question: Question): void {
    this.#port.postMessage(question)
  }

  /** Returns when the process is gone. */
  kill(): void {
    this.#port.postMessage('kill')
    while (!this.#ended && this.receive(patience.end) !== undefined);
    this.#port.close()
  }
}

/** One plugin in its process. */
export class PluginProcess {
  readonly #text: string
  readonly #file: string
  #link: Link | undefined
  #idle: NodeJS.Timeout | undefined

  constructor(text: string, file: string) {
    this.#text = text
    this.#file = file
  }

  /** Never throws: whatever goes wrong is a problem of the plugin, in words for its author. */
  ask(question: Question): Answer {
    if (this.#link?.ended) this.stop()
    if (this.#link === undefined) {
      const loaded = this.#start()
      if ('problem' in loaded || question.kind === 'load') return loaded
    }
    const answer = this.#exchange(question)
    if ('problem' in answer && answer.late) this.stop()
    return answer
  }

  /** Ends the process; the next question starts it again. */
  stop(): void {
    clearTimeout(this.#idle)
    this.#link?.kill()
    this.#link = undefined
  }

  #start(): Answer {
    const link = new Link()
    this.#link = link
    const first = link.receive(patience.start)
    if (first !== 'ready') {
      this.stop()
      return { problem: `its process could not be started${isEnd(first) ? ` (${first.ended})` : ''}`, notStarted: true }
    }
    const loaded = this.#exchange({ kind: 'load', text: this.#text, file: this.#file })
    if ('problem' in loaded) this.stop()
    return loaded
  }

  #exchange(question: Question): Answer {
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => this.stop(), idleMs).unref()
    const what = question.kind === 'load' ? 'the file' : question.kind === 'options' ? 'the schema of options' : question.kind
    this.#link?.send(question)
    const message = this.#link?.receive(question.kind === 'load' ? patience.load : patience.answer)
    if (message === undefined) return { problem: `${what} did not end within ${deadline / 1000} s`, late: true }
    if (isEnd(message)) return { problem: `${what} ${endOf(message)}`, late: true }
    return message as Answer
  }
}
