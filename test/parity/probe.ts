/** Runs the probe (probe/main.py) in namespaces of a lab. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { kill, type LabPod } from '../lab/net.ts'

/** Isolated and without `site`: it needs neither, and starts in half the time. */
export const probe = ['/usr/bin/python3', '-I', '-S', '-B', resolve(import.meta.dirname, 'probe/main.py')]

/** Milliseconds until listeners stand, or until the first connections of `traffic` do. */
const START_DEADLINE = 10_000

export interface Identity {
  readonly uid: number
  readonly gid: number
  /** The real uid, where it differs from the effective one. */
  readonly real_uid?: number
}

export type Endpoint = readonly [address: string, port: number]

export interface Case {
  readonly id: string
  readonly as: Identity
  /** Effective ids at the moment of socket(), where they differ from `as`. */
  readonly creator?: Identity
  /** SO_MARK */
  readonly mark?: number
  readonly bind?: Endpoint
  readonly device?: string
  readonly nonblock?: boolean
  readonly fastopen?: boolean
  /** In a process of its own: it is expected to run into its time-out, and the others shall not wait for it. */
  readonly alone?: boolean
  /** IPV6_V6ONLY of an IPv6 socket; the family is that of the first destination */
  readonly v6only?: boolean
  /** Several: connected one after the other on one socket, with a disconnect (AF_UNSPEC) between. */
  readonly to: readonly Endpoint[]
}

export type Originals = Readonly<Record<string, string>>

export interface Greeting {
  readonly listener: string
  readonly peer: string
  readonly local: string
  readonly origin: Originals
}

export interface Step {
  readonly error?: string
  readonly when: string
  readonly local?: string
  readonly peer?: string
  readonly origin?: Originals
  /** What the accepting side saw, or why it could not be read. */
  readonly seen?: Greeting | string
  readonly synData?: boolean
}

export interface CaseResult {
  readonly id: string
  readonly steps: readonly Step[]
}

export interface ListenerSpec {
  readonly name: string
  readonly address: string
  readonly port: number
  readonly protocol?: 'tcp' | 'udp'
  readonly reuseport?: boolean
  readonly v6only?: boolean
  /** SO_MARK */
  readonly mark?: number
}

export interface Traffic {
  readonly rounds: number
  readonly problems: Readonly<Record<string, number>>
  readonly reached: Readonly<Record<string, number>>
}

/** Listeners in one process; resolves when all of them listen. `record`: a file that gets one line for each accepted connection. */
export async function serve(
  pod: LabPod,
  as: Identity,
  listeners: readonly ListenerSpec[],
  record?: string,
): Promise<Disposable & { stop(): Promise<void> }> {
  const spec = JSON.stringify({ ...as, listeners, ...(record === undefined ? {} : { record }) })
  const child = pod.spawn([...probe, 'serve', spec], { stdio: ['ignore', 'pipe', 'pipe'] })
  await firstLine(child, 'ready')
  return { stop: () => kill(child), [Symbol.dispose]: () => child.kill('SIGKILL') }
}

export function connect(pod: LabPod, cases: readonly Case[]): Promise<readonly CaseResult[]> {
  return ask<readonly CaseResult[]>(pod, 'connect', cases)
}

/** One connection; what came of it. */
export async function connectOnce(pod: LabPod, as: Identity, to: Endpoint, more: Partial<Case> = {}): Promise<Step> {
  const [result] = await connect(pod, [{ id: 'once', as, to: [to], ...more }])
  const step = result?.steps[0]
  if (step === undefined) throw new Error('the probe gave no result')
  return step
}

export interface Flood {
  readonly as: Identity
  readonly to: readonly Endpoint[]
  /** Source ports, one for each of `to`, bound with 0.0.0.0; absent: the kernel chooses. */
  readonly ports?: readonly number[]
  /** Names of the listeners that may accept. */
  readonly expect: readonly string[]
  /** Seconds of the epoch: all connects begin at `start`, and all connections stay until `end`. */
  readonly start: number
  readonly end: number
}

/** Many connects at once; how many had which outcome ("ok": one of `expect` accepted and named the right destination and source). */
export function flood(pod: LabPod, spec: Flood): Promise<Readonly<Record<string, number>>> {
  return ask<Readonly<Record<string, number>>>(pod, 'flood', spec)
}

/** Old connections in use and new ones all the time, until `stop`. `pause`: seconds between two rounds; absent: as fast as it goes. */
export async function traffic(pod: LabPod, as: Identity, to: Endpoint, connections: number, pause?: number): Promise<{ stop(): Promise<Traffic> }> {
  const child = pod.spawn([...probe, 'traffic'], { stdio: ['pipe', 'pipe', 'pipe'] })
  child.stdin?.write(`${JSON.stringify({ as, to, connections, ...(pause === undefined ? {} : { pause }) })}\n`)
  const lines = await firstLine(child, 'started')
  return {
    stop: async () => {
      child.stdin?.end()
      const { value, done } = await lines.next()
      if (done) throw new Error('the traffic ended without a report')
      return JSON.parse(value) as Traffic
    },
  }
}

async function firstLine(child: ChildProcess, expected: string): Promise<AsyncIterator<string, undefined>> {
  if (child.stdout === null || child.stderr === null) throw new Error('the probe has no output')
  let problems = ''
  child.stderr.on('data', (data: Buffer) => {
    problems = (problems + data.toString()).slice(-2000)
  })
  const lines: AsyncIterator<string, undefined> = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const late = setTimeout(() => child.kill('SIGKILL'), START_DEADLINE)
  const { value } = await lines.next()
  clearTimeout(late)
  if (value === expected) return lines
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  throw new Error(`the probe did not say "${expected}": ${value ?? ''}\n${problems}`)
}

export async function ask<T>(pod: LabPod, command: string, spec: unknown): Promise<T> {
  const outcome = await pod.exec([...probe, command], { input: JSON.stringify(spec), timeoutMs: 60_000 })
  if (outcome.code !== 0) throw new Error(`probe ${command}: exit ${outcome.code}\n${outcome.stderr}`)
  return JSON.parse(outcome.stdout) as T
}
