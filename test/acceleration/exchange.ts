/** Runs an exchange between two pods: its halves are processes of their own. */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Asks, programCodec, programKeyCodec, Splices } from '../../core/contract.ts'
import type { BpfMap } from '../../core/native/api.ts'
import { kernelDevice } from '../../core/selftest/instance.ts'
import { exchangesPath, type Half, readHalves } from '../../core/selftest/program.ts'
import { type Lab, run } from '../lab/net.ts'
import type { Ends } from './places.ts'

/** Beyond the program's own limit for an exchange. */
const mostMs = 150_000

/** Copies of the program that everybody may run. What is known of a program goes by its file. */
export interface Programs {
  /** Receives with recv() and the like only, and is known for it. */
  readonly usual: string
  /** Known to splice. */
  readonly splicing: string
  /** Known to ask FIONREAD. */
  readonly asking: string
  readonly directory: string
}

export function copyPrograms(lab: Lab): Programs {
  const directory = join(lab.directory, 'exchanges')
  mkdirSync(directory)
  chmodSync(directory, 0o777)
  const [usual, splicing, asking] = ['usual', 'splicing', 'asking'].map((name) => {
    const path = join(directory, name)
    copyFileSync(exchangesPath(), path)
    chmodSync(path, 0o755)
    return path
  }) as [string, string, string]
  return { usual, splicing, asking, directory }
}

/** Nobody has to find out what it does. */
export function vouchFor(programs: BpfMap, path: string, splices: Splices = Splices.NEVER, asks: Asks = Asks.NEVER): void {
  const { ino, dev } = statSync(path, { bigint: true })
  const value = programCodec.encode({ splices, asks, pid: 0, started: 0n })
  programs.update(programKeyCodec.encode({ inode: ino, device: kernelDevice(dev) }), value)
}

let runs = 0

export interface Running {
  readonly program: string
  readonly directory: string
  readonly options?: readonly string[]
  readonly gate?: Gate
}

/** What stands between the connections' warm-up and the exchange. */
export interface Gate {
  /** A connection is about to be made warm. */
  readonly ends: () => Promise<void>
  /** Comes back when it has been in use for long enough. */
  readonly used: (ended: () => boolean) => Promise<void>
  /** From here what is sent is the exchange's own. */
  readonly begins: () => Promise<void>
}

/** At most: the gate ends it. */
const warmMs = 8000

export async function runExchange(name: string, { client, server }: Ends, { program, directory, options = [], gate }: Running): Promise<Half[]> {
  const control = join(directory, `c${runs++}`)
  const command = (role: 'client' | 'server', { pod, as, options: own }: Ends['client']) => {
    const warm = gate === undefined ? [] : ['--warm', String(warmMs), '--gate']
    return pod.command([program, 'run', name, '--role', role, '--control', control, ...own, ...warm, ...options], as)
  }
  const serving = run(command('server', server), { timeoutMs: mostMs })
  const [file = '', ...words] = command('client', client)
  const child = spawn(file, words, { cwd: '/', timeout: mostMs, killSignal: 'SIGKILL', stdio: 'pipe' })
  child.stdin.on('error', () => {}) // it has ended already
  const texts = { stdout: '', stderr: '' }
  for (const which of ['stdout', 'stderr'] as const) child[which].setEncoding('utf8').on('data', (text) => (texts[which] += text))
  const closed = once(child, 'close')
  const ended = () => child.exitCode !== null || child.signalCode !== null
  try {
    if (gate !== undefined) await pass(child, texts, gate, ended)
    await closed
  } finally {
    child.kill('SIGKILL')
  }
  const served = await serving
  const halves = [served.stdout, texts.stdout].flatMap(readHalves)
  if (halves.length >= 2) return halves
  throw new Error(`${name}: ${[served.stderr, texts.stderr].map((stderr) => stderr.split('\n', 1)[0]).join('; ')}`)
}

async function pass(child: ChildProcessWithoutNullStreams, texts: { stderr: string }, gate: Gate, ended: () => boolean) {
  const said = (word: string) => texts.stderr.split(`${word}\n`).length - 1
  for (let connections = 0; !ended(); await sleep(2)) {
    if (said('using') <= connections) continue
    connections++
    await gate.ends()
    child.stdin.write('1')
    await gate.used(ended)
    child.stdin.write('2')
    while (said('warm') < connections && !ended()) await sleep(2)
    await gate.begins()
    child.stdin.write('3')
  }
}
