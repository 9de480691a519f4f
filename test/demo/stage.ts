/**
 * The demo's pods and everything else that it makes on the machine. What must be undone is written down in a journal under /run before it is used,
 * so that one and the same `removeDemo` serves the demo's end, Ctrl-C, a kept demo (`--clean`) and a demo that was killed.
 */
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Mode } from '../../core/acceleration/api.ts'
import { Agent, type AgentConfig, execute, program, removeLock, until } from '../lab/agent.ts'
import { mountBpffs, unmountBpffs } from '../lab/bpffs.ts'
import { isInterrupted } from '../lab/cleanup.ts'
import type { Sidecar } from '../lab/envoy.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { must } from '../lab/process.ts'
import { APP_PORT, type DemoMesh } from './meshes.ts'
import { Rounds } from './rounds.ts'

export const DIRECTORY = '/run/merbridge-demo'
export const APP = { uid: 1000, gid: 1000 }

export const BPFFS = '/sys/fs/bpf/merbridge-demo'
const AGENT = join(DIRECTORY, 'agent')
const JOURNAL = join(DIRECTORY, 'journal.json')

interface Journal {
  /** bpffs was not mounted before */
  readonly mounted: boolean
  readonly namespaces: readonly string[]
  readonly labDirectory: string
  /** `started`: field 22 of /proc/PID/stat, so that a reused pid is not taken for ours */
  readonly processes: readonly { readonly pid: number; readonly started: string }[]
}

/** What the client app saw of one request. */
export interface Seen {
  readonly status?: number
  readonly peer?: string
  readonly local?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: { readonly source: string }
  readonly error?: string
}

/** Makes the demo's directory; throws when a demo is there already. */
export async function claimDirectory(): Promise<void> {
  await mkdir(DIRECTORY, { mode: 0o700 }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'EEXIST') throw cause
    throw new Error(`${DIRECTORY} exists: a demo is running or was kept; remove it with: npm run demo -- --clean`, { cause })
  })
}

export class Stage {
  readonly mesh: DemoMesh
  readonly client: LabPod
  readonly server: LabPod
  readonly sidecars: { readonly client: Sidecar; readonly server: Sidecar }
  readonly #lab: Lab
  readonly #mounted: boolean
  #agent: Agent | undefined

  private constructor(
    mesh: DemoMesh,
    lab: Lab,
    pods: { client: LabPod; server: LabPod },
    sidecars: { client: Sidecar; server: Sidecar },
    mounted: boolean,
  ) {
    this.mesh = mesh
    this.#lab = lab
    this.client = pods.client
    this.server = pods.server
    this.sidecars = sidecars
    this.#mounted = mounted
  }

  /** Two pods, each with an app and a sidecar; no agent yet. */
  static async set(mesh: DemoMesh): Promise<Stage> {
    const mounted = await mountBpffs()
    note({ mounted, namespaces: [], labDirectory: '', processes: [] })
    const lab = await Lab.create('merbridge-demo')
    try {
      const pods = { client: await lab.pod('client', mesh), server: await lab.pod('server', mesh) }
      const [client, server] = await Promise.all([mesh.start(pods.client, 'client'), mesh.start(pods.server, 'server')])
      const app = await compile('server', pods.server)
      pods.server.spawn([app, String(APP_PORT), '0.0.0.0', ...(mesh.ipv6 ? ['::'] : [])], { ...APP, stdio: 'ignore' })
      const stage = new Stage(mesh, lab, pods, { client, server }, mounted)
      stage.#note()
      lab.leave() // from here on the journal knows
      await until('the server app answers', 15_000, async () => ((await stage.request()).status === 200 ? true : undefined))
      return stage
    } catch (error) {
      await lab.close()
      throw error
    }
  }

  /** An agent for both pods, which `runAgent` starts. */
  async createAgent(): Promise<Agent> {
    await mkdir(AGENT)
    return Agent.create(this.config(), { directory: AGENT, bpffs: BPFFS })
  }

  /** Without `mode`: the default of acceleration. */
  config(mode?: Mode): AgentConfig {
    const pods = [this.client, this.server].map((pod) => ({ name: pod.name, netns: pod.netns, ...this.mesh.pod(pod) }))
    return { mesh: this.mesh.name, pods, without: [], ...(mode !== undefined && { acceleration: { mode } }) }
  }

  /** Starts the agent, for the first time or again; resolves when both pods are enrolled. */
  async runAgent(agent: Agent): Promise<void> {
    if (isInterrupted()) throw new Error('interrupted') // or it would outlive the removal
    const enrolled = agent.run()
    agent.unref()
    this.#agent = agent
    this.#note()
    await enrolled
  }

  /** One request of the client's app to the server's app. */
  async request(address = this.server.address, port = APP_PORT): Promise<Seen> {
    const [seen] = await this.#client(address, port, 1, 0, 'new')
    return seen ?? { error: 'the client printed nothing' }
  }

  requests(count: number, pauseMs: number, connections: 'keep' | 'new'): Promise<readonly Seen[]> {
    return this.#client(this.server.address, APP_PORT, count, pauseMs, connections)
  }

