/** What an operator sees of acceleration: `top`, `accelerate`, and the parts of `status` and `pods`. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { InvalidArgumentError } from 'commander'
import type { AccelCount, AccelEnd } from '../../core/acceleration/api.ts'
import type { AccelerationView, TrafficView } from '../../core/acceleration/view.ts'
import { accelerateText } from '../../core/cli/accelerate.ts'
import { bytesText, nodeText, podAccelerationText, shareText } from '../../core/cli/accelerated.ts'
import { secondsToWait } from '../../core/cli/detach.ts'
import { execute, type Surroundings } from '../../core/cli/program.ts'
import { frame, intervalOf, type TopView, topText, topView } from '../../core/cli/top.ts'
import { AccelPlace, AccelReason } from '../../core/contract.ts'
import type { Handlers } from '../../core/control/api.ts'
import { serveControl } from '../../core/control/server.ts'
import { endOf } from '../../core/datapath/accelmaps.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { stilled, traffic, trafficView } from '../../core/observe/acceleration.ts'
import { accelerateView, accelerationView, inForce, podView, statusView } from './control-views.ts'

const count = (netns: bigint, reason: AccelReason, messages: number): AccelCount => ({
  netns,
  reason,
  messages: BigInt(messages),
  bytes: BigInt(messages * 10),
  connections: 1n,
})
const end = (netns: bigint, redirecting: boolean, place: AccelPlace = AccelPlace.JOINED): AccelEnd => ({
  netns,
  place,
  redirecting,
  reason: AccelReason.NOT_READ,
})

test('what a pod has sent is told from what others have, and a connection inside it counts once', () => {
  const counts = [
    count(1n, AccelReason.REDIRECTED, 90),
    count(1n, AccelReason.ORDER, 4),
    count(1n, AccelReason.NOT_READ, 6),
    count(2n, AccelReason.POD, 50),
  ]
  const pairs = [
    { ends: [end(1n, true), end(1n, false)] },
    { ends: [end(1n, false), end(2n, false)] },
    { ends: [end(2n, false)] },
    { ends: [end(2n, true), end(1n, false, AccelPlace.LEFT)] },
  ]
  const { all, of } = traffic(counts, pairs)
  const one = trafficView(of.get(1n))
  assert.deepEqual(one.connections, { joined: 2, accelerating: 1 })
  assert.deepEqual(one.accelerated, { messages: 90, bytes: 900, connections: 1 })
  assert.deepEqual(one.tcp, { messages: 10, bytes: 100, connections: 2 })
  assert.deepEqual(
    one.reasons.map(({ reason, messages }) => [reason, messages]),
    [
      ['not read', 6],
      ['order', 4],
    ],
  )
  assert.deepEqual(trafficView(all).connections, { joined: 2, accelerating: 1 })
  assert.equal(trafficView(all).tcp.messages, 60)
  assert.deepEqual(trafficView(of.get(3n)).tcp, { messages: 0, bytes: 0, connections: 0 })
})

test('an end redirects when its last message was redirected, it is still joined, and no switch has been turned since', () => {
  const side = { netns: 1n, place: AccelPlace.JOINED, redirects: 5n, reason: AccelReason.REDIRECTED }
  assert.equal(endOf(side).redirecting, true)
  assert.equal(endOf({ ...side, redirects: 0n }).redirecting, false, 'it has sent nothing yet')
  assert.equal(endOf({ ...side, reason: AccelReason.ORDER }).redirecting, false)
  for (const place of [AccelPlace.WAITING, AccelPlace.READY, AccelPlace.LEAVING, AccelPlace.LEFT])
    assert.equal(endOf({ ...side, place }).redirecting, false)
  const pairs = [{ ends: [end(1n, true), end(2n, true)] }, { ends: [end(1n, true), end(1n, false)] }]
  const accelerating = (nodeIsOff: boolean, ...on: bigint[]) =>
    trafficView(traffic([], stilled(pairs, nodeIsOff, new Set(on))).all).connections.accelerating
  assert.deepEqual([accelerating(false, 1n, 2n), accelerating(false, 1n), accelerating(false, 2n), accelerating(true, 1n, 2n)], [2, 1, 0, 0])
})

test('figures for people: shares are never 0 % or 100 % of what is not', () => {
  assert.deepEqual(
    [shareText(0, 0), shareText(0, 5), shareText(1, 1000), shareText(999, 1000), shareText(5, 5)],
    ['-', '0 %', '<1 %', '99 %', '100 %'],
  )
  assert.deepEqual([0, 1023, 1024, 1_048_575, 3_145_728].map(bytesText), ['0 B', '1023 B', '1.0 KiB', '1.0 MiB', '3.0 MiB'])
})

test('status says on or off, why, and each reason with its figures and a sentence', () => {
  const on = nodeText(statusView)
  assert.match(
    on,
    /^acceleration +on\nmode +proxies\nbudget +4MiB for each receiver\nswitched off +default\/web, by merbridge accelerate off default\/web\n/,
  )
  assert.match(on, /connections +5 joined now, 3 of them accelerating; 9 ended that were accelerated, 2 that were not/)
  assert.match(on, /messages +750 of 1000 accelerated \(75 %\), 250 by TCP\nbytes +3\.0 MiB of 3\.0 MiB accelerated/)
  assert.match(on, /BY TCP +MESSAGES +BYTES +CONNECTIONS +BECAUSE\nnot read +200 +1000 B +2 +the receiver was not seen reading yet\norder +50/)
  const { acceleration } = statusView
  const off = nodeText({ ...statusView, acceleration: { ...acceleration, on: false, off: ['the node is short of memory'] } })
  assert.match(off, /^acceleration +OFF\noff because +the node is short of memory\n/)
  const kernel = { can: false, reason: 'lockdown' }
  const cannot = nodeText({ ...statusView, acceleration: { ...acceleration, on: false, off: ['this kernel cannot: \u001b[31mlockdown'], kernel } })
  assert.match(
    cannot,
    /^acceleration +off\noff because +this kernel cannot: .*lockdown\nswitched off +default\/web, by merbridge accelerate off default\/web$/,
  )
  assert(!cannot.includes('\u001b'))
  assert.match(podAccelerationText(podView.acceleration), /^acceleration +on\nmode +proxies: acceleration\.mode of the config\n/)
})

const later = ({ at, node, pods }: AccelerationView): AccelerationView => {
  const more = <View extends TrafficView>(view: View, accelerated: number, tcp: number): View => ({
    ...view,
    accelerated: { ...view.accelerated, messages: view.accelerated.messages + accelerated, bytes: view.accelerated.bytes + accelerated * 1024 },
    tcp: { ...view.tcp, messages: view.tcp.messages + tcp, bytes: view.tcp.bytes + tcp },
    reasons: view.reasons.map((reason) => (reason.reason === 'order' ? { ...reason, messages: reason.messages + tcp } : reason)),
  })
  const [web] = pods
  assert(web)
  const idle = { ...web, pod: 'default/idle' }
  const busy = { ...more(web, 0, 900), pod: 'shop/busy' } // was not there before: counts from nothing
  return { at: at + 2000, node: { ...node, ...more(node, 300, 100) }, pods: [idle, { ...web, ...more(web, 300, 100) }, busy] }
}

test('top turns two samples into rates, sorts by them, and says why most goes by TCP', () => {
  const second = later(accelerationView)
  const view = topView({ ...accelerationView, pods: [...accelerationView.pods, { ...second.pods[0], pod: 'default/idle' } as never] }, second)
  assert.equal(view.seconds, 2)
  assert.deepEqual(view.node.accelerated, { messages: 150, bytes: 153_600 })
  assert.deepEqual(view.node.tcp, { messages: 50, bytes: 50 })
  assert.deepEqual(
    view.pods.map(({ pod, accelerated, tcp, mostly }) => [pod, accelerated.messages, tcp.messages, mostly]),
    [
      ['shop/busy', 375, 575, 'order'],
      ['default/web', 150, 50, 'order'],
      ['default/idle', 0, 0, undefined],
    ],
  )
  const text = topText(view)
  assert.match(text, /^acceleration on, mode proxies; 5 connections joined, 3 accelerating; over 2\.0 s\n\nPOD +MODE +FAST +TCP BECAUSE +FAST MSG/)
  assert.match(text, /\n\(node\) +proxies +75 % +order +150 +50 +150\.0 KiB +50 B +5 +3\n/)
})

test('top leaves out columns where a terminal is narrow, and keeps the share and the reason', () => {
  const view = topView(accelerationView, later(accelerationView))
  const long = { ...view, pods: view.pods.map((pod) => ({ ...pod, pod: `${pod.pod}-${'x'.repeat(60)}-7d9f8-abcde` })) }
  const widest = (text: string) => Math.max(...text.split('\n').map((line) => [...line].length))
  assert.match(topText(view, 80), /\nPOD +MODE +FAST +TCP BECAUSE +FAST MSG\/S.*\S\n\(node\) +proxies +75 % +order +150/)
  assert.doesNotMatch(topText(view, 80), /ACCELERATING/)
  assert.match(topText(view, 200), /JOINED +ACCELERATING\n/)
  assert.match(topText(long, 80), /\ndefault\/web-x+~x+-7d9f8-abcde +off +75 % +order\n/)
  for (const columns of [40, 60, 80, 100, 132])
    for (const each of [view, long, { ...view, node: { ...view.node, on: false, off: ['the self-test has not passed on this kernel'] } }])
      assert(widest(topText(each, columns)) <= columns, topText(each, columns))
})

test('counts that begin anew are no negative rates', () => {
  const again = { ...accelerationView, at: 2000, node: { ...accelerationView.node, accelerated: { messages: 1, bytes: 1, connections: 0 } } }
  assert.deepEqual(topView(accelerationView, again).node.accelerated, { messages: 0, bytes: 0 })
})

test('a picture fits the terminal', () => {
  const picture = frame(`${'ä'.repeat(100)}\n${'b\n'.repeat(100)}`, { columns: 40, rows: 10 })
  const lines = picture.split('\n')
  assert.equal(lines.length, 10)
  assert.equal(lines[0], `\x1b[H${'ä'.repeat(40)}\x1b[K`)
})

test('accelerate says what it did, what keeps it off, and how to take it back', () => {
  assert.match(
    accelerateText(accelerateView),
    /^acceleration is switched off for default\/web: every message goes by TCP from now on.*\nit stays off .*: merbridge accelerate on default\/web\nsee it: merbridge pods default\/web, or merbridge top\n$/,
  )
  const on = accelerateText({ switch: 'on', changed: false, accelerating: false, overrides: ['acceleration.mode of the config is none'] })
  assert.match(
    on,
    /^the switch for the whole node is on \(it was so before\); but nothing is accelerated there:\n {2}off because: acceleration\.mode of the config is none\nsee it: merbridge status/,
  )
  assert.match(
    accelerateText({ switch: 'on', changed: true, accelerating: true, overrides: [] }),
    /is on: messages are accelerated again where the rules allow it/,
  )
})

test('intervals that make no sense are refused', () => {
  assert.deepEqual([intervalOf('2'), intervalOf('0.2'), intervalOf('3600')], [2, 0.2, 3600])
  for (const text of ['0', '0.1', '-1', '3601', 'x', '', '1e3', 'Infinity']) assert.throws(() => intervalOf(text), MerbridgeError, text)
})

test('detach waits for seconds as people write them', () => {
  assert.deepEqual(['0', '10', '2.5', '86400'].map(secondsToWait), [0, 10, 2.5, 86_400])
  for (const text of ['-1', '86401', 'x', '', ' ', '1e3', '0x10', 'Infinity', '+5', ' 5'])
    assert.throws(() => secondsToWait(text), InvalidArgumentError, text)
})

interface Running {
  readonly merbridge: (...argv: string[]) => ReturnType<typeof execute>
  readonly asked: string[]
  readonly written: string[]
  readonly stop: AbortController
}

/** An agent that answers like one, and a terminal of 60 columns. */
async function running(t: TestContext, screen: { columns: number; rows: number } | undefined): Promise<Running> {
  const directory = mkdtempSync(join(tmpdir(), 'merbridge-top-'))
  const socket = join(directory, 'agent.sock')
  const config = join(directory, 'config.yaml')
  writeFileSync(config, `version: 1\nmesh: istio\ncontrol: { socket: ${socket} }\n`)
  const [stop, over] = [new AbortController(), new AbortController()]
  t.after(() => {
    over.abort()
    rmSync(directory, { recursive: true, force: true })
  })
  const [asked, written]: [string[], string[]] = [[], []]
  let view = accelerationView
  const refuse = async () => Promise.reject(new Error('not asked for'))
  const handlers: Handlers = {
    status: refuse,
    pods: refuse,
    config: async () => inForce,
    explain: refuse,
    reload: refuse,
    stop: refuse,
    events: () => () => {},
    acceleration: async () => {
      const answer = view
      view = later(view)
      return answer
    },
    accelerate: async (query) => {
      asked.push(String(query))
      if (query.get('pod') === 'wbe') throw new MerbridgeError('POD_UNKNOWN', 'the config lists no pod "wbe"', 'Did you mean web?')
      return accelerateView
    },
  }
  await serveControl(socket, handlers, over.signal)
  const around: Surroundings = {
    version: '0',
    cwd: '/',
    stdin: () => assert.fail('nothing reads'),
    logStream: process.stderr,
    write: async (text) => written.push(text) > 0,
    screen: () => screen,
    stopSignal: () => stop.signal,
    onReloadSignal: () => {},
  }
  return { merbridge: (command = '', ...argv) => execute([command, '--config', config, ...argv], around), asked, written, stop }
}

