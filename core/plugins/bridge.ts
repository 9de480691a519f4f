/**
 * A thread between the agent and the process of a plugin. The agent asks and waits, which only a thread's messages allow; only a process can be killed when
 * it is stuck or has used up its memory.
 */
import { fork } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { type MessagePort, workerData } from 'node:worker_threads'
import { maxMemory } from './limits.ts'

export interface Bridge {
  readonly port: MessagePort
  /** One number, which grows with each message to the agent. */
  readonly sent: SharedArrayBuffer
  /** The program that the process runs. */
  readonly program: string
}

const { port, sent, program }: Bridge = workerData
const counter = new Int32Array(sent)

function tell(message: unknown): void {
  port.postMessage(message)
  Atomics.add(counter, 0, 1)
  Atomics.notify(counter, 0)
}

const limits = [
  `--max-old-space-size=${maxMemory}`,
  '--max-semi-space-size=8',
  '--permission',
  '--allow-fs-read=*',
  '--disable-warning=ExperimentalWarning',
]
const child = fork(program, [], { execArgv: limits, env: {}, cwd: '/', stdio: ['ignore', 'ignore', 'ignore', 'ipc'], serialization: 'advanced' })

child.on('message', tell)
try {
  writeFileSync(`/proc/${child.pid}/oom_score_adj`, '1000') // memory outside of its heap has no limit: where there is none left, it goes first
} catch {
  // it is gone, or /proc may not be written
}
child.on('error', (error) => {
  if (child.pid === undefined) tell({ ended: error.message })
  else child.kill('SIGKILL')
})
child.once('exit', (code, signal) => {
  tell({ ended: signal ?? `exit code ${code}` })
  port.close()
})
port.on('message', (message: unknown) => {
  if (message === 'kill') child.kill('SIGKILL')
  else if (child.connected) child.send(message as object)
})
