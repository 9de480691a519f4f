/**
 * explain beside the kernel, for rules by chance: IPv4, IPv6 and mapped addresses, TCP and UDP. The rule that it names is the one whose counter grows, under the
 * protocol and family that it names; the errno is the one that connect() gets, the source the one that the socket has.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Agent } from '../../core/agent.ts'
import { Limit, Stage } from '../../core/contract.ts'
import { readCounts } from '../../core/datapath/counters.ts'
import type { ExplainView } from '../../core/explain/view.ts'
import { explainView } from '../../core/observe/explain.ts'
import type { AnyPlugin, Interception } from '../../core/plugin.ts'
import { until } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { type Attempt, Connector } from './connector.ts'
import { cgroup, DatapathUnderTest, kernel } from './fixture.ts'
import { randomInterceptions } from './random-rules.ts'
import { serve } from './serving.ts'
import { sixty } from './sixty.ts'

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const started = { at: '', configPath: '', stateDir: '', cgroup, features: kernel.features }
const fullErrno = kernel.features.some(({ id, state }) => id === 'set_retval' && state === 'yes')

const lab = await Lab.create('explain6')
let [client, server]: LabPod[] = []
let [inside, outside]: Connector[] = []
const servers: AsyncDisposable[] = []
after(async () => {
  await inside?.[Symbol.asyncDispose]()
  await outside?.[Symbol.asyncDispose]()
  for (const each of servers) await each[Symbol.asyncDispose]()
  await lab.close()
})

const unreachable = [
  ['blackhole', '10.66.2.0/24', 'fd66:2::/64'],
  ['unreachable', '10.66.3.0/24', 'fd66:3::/64'],
  ['prohibit', '10.66.4.0/24', 'fd66:4::/64'],
] as const

before(async () => {
  const routes = unreachable.flatMap(([type, four, six]) => [
    [type, four],
    [type, six],
  ])
  client = await lab.pod('client', { ipv6: true, routes })
  server = await lab.pod('server', { ipv6: true })
  for (const address of ['10.55.0.1/32', '::6/128']) await must(client.command(['ip', 'address', 'add', address, 'dev', 'lo']))
  const listeners = [
    { name: 'both', address: '::', port: 15001 },
    { name: 'four', address: '0.0.0.0', port: 15004 },
    { name: 'six', address: '::', port: 15016, only6: true },
  ]
  servers.push(await serve(client, listeners), await serve(server, [{ name: 'app', address: '::', port: 8080 }]))
  ;[inside, outside] = [new Connector(client), new Connector(server)]
})

const ask = (agent: Agent, parameters: Readonly<Record<string, string>>): Promise<ExplainView> =>
  explainView(agent, started, new URLSearchParams({ pod: 'client', ...parameters }))

/** "1:3 udp6": rule 3 outbound, by protocol and family. */
async function decided(agent: Agent): Promise<Map<string, number>> {
  const counts = (await readCounts(agent.datapath.maps.counters)).filter((each) => each.stage !== Stage.REASON)
  return new Map(counts.flatMap(({ stage, index, by }) => Object.entries(by).map(([kind, count]) => [`${stage}:${index} ${kind}`, count] as const)))
}

const grown = async (agent: Agent, past: ReadonlyMap<string, number>, stage: Stage): Promise<string[]> =>
  [...(await decided(agent))].filter(([key, count]) => count > (past.get(key) ?? 0) && key.startsWith(`${stage}:`)).map(([key]) => key)

const expected = ({ rule, connection: { protocol, family } }: ExplainView, stage: Stage): string =>
  `${stage}:${rule?.index ?? Limit.RULES} ${protocol}${family === 'ipv6' ? 6 : 4}`

