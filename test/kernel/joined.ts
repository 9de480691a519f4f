/** A connection inside a pod that is accelerated (joined.py), and what the kernel says of it. */
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Mode } from '../../core/acceleration/api.ts'
import type { Agent } from '../../core/agent.ts'
import { acceleratedPod } from '../../core/compile/accelerated.ts'
import { AccelReason, Asks, programCodec, Splices } from '../../core/contract.ts'
import { kill, type LabPod } from '../lab/net.ts'
import type { Identity } from '../parity/probe.ts'
import { proxy } from '../parity/shape.ts'

const program = join(import.meta.dirname, 'joined.py')

export interface Connection extends AsyncDisposable {
  /** One line there, one line back. */
  tell(command: string): Promise<string>
}

export const connection = (pod: LabPod, port: number, as = proxy): Promise<Connection> => told(pod, [program, String(port)], as)

/** Many of them, whose servers do not read. `buffers`: SO_SNDBUF of the clients, SO_RCVBUF of the servers; 0: as the kernel likes. */
export const unread = (pod: LabPod, port: number, count: number, buffers: readonly [number, number]): Promise<Connection> =>
  told(pod, [join(import.meta.dirname, 'unread.py'), String(port), String(count), ...buffers.map(String)], proxy)

/** One end (edges.py) of a connection whose ends are processes of their own: `serve ADDRESS PORT` or `connect ADDRESS PORT`. */
export const edge = (pod: LabPod, role: 'serve' | 'connect', address: string, port: number): Promise<Connection> =>
  told(pod, [join(import.meta.dirname, 'edges.py'), role, address, String(port)], proxy)

/** An app's client and the server of `as` (worth.py), in one process. */
export const exchanging = (pod: LabPod, port: number, as = proxy): Promise<Connection> =>
  told(pod, [join(import.meta.dirname, 'worth.py'), String(port), String(as.uid)], { uid: 0, gid: 0 })

async function told(pod: LabPod, argv: readonly string[], as: Identity): Promise<Connection> {
  const child = pod.spawn(['/usr/bin/python3', '-I', '-S', '-B', ...argv], {
    uid: as.uid,
    gid: as.gid,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const { stdin, stdout } = child
  if (stdin === null || stdout === null) throw new Error('no pipes')
  const lines = createInterface({ input: stdout })
  const answer = async (): Promise<string> => {
    const [line] = (await once(lines, 'line', { signal: AbortSignal.timeout(60_000) })) as [string]
    return line
  }
  await answer()
  return {
    tell: (command) => {
      const told = answer()
      stdin.write(`${command}\n`)
      return told
    },
    [Symbol.asyncDispose]: async () => {
      lines.close()
      await kill(child)
    },
  }
}

export const cookieOf = (agent: Agent, pod: LabPod): bigint => {
  const netns = agent.outcomes.find((outcome) => outcome.pod.name === pod.name)?.netns
  if (netns === undefined) throw new Error(`${pod.name} has no namespace`)
  return netns
}

/** As the compiler would, for tests of the datapath alone. */
export function accelerate(agent: Agent, pod: LabPod, acceleration: Mode = 'proxies'): bigint {
  const netns = cookieOf(agent, pod)
  const interception = { proxy: { uid: proxy.uid, gid: proxy.gid } }
  agent.datapath.acceleration.watchReaders(true)
  for (const { key, value } of acceleratedPod({ netns, interception, acceleration })) agent.datapath.maps.accelerated.update(key, value)
  return netns
}

/** What a server of edges.py has read: bytes, whether they are what was sent, and its longest wait in seconds. */
export interface Read {
  readonly read: number
  readonly right: boolean
  readonly longest: number
}

/** A server (edges.py) that is busy until it is told to read, and its client, which is joined: in the first pod, or between the two. */
export async function joinedEdges(
  agent: Agent,
  [one, two]: readonly [LabPod, LabPod],
  { netns, between, port }: { readonly netns: bigint; readonly between: boolean; readonly port: number },
  work: (client: Connection, server: Connection) => Promise<void>,
): Promise<void> {
  const at = between ? ([two.address, 15006] as const) : (['127.0.0.1', port] as const)
  await using server = await edge(between ? two : one, 'serve', between ? '0.0.0.0' : at[0], at[1])
  await using client = await edge(one, 'connect', at[0], at[1])
  const both = async () => {
    await Promise.all([client.tell('ping 5'), server.tell('echo 5')])
    return 'ok'
  }
  await untilRedirected(agent, netns, { tell: both, [Symbol.asyncDispose]: async () => {} })
  await both()
  await work(client, server)
}

/** For programs that nobody has looked at yet; a turn of the agent would do so, and put back what `accelerate` has written. */
export async function vouch({ datapath: { maps } }: Agent): Promise<void> {
  for (const { key, value } of await maps.programs.entries()) {
    const known = programCodec.decode(value)
    if (known.splices === Splices.UNKNOWN) maps.programs.update(key, programCodec.encode({ ...known, splices: Splices.NEVER, asks: Asks.NEVER }))
  }
}

const judge = (agent: Agent): Promise<void> => agent.tick(false)

/** Messages of the pod that were redirected, or went by TCP for another reason. */
export async function redirected(agent: Agent, netns: bigint, reason: AccelReason = AccelReason.REDIRECTED): Promise<number> {
  const counts = await agent.datapath.acceleration.counts()
  return Number(counts.find((count) => count.netns === netns && count.reason === reason)?.messages ?? 0n)
}

/** Messages go over the fast path from some point on: when the program that reads is judged, by a turn of the agent or by `judged`. */
export async function untilRedirected(agent: Agent, netns: bigint, { tell }: Connection, judged = judge): Promise<void> {
  const before = await redirected(agent, netns)
  for (let round = 0; round < 40; round++) {
    await judged(agent)
    await agent.datapath.acceleration.joinLate()
    await tell('ping 5')
    if ((await redirected(agent, netns)) > before) return
    await sleep(50)
  }
  const counts = await agent.datapath.acceleration.counts()
  throw new Error(`nothing was redirected: ${JSON.stringify(counts, (_, value) => (typeof value === 'bigint' ? Number(value) : value))}`)
}
