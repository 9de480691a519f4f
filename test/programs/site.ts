/**
 * Three pods with real Envoys, redirected by the agent: `client`, `middle`, where reverse proxies run as apps, and `server`. Each pod has two addresses:
 * to the second one sidecars speak TLS with each other.
 */
import assert from 'node:assert/strict'
import { chownSync, cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { PodAccelerationView } from '../../core/acceleration/view.ts'
import { Agent } from '../lab/agent.ts'
import { type Sidecar, startEnvoy } from '../lab/envoy.ts'
import { createIdentity } from '../lab/envoy-protocols.ts'
import { long } from '../lab/long.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { writeRandom } from './content.ts'
import { packages } from './packages.ts'
import { TCP_PORTS } from './ports.ts'
import { Server } from './server.ts'

/** The mode of acceleration; undefined: the configuration does not name one. */
export type Mode = 'none' | 'proxies' | 'auto' | 'all' | undefined

/** MERBRIDGE_PROGRAMS=long: as much as nobody wants to wait for at each run. */
export { long }

export const APP_UID = 1000

/** Milliseconds that the self-test, which runs when an agent starts on a kernel for the first time, may take on a busy machine */
const SELF_TEST = 60_000

const MTLS = { client: '10.77.1.1', middle: '10.77.1.2', server: '10.77.1.3' }

/** The way to the pods that serve. */
export interface Way {
  readonly name: 'plain' | 'mTLS'
  readonly middle: string
  readonly server: string
}

/** A file that the web servers have. */
export interface File {
  readonly name: string
  readonly path: string
  readonly size: number
  readonly sha256: string
}

export interface Site extends AsyncDisposable {
  readonly mode: Mode
  readonly client: LabPod
  readonly middle: LabPod
  readonly server: LabPod
  readonly ways: readonly [Way, Way]
  readonly sidecars: Readonly<Record<'client' | 'middle' | 'server', Sidecar>>
  readonly agent: Agent
  /** What became of the messages that the pod has sent */
  acceleration(pod: 'client' | 'middle' | 'server'): Promise<PodAccelerationView>
  /** Of files that web servers serve */
  readonly www: string
  readonly tiny: File
  readonly small: File
  readonly medium: File
  readonly big: File
  /** The unpacked programs of packages.ts, where every user may read them */
  readonly root: string
  /** A new directory that belongs to the apps' user */
  directory(name: string): string
  /** Starts a server, as the apps' user unless told otherwise; resolves when it listens. */
  serve(pod: LabPod, program: string, argv: readonly string[], port: number, as?: 'root'): Promise<void>
  /** What the program's servers wrote last */
  logs(program: string): string
}

export async function startSite(mode: Mode): Promise<Site> {
  const lab = await Lab.create('programs')
  const servers: Server[] = []
  const resources: AsyncDisposable[] = [lab]
  const close = async () => {
    let problem: unknown
    for (const each of [...servers, ...resources.toReversed()]) {
      try {
        await each[Symbol.asyncDispose]()
      } catch (error) {
        problem ??= error // the others are closed all the same
      }
    }
    if (problem !== undefined) throw problem
  }
  try {
    const pods = await Promise.all((['client', 'middle', 'server'] as const).map((name) => lab.pod(name, { secondary: [`${MTLS[name]}/32`] })))
    const [client, middle, server] = pods as [LabPod, LabPod, LabPod]
    const mtls = { ...(await createIdentity(join(lab.directory, 'identity'))), addresses: Object.values(MTLS) }
    const sidecars = await Promise.all(pods.map((pod) => startEnvoy(pod, pod.name, 'v4', undefined, { tcp: TCP_PORTS, mtls })))
    const acceleration = mode === undefined ? {} : { acceleration: { mode } }
    const agent = await Agent.start({ pods: pods.map(({ name, netns }) => ({ name, netns })), ...acceleration })
    resources.push(agent)
    if (mode !== undefined && mode !== 'none') await accelerating(agent)
    const [one, two, three] = sidecars as [Sidecar, Sidecar, Sidecar]
    return {
      ...files(lab.directory),
      mode,
      client,
      middle,
      server,
      ways: [
        { name: 'plain', middle: middle.address, server: server.address },
        { name: 'mTLS', middle: MTLS.middle, server: MTLS.server },
      ],
      sidecars: { client: one, middle: two, server: three },
      agent,
      acceleration: async (name) => {
        const found = (await agent.pods()).find((pod) => pod.name === name)
        assert(found !== undefined, `the agent does not know the pod ${name}`)
        return found.acceleration
      },
      serve: async (pod, program, argv, port, as) => {
        const started = new Server(pod, program, argv, as)
        servers.unshift(started)
        await started.listening(port)
      },
      logs: (program) =>
        servers
          .filter((each) => each.program === program)
          .map((each) => each.log())
          .join(''),
      [Symbol.asyncDispose]: close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

async function accelerating(agent: Agent): Promise<void> {
  await agent.waitFor('acceleration is on', SELF_TEST, ({ acceleration, selfTest }) => {
    assert.notEqual(selfTest?.state, 'failed', JSON.stringify(selfTest?.failed))
    return acceleration.on
  })
}

function files(home: string): Pick<Site, 'directory' | 'root' | 'www' | 'tiny' | 'small' | 'medium' | 'big'> {
  const directory = (name: string) => {
    const path = join(home, name)
    mkdirSync(path, { mode: 0o755 })
    chownSync(path, APP_UID, APP_UID)
    return path
  }
  const root = join(home, 'root')
  cpSync(packages, root, { recursive: true, verbatimSymlinks: true })
  const www = directory('www')
  const file = (name: string, size: number) => ({ name, size, path: join(www, name), sha256: writeRandom(join(www, name), size) })
  return {
    directory,
    root,
    www,
    tiny: file('tiny.bin', 1_000),
    small: file('small.bin', 1 << 20),
    medium: file('medium.bin', 16 << 20),
    big: file('big.bin', long ? 1 << 30 : 256 << 20),
  }
}