  async #client(
    ...words: readonly [address: string, port: number, count: number, pauseMs: number, connections: 'keep' | 'new']
  ): Promise<readonly Seen[]> {
    const argv = words.map(String)
    const output = await runApp(this.client, 'client.ts', argv)
    return output
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Seen)
  }

  /** A client whose connections are kept, and used in rounds. */
  async rounds(connections: number): Promise<Rounds> {
    const argv = [await compile('rounds', this.client), this.server.address, String(APP_PORT), String(connections)]
    const rounds = new Rounds(this.client.spawn(argv, { ...APP, stdio: 'pipe' }))
    this.#note()
    return rounds
  }

  /** Packets that came in so far, in both pods: over loopback, and from the other pod. */
  async packets(): Promise<{ readonly loopback: number; readonly between: number }> {
    const tables = [this.client, this.server].map(({ pids }) => readFile(`/proc/${pids[0]}/net/dev`, 'utf8'))
    const text = (await Promise.all(tables)).join('\n')
    const all = [...text.matchAll(/^ *(\S+): *\d+ +(\d+)/gm)].map(([, name, packets]) => [name === 'lo', Number(packets)] as const)
    const sum = (loopback: boolean) => all.reduce((total, [lo, packets]) => (lo === loopback ? total + packets : total), 0)
    return { loopback: sum(true), between: sum(false) }
  }

  /** Nanoseconds of processor time so far, of every thread in both pods */
  async processorTime(): Promise<number> {
    const pids = [this.client, this.server].flatMap((pod) => pod.pids)
    const threads = (await Promise.all(pids.map((pid) => threadsOf(pid)))).flat()
    const texts = await Promise.all(threads.map((path) => readFile(path, 'utf8').catch(() => '0'))) // a thread may have ended
    return texts.map((text) => Number(text.split(' ')[0])).reduce((a, b) => a + b, 0)
  }

  /** Requests that each sidecar says it has handled. */
  async counters(): Promise<{ readonly client: number; readonly server: number }> {
    const [client, server] = await Promise.all([this.sidecars.client.stats(), this.sidecars.server.stats()])
    const { counter } = this.mesh
    return { client: client[counter('outbound')] ?? 0, server: server[counter('inbound')] ?? 0 }
  }

  #note(): void {
    const agent = this.#agent?.pid
    const pids = [...this.#lab.pods.flatMap(({ pids }) => pids), ...(agent === undefined ? [] : [agent])]
    note({
      mounted: this.#mounted,
      namespaces: [this.#lab.node, ...this.#lab.pods].map(({ netns }) => basename(netns)),
      labDirectory: this.#lab.directory,
      processes: pids.map((pid) => ({ pid, started: startTime(pid) ?? '' })),
    })
  }
}

/** At once and as a whole: a signal may come at any time, and what it finds must be all that there is. */
function note(journal: Journal): void {
  const next = `${JOURNAL}.next`
  writeFileSync(next, JSON.stringify(journal))
  renameSync(next, JOURNAL)
}

/** One of the apps in C, into the pod's directory, where the app's user may run it. */
async function compile(name: string, pod: LabPod): Promise<string> {
  const path = join(pod.directory, name)
  await must(['cc', '-O2', '-o', path, join(import.meta.dirname, 'apps', `${name}.c`)])
  return path
}

/**
 * Runs one of apps/ with this Node as the app's user, and answers its output. Both the program and the text are handed over, not looked up: the
 * checkout may be below a directory that the user may not search.
 */
async function runApp(pod: LabPod, file: string, argv: readonly string[]): Promise<string> {
  const text = await readFile(join(import.meta.dirname, 'apps', file), 'utf8')
  const child = pod.spawn([process.execPath, '--input-type=module-typescript', '-', ...argv], {
    ...APP,
    byDescriptor: true,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  child.stdin?.end(text)
  let output = ''
  child.stdout?.setEncoding('utf8').on('data', (part: string) => {
    output += part
  })
  await new Promise((resolve) => child.once('close', resolve))
  return output
}

const threadsOf = async (pid: number): Promise<string[]> =>
  (await readdir(`/proc/${pid}/task`).catch(() => [])).map((thread) => `/proc/${pid}/task/${thread}/schedstat`)

function startTime(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[19]
  } catch {
    return undefined // it has ended
  }
}

let removal: Promise<void> | undefined

/** Takes away everything that the journal names, and the journal; once, whoever asks. Without a demo it is a no-op. */
export function removeDemo(): Promise<void> {
  removal ??= remove()
  return removal
}

async function remove(): Promise<void> {
  if (existsSync(JOURNAL)) await removeNoted(JSON.parse(await readFile(JOURNAL, 'utf8')) as Journal)
  await rm(DIRECTORY, { recursive: true, force: true })
}

async function removeNoted({ mounted, namespaces, labDirectory, processes }: Journal): Promise<void> {
  await Promise.all(processes.map(({ pid, started }) => end(pid, started)))
  if (existsSync(BPFFS)) {
    const argv = ['detach', '--bypass', '--config', join(AGENT, 'config.yaml'), '--state-dir', join(AGENT, 'state')]
    const { code, stderr } = await execute(program, argv)
    if (code !== 0) throw new Error(`merbridge ${argv.join(' ')}: status ${code}\n${stderr}`)
  }
  await removeLock(BPFFS)
  const existing = new Set(existsSync('/run/netns') ? readdirSync('/run/netns') : [])
  for (const name of namespaces) if (existing.has(name)) await must(['ip', 'netns', 'delete', name])
  if (labDirectory !== '') await rm(labDirectory, { recursive: true, force: true })
  if (mounted) await unmountBpffs()
}

/** SIGTERM, and SIGKILL after two seconds. */
async function end(pid: number, started: string): Promise<void> {
  for (let tries = 0; tries < 50; tries++) {
    if (startTime(pid) !== started) return
    try {
      if (tries === 0) process.kill(pid, 'SIGTERM')
      if (tries === 40) process.kill(pid, 'SIGKILL')
    } catch {
      return // it ended in between
    }
    await sleep(50)
  }
}
