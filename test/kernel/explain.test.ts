/**
 * explain beside the kernel: for every connection it must name the rule whose counter grows when the connection is really made, the errno that connect()
 * gets, and the source that the socket has.
 */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import type { Agent, AgentConfig } from '../../core/agent.ts'
import { Limit, Stage } from '../../core/contract.ts'
import { readCounts } from '../../core/datapath/counters.ts'
import type { ExplainView } from '../../core/explain/view.ts'
import { explainView } from '../../core/observe/explain.ts'
import type { AnyPlugin, Interception } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { until } from '../lab/agent.ts'
import { address, createSite } from '../parity/shape.ts'
import { type Attempt, Connector } from './connector.ts'
import { cgroup, DatapathUnderTest, kernel } from './fixture.ts'

const site = await createSite('explain')
const { pod, peer } = site
await site.listen('any')
const [inside, outside] = [new Connector(pod), new Connector(peer)]
after(async () => {
  await inside[Symbol.asyncDispose]()
  await outside[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
})

const started = { at: '', configPath: '', stateDir: '', cgroup, features: kernel.features }
const fullErrno = kernel.features.some(({ id, state }) => id === 'set_retval' && state === 'yes')

const ask = (agent: Agent, parameters: Readonly<Record<string, string | undefined>>): Promise<ExplainView> =>
  explainView(agent, started, new URLSearchParams(Object.entries(parameters).filter((each): each is [string, string] => each[1] !== undefined)))

/** Decisions of the pod so far: "1:3" is rule 3 outbound, "2:64" an inbound connection that no rule matched. */
async function decisions(agent: Agent): Promise<Map<string, number>> {
  const netns = agent.outcomes[0]?.netns
  const counts = (await readCounts(agent.datapath.maps.counters)).filter((each) => each.netns === netns && each.stage !== Stage.REASON)
  return new Map(counts.map(({ stage, index, count }) => [`${stage}:${index}`, count]))
}

/** What was counted meanwhile; bounded, because a SYN may be a moment on its way. */
async function counted(agent: Agent, before: ReadonlyMap<string, number>, stage: Stage): Promise<string> {
  return until('a decision is counted', 3000, async () => {
    const grown = [...(await decisions(agent))].filter(([key, count]) => count > (before.get(key) ?? 0) && key.startsWith(`${stage}:`))
    assert.ok(grown.length < 2, `several rules counted one connection: ${grown.join(' ')}`)
    return grown[0]?.[0]
  })
}

const ruleOf = (view: ExplainView, stage: Stage): string => `${stage}:${view.rule?.index ?? Limit.RULES}`

const name = ({ to, uid, gid, bind, mark }: Attempt) => `uid ${uid} gid ${gid} mark ${mark ?? 0} ${bind?.join(':') ?? ''} -> ${to.join(':')}`

async function checkOutbound(agent: Agent, attempt: Attempt): Promise<void> {
  const { to, uid, gid, mark, bind } = attempt
  const source = bind === undefined ? undefined : bind[1] === 0 ? bind[0] : bind.join(':')
  const view = await ask(agent, {
    pod: 'pod',
    to: to.join(':'),
    uid: `${uid}`,
    gid: `${gid}`,
    ...(mark === undefined ? {} : { mark: `${mark}` }),
    source,
  })
  const before = await decisions(agent)
  const made = await inside.connect(attempt)
  assert.equal(ruleOf(view, Stage.OUTBOUND), await counted(agent, before, Stage.OUTBOUND), `${name(attempt)}: ${JSON.stringify(view, undefined, 1)}`)
  assert.equal(view.earlier.length, view.rule?.index ?? view.earlier.length)
  for (const rule of view.earlier) assert.ok(rule.failed.length > 0, `${name(attempt)}: nothing fails in rule ${rule.index}`)
  if (view.errno !== undefined && (fullErrno || view.errno !== 'ECONNREFUSED')) assert.equal(made.outcome, view.errno, name(attempt))
  if (view.errno === undefined) assert.match(made.outcome, /^(ok|timeout|ECONNREFUSED|EHOSTUNREACH)$/, `${name(attempt)}: ${view.result}`)
  if (made.outcome === 'ok' && view.source !== undefined) assert.equal(made.source, view.source, name(attempt))
}

async function checkInbound(agent: Agent, to: string, port: number): Promise<void> {
  const view = await ask(agent, { pod: 'pod', who: 'inbound', to: `${to}:${port}`, source: address.PEER })
  const before = await decisions(agent)
  const made = await outside.connect({ to: [to, port], uid: 0, gid: 0 })
  assert.equal(ruleOf(view, Stage.INBOUND), await counted(agent, before, Stage.INBOUND), `${to}:${port}`)
  if (view.verdict === 'redirect') assert.equal(made.outcome, 'ok', `${to}:${port}`)
  if (view.verdict === 'refused') assert.equal(made.outcome, view.errno, `${to}:${port}`)
}

const identities = [
  { uid: 1000, gid: 1000 },
  { uid: 1337, gid: 1337 },
  { uid: 0, gid: 1337 },
  { uid: 1337, gid: 0 },
  { uid: 0, gid: 0 },
]

const destinations: Attempt['to'][] = [
  ...[80, 53, 22, 31000, 15020, 15008].map((port): Attempt['to'] => [address.VIP, port]),
  [address.PEER, 8080],
  [address.SRC2ND, 80],
  [address.NET2, 80],
  ...[address.THROW, address.BLACKHOLE, address.UNREACHABLE, address.PROHIBIT, address.MULTICAST].map((to): Attempt['to'] => [to, 80]),
  ...[8080, 9999, 15008, 15020, 15006].map((port): Attempt['to'] => [address.POD, port]),
  [address.POD2ND, 8080],
  [address.ANYIP, 8080],
  ...['127.0.0.1', '127.0.0.9', '127.0.0.6', '0.0.0.0'].map((to): Attempt['to'] => [to, 8080]),
]

const bindings: Attempt['bind'][] = [
  ['127.0.0.6', 0],
  ['127.0.0.1', 0],
  [address.POD2ND, 0],
  ['0.0.0.0', 21_000],
]

function outboundAttempts(): Attempt[] {
  const plain = identities.flatMap((identity) => destinations.map((to) => ({ ...identity, to })))
  const few: Attempt['to'][] = [
    [address.VIP, 80],
    [address.VIP, 15020],
    [address.POD, 8080],
    ['127.0.0.1', 8080],
    ['0.0.0.0', 8080],
    [address.BLACKHOLE, 80],
  ]
  const bound = identities.slice(0, 2).flatMap((identity) => bindings.flatMap((bind) => few.map((to) => ({ ...identity, to, bind }))))
  // A port of its own for each, so that none meets what is left of another.
  return [...plain, ...bound.map((each, index) => (each.bind?.[1] ? { ...each, bind: [each.bind[0], each.bind[1] + index] as const } : each))]
}

const inboundPorts = [22, 80, 8080, 9999, 15001, 15006, 15008, 15020, 15021, 15090]

async function checkAll(agent: Agent): Promise<number> {
  const attempts = outboundAttempts()
  for (const attempt of attempts) await checkOutbound(agent, attempt)
  for (const to of [address.POD, address.POD2ND]) for (const port of inboundPorts) await checkInbound(agent, to, port)
  return attempts.length + 2 * inboundPorts.length
}

const annotated = (config: AgentConfig, values: Readonly<Record<string, string>>): AgentConfig => {
  const annotations = Object.fromEntries(Object.entries(values).map(([key, value]) => [`traffic.sidecar.istio.io/${key}`, value]))
  return { ...config, config: { ...config.config, pods: config.config.pods.map((each) => ({ ...each, annotations })) } }
}

const variants: readonly Readonly<Record<string, string>>[] = [
  {},
  { excludeOutboundPorts: '80,15020', excludeOutboundIPRanges: '10.77.0.30/32,10.88.0.0/16', excludeInboundPorts: '22,8080' },
  { includeOutboundIPRanges: '10.96.0.0/16', includeOutboundPorts: '8080,53', includeInboundPorts: '80,8080' },
  { includeOutboundIPRanges: '127.0.0.0/8,10.96.0.10/32', includeInboundPorts: '' },
  { excludeInterfaces: 'net2' },
  { excludeInterfaces: 'lo,eth0' },
]

/** What no built-in mesh has: drops, marks, sources, a target that is not loopback, a family that is refused. */
const other: Interception = {
  sets: {
    marked: { mark: [{ value: 0x539, mask: 0xfff }] },
    'second address': { cidrs: [`${address.POD2ND}/32`] },
    ssh: { ports: [22] },
    service: { cidrs: [`${address.VIP}/32`] },
    dns: { ports: [53] },
    high: { ports: ['31000-31999'] },
    neighbour: { cidrs: [address.PEER] },
  },
  targets: {
    there: { ipv4: address.PEER, port: 8080 },
    six: { port: 15001, ipv4: false },
    proxy: { port: 15001 },
    inbound: { port: 15006 },
    gone: { port: 15999 },
  },
  outbound: [
    { name: 'marked passes', when: { from: 'marked' }, then: 'pass' },
    { name: 'no ssh', when: { port: 'ssh' }, then: 'drop' },
    { name: 'by the second address', when: { from: 'second address' }, unless: { to: 'pod' }, then: 'there' },
    { name: 'dns has no IPv4', when: { port: 'dns' }, then: 'six' },
    { name: 'service', when: { to: 'service' }, unless: { port: 'high' }, then: 'proxy' },
  ],
  inbound: [
    { name: 'no ssh', when: { port: 'ssh' }, then: 'drop' },
    { name: 'high', when: { port: 'high' }, then: 'gone' },
    { name: 'not the neighbour', unless: { from: 'neighbour' }, then: 'pass' },
    { name: 'all', then: 'inbound' },
  ],
}

describe('explain beside the counters', { timeout: 240_000 }, () => {
  test('names the rule that counts, the errno and the source, for every connection and every set of annotations', async () => {
    await using datapath = new DatapathUnderTest('explain')
    const config = datapath.config([pod])
    const agent = await datapath.start(config)
    let checked = 0
    for (const values of variants) {
      await agent.reload(annotated(config, values))
      checked += await checkAll(agent)
    }
    assert.ok(checked > 500, `${checked} connections`)
  })

  test('also for rules of another mesh: drops, marks, sources, other targets', async () => {
    await using datapath = new DatapathUnderTest('explain-other')
    const plugin = { ...plugins.istio, describe: () => ({ ...other, proxy: { uid: 7777, mark: 0x539 } }) } as AnyPlugin
    const agent = await datapath.start(datapath.withPlugin([pod], plugin))
    await checkAll(agent)
    for (const mark of [0x539, 0x1539, 0x53a]) await checkOutbound(agent, { to: [address.VIP, 80], uid: 1000, gid: 1000, mark })
    await checkInbound(agent, address.POD, 31_000)
    assert.match((await ask(agent, { pod: 'pod', who: 'inbound', to: `${address.POD}:31000` })).result, /nobody listens on the proxy's port 15999/)
    const { rule, connection } = await ask(agent, { pod: 'pod', who: 'from-proxy', to: `${address.VIP}:22` })
    assert.deepEqual([rule?.name, connection.uid], ['marked passes', 7777])
  })
})