const endpoint = (address: string, port: number): string => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`)
const unmapped = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/, '')

/** Kinds of answers that were compared with the kernel. */
const compared = new Map<string, number>()

async function checkOutbound(agent: Agent, attempt: Attempt, rules: Interception): Promise<void> {
  const { to, uid, gid, bind, protocol = 'tcp' } = attempt
  const source = bind === undefined ? {} : { source: bind[1] === 0 ? bind[0] : endpoint(...bind) }
  const view = await ask(agent, { to: `${endpoint(...to)}/${protocol}`, uid: `${uid}`, gid: `${gid}`, ...source })
  const past = await decided(agent)
  const made = await inside?.connect(attempt)
  const context = `seed ${seed}: ${JSON.stringify(attempt)} got ${JSON.stringify(made)}, explain said ${JSON.stringify(view, undefined, 1)}; ${JSON.stringify(rules)}`
  const what = `${view.intercepted ? view.verdict : 'not asked'} ${expected(view, Stage.OUTBOUND).split(' ')[1]}${to[0].startsWith('::ffff:') ? ' mapped' : ''}${attempt.send ? ' sendto' : ''}`
  compared.set(what, (compared.get(what) ?? 0) + 1)
  if (!view.intercepted) return assert.deepEqual(await grown(agent, past, Stage.OUTBOUND), [], context)
  assert.deepEqual(await grown(agent, past, Stage.OUTBOUND), [expected(view, Stage.OUTBOUND)], context)
  assert.ok(view.earlier.every(({ failed }) => failed.length > 0))
  if (view.errno !== undefined && (fullErrno || view.errno !== 'ECONNREFUSED')) assert.equal(made?.outcome, view.errno, context)
  if (view.errno === undefined) assert.match(made?.outcome ?? '', /^(ok|timeout|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|EACCES|EINVAL)$/, context)
  if (view.verdict === 'redirect' && protocol === 'udp') assert.equal(made?.outcome, 'ok', context)
  if (made?.outcome === 'ok' && view.source !== undefined && attempt.send !== true) assert.equal(unmapped(made.source), view.source, context)
}

async function checkInbound(agent: Agent, to: string, port: number): Promise<void> {
  const source = to.includes(':') ? server?.ipv6 : server?.address
  const view = await ask(agent, { who: 'inbound', to: endpoint(to, port), source: source ?? '' })
  const past = await decided(agent)
  const made = await outside?.connect({ to: [to, port], uid: 0, gid: 0 })
  const found = await until('a decision is counted', 3000, async () => (await grown(agent, past, Stage.INBOUND))[0])
  const context = `seed ${seed}: ${endpoint(to, port)} got ${made?.outcome}, explain said ${view.result}`
  assert.equal(found, expected(view, Stage.INBOUND), context)
  if (view.verdict === 'redirect') assert.equal(made?.outcome, 'ok', context)
  if (view.verdict === 'refused') assert.equal(made?.outcome, view.errno, context)
}

const four = () => [
  ...[client?.address, server?.address, '10.55.0.1', '127.0.0.1', '127.0.0.9', '127.0.0.6', '0.0.0.0', '224.0.0.1'],
  ...unreachable.map(([, network]) => network.replace('0/24', '1')),
]
const six = () => [
  ...[client?.ipv6, server?.ipv6, '::1', '::6', '::', 'ff02::1', '2001:db8::9'],
  ...unreachable.map(([, , network]) => network.replace('/64', '1')),
]
const ports = [80, 8080, 53, 15001]
const uids = [1000, 1337]
let bound = 20_000

/** What the socket is bound to: nothing, an own address, loopback, or a port of every address. */
function binds(kind: 'four' | 'six' | 'mapped'): Attempt['bind'][] {
  const port = () => bound++ // of its own for each, so that none meets what is left of another
  if (kind === 'six') return [undefined, undefined, [client?.ipv6 ?? '', 0], ['::1', 0], ['::6', 0], ['::', port()]]
  const form = (address: string) => (kind === 'mapped' ? `::ffff:${address}` : address)
  const any: Attempt['bind'] = [kind === 'mapped' ? '::' : '0.0.0.0', port()]
  return [undefined, undefined, [form(client?.address ?? ''), 0], [form('127.0.0.1'), 0], [form('127.0.0.6'), 0], any]
}

const chosen = <T>(all: readonly T[]): T => all[Math.floor(Math.random() * all.length)] as T

function attempt(): Attempt {
  const kind = chosen(['four', 'six', 'mapped'] as const)
  const address = chosen(kind === 'six' ? six() : four()) ?? ''
  const bind = chosen(binds(kind))
  const to = [kind === 'mapped' ? `::ffff:${address}` : address, chosen(ports)] as const
  const how = chosen([{ protocol: 'tcp' }, { protocol: 'tcp' }, { protocol: 'udp' }, { protocol: 'udp', send: true }] as const)
  return { to, uid: chosen(uids), gid: 0, ...how, ...(bind === undefined ? {} : { bind }) }
}

const choice = () => ({
  networks: [
    '*',
    '10.0.0.0/8',
    '127.0.0.0/8',
    '10.66.0.0/16',
    `${server?.address}`,
    'fd00::/8',
    'fd66::/16',
    '::1',
    '::/0',
    `${server?.ipv6}`,
    `${client?.ipv6}`,
  ],
  ports,
  uids,
  targets: { both: { port: 15001 }, four: { port: 15004, ipv6: false }, six: { port: 15016, ipv4: false }, gone: { port: 15999 } } as const,
})

describe('explain beside the counters, for both families and protocols', { timeout: 240_000 }, () => {
  test('names the rule that counts, the errno and the source, for rules by chance', async () => {
    await using datapath = new DatapathUnderTest('explain6')
    const config = (rules: Interception) => datapath.withPlugin([client as LabPod], { ...sixty, describe: () => rules } as AnyPlugin)
    const policies = randomInterceptions(choice(), 20, seed)
    const agent = await datapath.start(config(policies[0] as Interception))
    for (const rules of policies) {
      await agent.reload(config(rules))
      for (let count = 0; count < 40; count++) await checkOutbound(agent, attempt(), rules)
      for (const to of [client?.address, client?.ipv6]) for (const port of [80, 15004, 15016]) await checkInbound(agent, to ?? '', port)
    }
    const udp = ['udp4', 'udp4 mapped', 'udp6'].flatMap((kind) => [kind, `${kind} sendto`])
    const kinds = ['tcp4', 'tcp4 mapped', 'tcp6', ...udp]
    const all = ['redirect', 'pass', 'refused'].flatMap((verdict) => kinds.map((kind) => `${verdict} ${kind}`))
    for (const each of all) assert.ok((compared.get(each) ?? 0) > 0, `${each} was not tried: ${JSON.stringify([...compared])}; seed ${seed}`)
  })

  test('says when a listener of the proxy does not take the family', async () => {
    await using datapath = new DatapathUnderTest('explain6-listeners')
    const all = (port: number): Interception => ({
      targets: { in: { port } },
      outbound: [{ name: 'all', unless: { to: 'loopback' }, then: 'in' }],
      inbound: [{ name: 'all', then: 'in' }],
    })
    const config = (port: number) => datapath.withPlugin([client as LabPod], { ...sixty, describe: () => all(port) } as AnyPlugin)
    const agent = await datapath.start(config(15004))
    const [to4, to6] = [`${client?.address}:80`, `[${client?.ipv6}]:80`]
    for (const [port, works, fails, family] of [
      [15004, to4, to6, 'IPv6'],
      [15016, to6, to4, 'IPv4'],
    ] as const) {
      await agent.reload(config(port))
      assert.equal((await ask(agent, { who: 'inbound', to: works })).verdict, 'redirect')
      const refused = await ask(agent, { who: 'inbound', to: fails })
      assert.deepEqual([refused.verdict, refused.reason], ['refused', 'assign'])
      await checkInbound(agent, (fails === to6 ? client?.ipv6 : client?.address) ?? '', 80)
      await checkInbound(agent, (works === to6 ? client?.ipv6 : client?.address) ?? '', 80)
      const target = fails === to6 ? `[${server?.ipv6}]:80` : `${server?.address}:80`
      assert.match((await ask(agent, { to: target })).notes.join(), new RegExp(`somebody is known to listen, but not for ${family}, on port ${port}`))
    }
  })
})