test('top prints one sample where there is no terminal, with --once, and as json', { timeout: 20_000 }, async (t) => {
  const plain = await running(t, undefined)
  const text = await plain.merbridge('top', '--interval', '0.2')
  assert.deepEqual([text.code, plain.written], [0, []])
  assert.match(text.stdout ?? '', /^acceleration on, .*\n\nPOD .*\n\(node\) /)
  const terminal = await running(t, { columns: 80, rows: 24 })
  assert.match((await terminal.merbridge('top', '--once', '--interval', '0.2')).stdout ?? '', /\nshop\/busy /)
  const json = JSON.parse((await terminal.merbridge('top', '--interval', '0.2', '--output', 'json')).stdout ?? '') as TopView
  assert.equal(json.pods.length, 3)
  assert(json.seconds > 0 && json.node.accelerated.messages > 0)
  assert.deepEqual(terminal.written, [])
})

test('top draws picture after picture on a terminal, and Ctrl-C ends it well', { timeout: 20_000 }, async (t) => {
  const { merbridge, written, stop } = await running(t, { columns: 60, rows: 5 })
  const ending = merbridge('top', '--interval', '0.2')
  while (written.length < 4) await new Promise((done) => setTimeout(done, 20))
  stop.abort()
  assert.deepEqual(await ending, { code: 0 })
  assert.equal(written[0], '\x1b[2J')
  for (const picture of written.slice(1)) assert(picture.startsWith('\x1b[Hacceleration on'))
})

