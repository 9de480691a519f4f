/** A ConfigMap that changes faster than anybody can read it: the kubelet's swaps, a thousand in less than a minute, valid and broken ones. */
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, until } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { type Listening, startProxy } from '../mesh/sidecar.ts'
import { connectOnce } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { reached } from './fixture.ts'

const swaps = 1000
/** Milliseconds from one swap to the next: a quarter of a minute in all; the agent loads about once in each second of it. */
const pause = 15

/** The directory of a ConfigMap, as the kubelet writes it. */
class Volume {
  readonly #directory: string
  #version = 0

  constructor(directory: string) {
    this.#directory = directory
  }

  swap(text: string): void {
    const before = `..version-${this.#version}`
    const name = `..version-${++this.#version}`
    mkdirSync(join(this.#directory, name))
    writeFileSync(join(this.#directory, name, 'config.yaml'), text)
    symlinkSync(name, join(this.#directory, '..data_tmp'))
    renameSync(join(this.#directory, '..data_tmp'), join(this.#directory, '..data'))
    rmSync(join(this.#directory, before), { recursive: true, force: true })
  }
}

const fieldOf = (path: string, name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(path, 'utf8'))?.[1])
const memory = (pid: number) => fieldOf(`/proc/${pid}/status`, 'VmRSS')
const descriptors = (pid: number) => readdirSync(`/proc/${pid}/fd`).length

/** Files and directories that the process watches. */
function watches(pid: number): number {
  const texts = readdirSync(`/proc/${pid}/fdinfo`).map((fd) => {
    try {
      return readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8')
    } catch {
      return '' // closed meanwhile
    }
  })
  return texts.reduce((sum, text) => sum + (text.match(/^inotify wd:/gm) ?? []).length, 0)
}

describe('a ConfigMap swap storm', { timeout: 180_000 }, () => {
  let lab: Lab
  let pod: LabPod
  let proxies: Listening[] = []

  before(async () => {
    lab = await Lab.create('storm')
    pod = await lab.pod('pod')
    proxies = [await startProxy(pod)]
  })
  after(async () => {
    for (const proxy of proxies) await proxy.stop()
    await lab?.close()
  })

  /** The port of the proxy that outbound connections go to, by the rules that are in force. */
  async function portInForce(agent: Agent): Promise<string | undefined> {
    const [view] = await agent.pods()
    return view?.rules.map(({ then }) => /^outbound .*:(\d+)/.exec(then)?.[1]).find((port) => port !== undefined)
  }

  const inForce = (agent: Agent, port: number) =>
    until(`port ${port} is in force`, 10_000, async () => ((await portInForce(agent)) === String(port) ? true : undefined))

  test('a thousand swaps end at the last one; nothing is lost and nothing grows', async () => {
    await using agent = await Agent.create({ pods: [{ name: 'pod', netns: pod.netns }] })
    const template = readFileSync(agent.configFile, 'utf8')
    const good = (port: number) => `${template}options: { proxyPort: ${port} }\n`
    const broken = (round: number) => (round % 2 === 0 ? `${template}optoins: {}\n` : `version: 1\nmesh: [\n# ${round}\n`)
    const volume = new Volume(agent.directory)
    volume.swap(good(14_000))
    unlinkSync(agent.configFile)
    symlinkSync('..data/config.yaml', agent.configFile)
    await agent.run()
    const pid = agent.pid ?? 0
    await inForce(agent, 14_000)
    const before = await agent.status()
    const settled = { memory: memory(pid), descriptors: descriptors(pid), watches: watches(pid) }

    const began = performance.now()
    for (let round = 1; round < swaps; round++) {
      volume.swap(round % 3 === 0 ? broken(round) : good(20_000 + round))
      if (round % 50 === 0) agent.signal('SIGHUP') // somebody else asks, too
      await sleep(Math.max(0, began + round * pause - performance.now()))
    }
    volume.swap(good(15_001))
    assert(performance.now() - began < 60_000, 'within a minute')

    await inForce(agent, 15_001)
    const last = await agent.waitFor('the last swap is what status tells', 10_000, ({ config }) => config.lastReload.outcome !== 'refused')
    assert.deepEqual([last.agent.pid, last.pods.enrolled, last.agent.ready], [pid, 1, true], 'it is the same process, and all is well')
    const counts = last.config.reloads
    assert(counts.applied > before.config.reloads.applied + 3 && counts.refused > 0, `it went on loading meanwhile: ${JSON.stringify(counts)}`)
    assert(counts.applied + counts.refused + counts.unchanged < 150, `bursts are taken together: ${JSON.stringify(counts)}`)
    assert.equal(reached(await connectOnce(pod, app, ['10.99.0.1', 8080])), 'pod:15001', 'connections follow the last config')

    await sleep(2000) // nothing that was on its way comes after it
    assert.equal(await portInForce(agent), '15001')
    volume.swap(good(14_002))
    await inForce(agent, 14_002)
    volume.swap(broken(0))
    await agent.waitFor('a broken one after the storm is refused', 10_000, ({ config }) => config.lastReload.outcome === 'refused')
    volume.swap(good(15_001))
    await inForce(agent, 15_001)
    const grown = {
      memory: memory(pid) - settled.memory,
      descriptors: descriptors(pid) - settled.descriptors,
      watches: watches(pid) - settled.watches,
    }
    assert(grown.memory < 96 * 1024, `the agent grew by ${grown.memory} KiB`)
    assert(grown.descriptors <= 4 && Math.abs(grown.watches) <= 2, JSON.stringify(grown))
  })
})
