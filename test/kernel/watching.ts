/** Viewers of an agent's decisions, for tests: by the command, and over the socket. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type MonitoringRecord, monitoringCodec } from '../../core/contract.ts'
import { follow } from '../../core/control/follow.ts'
import { currentLayout } from '../../core/datapath/layout.ts'
import type { EventView, LostView } from '../../core/views.ts'
import { type Agent, program, until } from '../lab/agent.ts'
import { native } from './fixture.ts'

export type Line = EventView | LostView

const viewer = (lines: Line[]) => ({
  lines,
  events: () => lines.filter((line): line is EventView => !('lost' in line)),
  has: (count: number) => until(`${count} events`, 10_000, () => (lines.length >= count ? lines : undefined)),
})

export function watching(agent: Agent) {
  /** What the kernel is told. */
  function monitoring(): MonitoringRecord {
    using map = native.pinnedMap(currentLayout(agent.bpffs).map('monitoring'))
    return monitoringCodec.decode(map.lookup(Buffer.alloc(4)) ?? Buffer.alloc(0))
  }
  const off = () => until('sampling is off', 5000, () => (monitoring().sample === 0 ? true : undefined))

  /** The command, which is the only one that watches. */
  async function watch(...words: readonly string[]) {
    const watching = monitoring().until
    const child = spawn(program, [
      'monitor',
      ...words,
      '--output',
      'json',
      '--config',
      agent.configFile,
      '--state-dir',
      join(agent.directory, 'state'),
    ])
    const lines: Line[] = []
    createInterface({ input: child.stdout }).on('line', (line) => lines.push(JSON.parse(line) as Line))
    let stderr = ''
    child.stderr.on('data', (data: Buffer) => {
      stderr += data
    })
    const exit = once(child, 'exit')
    const ended = async () => ({ code: (await exit)[0] as number | null, stderr })
    await until('the kernel samples', 10_000, () => (child.exitCode !== null || monitoring().until > watching ? true : undefined))
    const stop = (signal: NodeJS.Signals = 'SIGTERM') => {
      child.kill(signal)
      return ended()
    }
    return { ...viewer(lines), child, ended, stop, [Symbol.dispose]: () => void child.kill('SIGKILL') }
  }

  /** Watches over the socket, beside others. */
  async function view(query: string) {
    const end = new AbortController()
    const lines: Line[] = []
    const open = Promise.withResolvers<void>()
    const done = (async () => {
      for await (const line of follow<Line>(join(agent.directory, 'agent.sock'), new URLSearchParams(query), end.signal, async () => open.resolve()))
        lines.push(line)
    })()
    done.catch(open.reject)
    await open.promise
    const stop = () => {
      end.abort()
      return done
    }
    return { ...viewer(lines), stop, [Symbol.dispose]: () => end.abort() }
  }

  return { monitoring, off, watch, view }
}