test('what makes no sense is told without an agent, and exit codes are those of the other commands', { timeout: 20_000 }, async (t) => {
  const { merbridge, asked } = await running(t, undefined)
  const outcome = async (...argv: string[]) => {
    const { code, stdout = '', stderr = '' } = await merbridge(...argv)
    return `${code} ${stdout}${stderr}`
  }
  assert.match(await outcome('accelerate', 'offf'), /^2 merbridge: "offf" is neither on nor off\n {2}Did you mean off\?/)
  assert.match(await outcome('accelerate'), /^2 merbridge: missing required argument 'switch'/)
  assert.match(await outcome('top', '--interval', '0'), /^2 merbridge: --interval: "0" is not a time\n {2}Give seconds, from 0\.2 to 3600\./)
  assert.deepEqual(asked, [])
  assert.match(await outcome('accelerate', 'on', 'wbe'), /^1 merbridge: the config lists no pod "wbe"\n {2}Did you mean web\?/)
  assert.match(await outcome('accelerate', 'off', 'default/web'), /^0 acceleration is switched off for default\/web/)
  assert.deepEqual(JSON.parse((await merbridge('accelerate', 'off', '--output', 'json')).stdout ?? ''), accelerateView)
  assert.deepEqual(asked, ['switch=on&pod=wbe', 'switch=off&pod=default%2Fweb', 'switch=off'])
  const alone = join(tmpdir(), 'merbridge-nobody.yaml')
  writeFileSync(alone, 'version: 1\nmesh: istio\ncontrol: { socket: /run/merbridge-nobody.sock }\n')
  t.after(() => rmSync(alone))
  assert.match(await outcome('top', '--config', alone, '--once'), /^3 merbridge: no agent answers at/)
  assert.match(await outcome('accelerate', 'off', '--config', alone), /^3 merbridge: no agent answers at/)
})
