/** The switches of acceleration, as an operator has them: each holds from the next message of a connection that exists. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { copyFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import type { AccelerateView, AccelerationView, PodAccelerationView } from '../../core/acceleration/view.ts'
import type { TopView } from '../../core/cli/top.ts'
import type { PodView } from '../../core/views.ts'
import { Agent, type AgentConfig, type StaticPod, until } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { selfTested } from '../lab/verdict.ts'

const proxy = 1337
/** Of chat.py */
const size = 100

/** A connection of the pod's proxy with itself. */
class Chat {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  private constructor(child: ChildProcess) {
    this.#child = child
    assert(child.stdout)
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  }

  static async begin(pod: LabPod, port: number, uid = proxy): Promise<Chat> {
    const file = join(pod.directory, 'chat.py') // the checkout may be where the uid may not read
    await copyFile(resolve(import.meta.dirname, 'chat.py'), file)
    const chat = new Chat(pod.spawn(['/usr/bin/python3', file, '127.0.0.1', String(port)], { uid, stdio: ['pipe', 'pipe', 'inherit'] }))
    assert.equal((await chat.#lines.next()).value, 'ready')
    return chat
  }

  /** Every byte was right, or chat.py ends. */
  async exchange(count: number): Promise<void> {
    this.#child.stdin?.write(`${count}\n`)
    const { value } = await this.#lines.next()
    assert.equal(value, String(count), 'chat.py ended')
  }
}

describe('switches of acceleration', { timeout: 240_000 }, () => {
  let lab: Lab
  let agent: Agent
  let web: LabPod
  let other: LabPod
  let chat: Chat
  let bystander: Chat

  const entry = ({ name, netns }: LabPod, more: Partial<StaticPod> = {}): StaticPod => ({ name, netns, ...more })
  const config = (more: Partial<AgentConfig> = {}, pod: Partial<StaticPod> = {}): AgentConfig => ({ pods: [entry(web, pod), entry(other)], ...more })

  before(async () => {
    lab = await Lab.create('accelerate')
    web = await lab.pod('web')
    other = await lab.pod('other')
    agent = await Agent.start(config())
    const { acceleration } = await selfTested(agent)
    assert.deepEqual([acceleration.kernel, acceleration.on, acceleration.off], [{ can: true }, true, []])
    chat = await Chat.begin(web, 8080)
    bystander = await Chat.begin(other, 8080)
    await joined(web, chat)
    await joined(other, bystander)
  })
  after(async () => {
    await agent?.close()
    await lab?.close()
  })

  /** Packets that a network tap of the pod's lo would see. */
  async function packets(pod: LabPod): Promise<number> {
    const { stdout } = await pod.exec(['cat', '/proc/net/dev'])
    const [, received] = /^\s*lo:\s*\d+\s+(\d+)/m.exec(stdout) ?? []
    return Number(received)
  }

  async function accounted(name: string): Promise<PodAccelerationView> {
    const { pods } = await agent.ask<AccelerationView>('/v1/acceleration')
    const found = pods.find(({ pod }) => pod === `default/${name}`)
    assert(found)
    return found
  }

  /** Sockets join when they have shown for a while how they are used. */
  const joined = (pod: LabPod, talk: Chat): Promise<true> =>
    until(`the connection of ${pod.name} is accelerated`, 30_000, async () => {
      await talk.exchange(20)
      return (await accounted(pod.name)).connections.accelerating === 1 ? true : undefined
    })

  interface Seen {
    readonly accelerated: number
    readonly tcp: number
    readonly packets: number
    readonly why: readonly string[]
  }

  /** What becomes of 50 messages in each direction. */
  async function exchanged(pod: LabPod, talk: Chat): Promise<Seen> {
    const [then, packetsThen] = [await accounted(pod.name), await packets(pod)]
    await talk.exchange(50)
    const [now, packetsNow] = [await accounted(pod.name), await packets(pod)]
    const counted = new Map(then.reasons.map(({ reason, messages }) => [reason, messages]))
    const messages = now.accelerated.messages - then.accelerated.messages
    assert.equal(now.accelerated.bytes - then.accelerated.bytes, messages * size)
    return {
      accelerated: messages,
      tcp: now.tcp.messages - then.tcp.messages,
      packets: packetsNow - packetsThen,
      why: now.reasons.filter(({ reason, messages: count }) => count > (counted.get(reason) ?? 0)).map(({ reason }) => reason),
    }
  }

  async function isFast(pod = web, talk = chat): Promise<void> {
    const seen = await exchanged(pod, talk)
    assert(seen.accelerated >= 90 && seen.accelerated + seen.tcp === 100 && seen.packets < 40, JSON.stringify(seen))
  }

  async function isPlain(why: string, pod = web, talk = chat): Promise<void> {
    const seen = await exchanged(pod, talk)
    assert.deepEqual([seen.accelerated, seen.tcp, seen.why], [0, 100, [why]])
    assert(seen.packets >= 100, `a tap sees every message again: ${seen.packets} packets`)
  }

  async function accelerate(...argv: readonly string[]): Promise<AccelerateView> {
    const outcome = await agent.command(['accelerate', ...argv, '--output', 'json'])
    assert.equal(outcome.code, 0, outcome.stderr)
    return JSON.parse(outcome.stdout) as AccelerateView
  }

  /** The agent has taken the file that was written last. */
  const reloaded = (what: string, done: (view: AccelerationView) => boolean): Promise<true> =>
    until(what, 20_000, async () => (done(await agent.ask<AccelerationView>('/v1/acceleration')) ? true : undefined))

  const podView = async (): Promise<PodView | undefined> => (await agent.pods()).find(({ name }) => name === 'web')

  test('a connection of the proxy is accelerated, and everybody says so', async () => {
    await isFast()
    const planned = await agent.command(['plan', '--output', 'json'])
    assert.equal((JSON.parse(planned.stdout) as { changes: boolean }).changes, false, 'the config in force changes nothing')
    const { acceleration } = await agent.status()
    assert.deepEqual(acceleration.connections, { joined: 2, accelerating: 2 })
    assert.deepEqual([acceleration.mode, acceleration.budget], ['proxies', 8 * 1024 * 1024])
    assert.match(
      (await agent.command(['status'])).stdout,
      /\nacceleration +on\nmode +proxies\nbudget +8MiB for each receiver\nconnections +2 joined now/,
    )
    assert.match(
      (await agent.command(['pods', 'web'])).stdout,
      /\nacceleration +on\nmode +proxies: acceleration\.mode of the config\nconnections +1 joined now, 1 of them accelerating/,
    )
    assert.match((await agent.command(['pods'])).stdout, /ACCELERATED +NOTES\n(.*\d+ %.*\n){2}/)
  })

  test('off for the node: the next message goes by TCP, in the old connection, over a restart of the agent', async () => {
    assert.deepEqual(await accelerate('off'), { switch: 'off', changed: true, accelerating: false, overrides: [] })
    await isPlain('stopped')
    assert.equal((await accelerate('off')).changed, false)
    assert.match((await agent.command(['pods', 'web'])).stdout, /\nstopped +100 +9\.8 KiB +0 +acceleration was off for the whole node\n/)
    await agent.kill('SIGKILL')
    await agent.run()
    await selfTested(agent)
    await isPlain('stopped')
    assert.match((await agent.status()).acceleration.off.join(), /merbridge accelerate off was said; merbridge accelerate on takes it back/)
    assert.deepEqual(await accelerate('on'), { switch: 'on', changed: true, accelerating: true, overrides: [] })
    await isFast()
  })

  test('off for one pod leaves the others, stays over a restart, and is shown', async () => {
    assert.deepEqual(await accelerate('off', 'web'), { pod: 'default/web', switch: 'off', changed: true, accelerating: false, overrides: [] })
    await isPlain('pod')
    await isFast(other, bystander)
    await agent.kill('SIGTERM')
    await agent.run()
    await selfTested(agent)
    await isPlain('pod')
    assert.deepEqual((await agent.status()).acceleration.halted, ['default/web'])
    const planned = await agent.command(['plan', '--output', 'json'])
    assert.equal((JSON.parse(planned.stdout) as { changes: boolean }).changes, false, 'a pod that is switched off is no change of the config')
    assert.match(
      (await agent.command(['pods', 'web'])).stdout,
      /\nacceleration +off\noff because +its mode is none: merbridge accelerate off was said for this pod\n/,
    )
    await accelerate('off')
    assert.match((await accelerate('on', 'default/web')).overrides.join(), /merbridge accelerate off was said/)
    await isPlain('stopped')
    await accelerate('on')
    await isFast()
  })

  test('an unknown pod is an error that names those that are near', async () => {
    const { code, stderr } = await agent.command(['accelerate', 'off', 'wbe'])
    assert.equal(code, 1)
    assert.match(stderr, /^merbridge: the config lists no pod "wbe"\n {2}Did you mean web\?/)
  })

  test('an annotation of a reload, and what is wrong with one', async () => {
    const annotated = (mode: string) => config({}, { annotations: { 'merbridge.io/acceleration': mode } })
    const whyOf = (wanted: RegExp) => (view: AccelerationView) => view.pods.some(({ why }) => wanted.test(why))
    await agent.write(annotated('none'))
    await reloaded('the annotation', whyOf(/^the annotation merbridge\.io\/acceleration of the pod$/))
    await isPlain('pod')
    assert.deepEqual((await accelerate('on', 'web')).overrides, ['its mode is none: the annotation merbridge.io/acceleration of the pod'])
    await agent.write(annotated('all'))
    await reloaded('more than the config allows', whyOf(/asks for all, and may only ask for less$/))
    assert.equal((await podView())?.acceleration.mode, 'proxies')
    await isFast()
    await agent.write(annotated('of'))
    await reloaded('a wrong word', whyOf(/which is not valid$/))
    await isPlain('pod')
    const wrong = await podView()
    assert.equal(wrong?.state, 'enrolled')
    assert.match(wrong?.warnings.join() ?? '', /is "of", which is none of none, proxies, auto, all: the pod is not accelerated/)
    await agent.write(config())
    await reloaded('no word', (view) => view.pods.every(({ why }) => why === 'acceleration.mode of the config'))
    await isFast()
  })

  test("the config's mode and budget hold at once for connections that exist", async () => {
    await agent.write(config({ acceleration: { mode: 'none' } }))
    await reloaded('mode none', ({ node }) => node.mode === 'none')
    await isPlain('pod')
    assert.deepEqual((await accelerate('on')).overrides, ['acceleration.mode of the config is none'])
    await agent.write(config({ acceleration: { mode: 'proxies', budget: '64KiB' } }))
    await reloaded('mode proxies', ({ node }) => node.mode === 'proxies' && node.budget === 65_536)
    await isFast()
    await agent.write(config({ acceleration: { budget: '4MB' } }))
    await agent.waitFor('the refusal', 20_000, ({ config: { lastReload } }) => lastReload.outcome === 'refused')
    assert.match((await agent.status()).config.lastReload.reason ?? '', /acceleration\.budget/)
    assert.equal((await agent.status()).acceleration.budget, 65_536)
    await agent.write(config())
    await reloaded('the default', ({ node }) => node.budget === 8 * 1024 * 1024)
  })

  test('an app is no proxy', async () => {
    const app = await Chat.begin(other, 8081, 1000)
    await app.exchange(20)
    const { accelerated, packets: seen } = await exchanged(other, app)
    assert(accelerated === 0 && seen >= 100, `${accelerated} accelerated, ${seen} packets`)
  })

  test('top has the rates of each pod, the busiest first', async () => {
    let over = false
    const talking = (async () => {
      while (!over) await chat.exchange(10)
    })()
    const outcome = await agent.command(['top', '--interval', '0.5', '--output', 'json'])
    over = true
    await talking
    const { pods, node } = JSON.parse(outcome.stdout) as TopView
    assert.deepEqual(
      pods.map(({ pod }) => pod),
      ['default/web', 'default/other'],
    )
    assert(pods[0] && pods[0].accelerated.messages > 100 && pods[0].accelerated.bytes > 90 * pods[0].accelerated.messages, JSON.stringify(pods))
    assert(node.accelerated.messages >= pods[0].accelerated.messages)
    assert.match((await agent.command(['top', '--once', '--interval', '0.2'])).stdout, /^acceleration on, mode proxies; \d connections joined/)
  })
})
