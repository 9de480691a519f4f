/** The decisions, addresses and listeners of the datapath, with an agent in this process: starting one costs much under emulation. */
import assert from 'node:assert/strict'
import type { Agent } from '../../core/agent.ts'
import { DatapathUnderTest, reached, refusalsOf, seesProxy } from '../kernel/fixture.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { startApp, startProxy } from '../mesh/sidecar.ts'
import { type Case, connect, connectOnce, flood, type Step } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import type { Check, Group } from './checks.ts'
import type { Refusals } from './differences.ts'
import { familyChecks, familyNames } from './family-checks.ts'
import { LOOPBACK, loopbackCheck } from './lo-check.ts'
import { localityChecks, localityNames } from './locality-checks.ts'
import { MARKS, marksCheck } from './mark-check.ts'

/** A service address: the node routes it to the server. */
const VIP = '10.96.0.10'

/** Without it there is nothing to check. */
export const LOADS = 'programs load and attach'

const names = [
  LOADS,
  'outbound is redirected',
  'the proxy goes out',
  'an excluded port passes',
  'loopback passes',
  'inbound is redirected',
  'the proxy calls its own pod',
  'original destination, outbound',
  'original destination, inbound',
  'getpeername of the client',
  'source seen by the proxy',
  'errors of routes',
  'long socket options',
  ...localityNames,
  ...familyNames,
  LOOPBACK,
  MARKS,
  'refused while nobody listens',
  'a listener that came later',
  'a proxy that restarts',
  'a shared port whose member leaves',
] as const
/** How many come last, about listeners, and are left out of the short list: they take longest. */
const LISTENER_CHECKS = 4

interface Scene {
  readonly client: LabPod
  readonly server: LabPod
  readonly late: LabPod
  readonly agent: Agent
}

/** A route of each kind that refuses, and the error that routing gives. */
const errors = { '10.66.1.1': 'ENETUNREACH', '10.66.2.1': 'EINVAL', '10.66.3.1': 'EHOSTUNREACH', '10.66.4.1': 'EACCES' } as const
const routes = [
  ['throw', '10.66.1.0/24'],
  ['blackhole', '10.66.2.0/24'],
  ['unreachable', '10.66.3.0/24'],
  ['prohibit', '10.66.4.0/24'],
]

/** Everything that the client tries, in one process. */
const clientCases = ({ client, server }: Pick<Scene, 'client' | 'server'>): readonly Case[] => [
  { id: 'app out', as: app, to: [[server.address, 8080]] },
  { id: 'app to a service', as: app, to: [[VIP, 80]] },
  { id: 'proxy out', as: proxy, to: [[server.address, 15020]] },
  { id: 'excluded', as: app, to: [[server.address, 15020]] },
  { id: 'loopback', as: app, to: [['127.0.0.1', 8080]] },
  { id: 'own address', as: app, to: [[client.address, 8080]] },
  { id: 'proxy to itself', as: proxy, to: [[client.address, 8080]] },
  { id: 'proxy in', as: proxy, to: [[server.address, 8080]] },
  ...Object.keys(errors).map((host): Case => ({ id: host, as: app, to: [[host, 80]] })),
]

const seenOf = (step: Step) => {
  if (typeof step.seen !== 'object') throw new Error(`nobody accepted: ${step.seen ?? step.error}`)
  return step.seen
}

async function decisions(scene: Scene, check: Check, refusals: Refusals): Promise<void> {
  const { client, server } = scene
  const steps = new Map((await connect(client, clientCases(scene))).map(({ id, steps: [step] }) => [id, step]))
  const step = (id: string): Step => steps.get(id) ?? assert.fail(`no result for ${id}`)
  const accepts = (name: string, ...wanted: readonly (readonly [id: string, listener: string])[]) =>
    check(name, () => {
      for (const [id, listener] of wanted) assert.equal(reached(step(id)), listener, id)
      return wanted.map(([id, listener]) => `${id}: ${listener}`).join(', ')
    })
  await accepts('outbound is redirected', ['app out', 'client:15001'], ['app to a service', 'client:15001'])
  await accepts('the proxy goes out', ['proxy out', 'server:app'])
  await accepts('an excluded port passes', ['excluded', 'server:app'])
  await accepts('loopback passes', ['loopback', 'client:app'], ['own address', 'client:app'])
  await accepts('inbound is redirected', ['proxy in', 'server:15006'])
  await accepts('the proxy calls its own pod', ['proxy to itself', 'client:15006'])
  const asked = (id: string, destination: string) => {
    const { origin } = seenOf(step(id))
    assert.equal(origin['16'], `${destination} (16 bytes)`, id)
    assert.equal(origin['15'], 'EINVAL', `${id}, a buffer that is too small`)
  }
  await check('original destination, outbound', () => {
    asked('app out', `${server.address}:8080`)
    asked('app to a service', `${VIP}:80`)
    assert.equal(step('app out').origin?.['16'], `${server.address}:8080 (16 bytes)`, 'at the client')
    return `${VIP}:80`
  })
  await check('original destination, inbound', () => {
    asked('proxy in', `${server.address}:8080`)
    asked('proxy to itself', `${client.address}:8080`)
    return `${server.address}:8080`
  })
  await check('getpeername of the client', () => {
    assert.equal(step('app to a service').peer, `${VIP}:80`)
    assert.equal(step('proxy to itself').peer, `${client.address}:8080`)
    return `${VIP}:80`
  })
  await check('source seen by the proxy', () => {
    for (const id of ['app out', 'app to a service', 'proxy in']) {
      assert.equal(seenOf(step(id)).peer, step(id).local, id)
      assert.match(seenOf(step(id)).peer, new RegExp(`^${client.address}:`), id)
    }
    return client.address
  })
  await check('errors of routes', () => {
    for (const [host, error] of Object.entries(errors)) assert.equal(step(host).error, refusals.errno(error), host)
    return Object.keys(errors)
      .map((host) => step(host).error)
      .join(' ')
  })
  // Some kernels pass only a page of a socket option to a program, and fail the option when the program says nothing of that.
  await check('long socket options', async () => {
    const lengths = [100, 4096, 4097, 65536]
    // Python's own getsockopt takes 1024 bytes at most.
    const script = `
import ctypes, socket
libc, s = ctypes.CDLL(None, use_errno=True), socket.socket()
def ask(option, n):
    length = ctypes.c_uint(n)
    failed = libc.getsockopt(s.fileno(), socket.IPPROTO_TCP, option, ctypes.create_string_buffer(n), ctypes.byref(length))
    return -ctypes.get_errno() if failed else length.value
print([[ask(option, n) for n in ${JSON.stringify(lengths)}] for option in (socket.TCP_INFO, 200)])`
    const { stdout, stderr } = await client.exec(['/usr/bin/python3', '-c', script], app)
    const [info = [], unknown] = JSON.parse(stdout || assert.fail(stderr)) as readonly number[][]
    assert.deepEqual(info, [100, info[1], info[1], info[1]], 'TCP_INFO')
    assert.deepEqual(unknown, Array(4).fill(-92), 'ENOPROTOOPT for an option that does not exist')
    return stdout.trim()
  })
}

async function listeners({ client, late, agent }: Scene, check: Check, refusals: Refusals): Promise<void> {
  const into = () => connectOnce(client, proxy, [late.address, 8080])
  const out = () => connectOnce(late, app, [client.address, 8080])
  const refused = async () => {
    assert.equal((await into()).error, 'ECONNREFUSED', 'inbound')
    assert.equal((await out()).error, refusals.errno('ECONNREFUSED'), 'outbound')
  }
  const served = async (name: string) => {
    assert.equal(reached(await into()), `${name}:15006`, 'inbound')
    assert.equal(reached(await out()), `${name}:15001`, 'outbound')
  }
  await check('refused while nobody listens', async () => {
    await refused()
    const counted = (await refusalsOf(agent.datapath)).get('no listener') ?? 0
    assert.ok(counted > 0, 'it is counted')
    return `counted ${counted}`
  })
  await check('a listener that came later', async () => {
    await using _first = await startProxy(late, { name: 'first' })
    await served('first')
    return 'first'
  })
  await check('a proxy that restarts', async () => {
    await refused()
    await using _second = await startProxy(late, { name: 'second' })
    await served('second')
    return 'second'
  })
  await check('a shared port whose member leaves', async () => {
    const one = await startProxy(late, { name: 'one', reuseport: true })
    await using _two = await startProxy(late, { name: 'two', reuseport: true })
    const many = { as: proxy, to: Array.from({ length: 30 }, () => [late.address, 8080] as const), start: 0, end: 0 }
    const both = await flood(client, { ...many, expect: ['one:15006', 'two:15006'] })
    const accepted = await one.accepted()
    await one.stop()
    const rest = await flood(client, { ...many, expect: ['two:15006'] })
    assert.deepEqual([both, rest], [{ ok: 30 }, { ok: 30 }])
    return `${accepted} of 30 at the one that left`
  })
}

export const datapathChecks = (refusals: Refusals, { short }: { readonly short: boolean }): Group => ({
  names: short ? names.slice(0, -LISTENER_CHECKS) : names,
  run: async (check) => {
    await using lab = await Lab.create('kernels')
    const client = await lab.pod('client', { routes })
    const [server, late] = [await lab.pod('server'), await lab.pod('late')]
    // They listen before their pods are enrolled: the iterator must find them.
    await Promise.all([startProxy(client), startProxy(server), startApp(client, [8080]), startApp(server, [8080, 15020])])
    await using datapath = new DatapathUnderTest('kernels')
    let agent: Agent | undefined
    const config = datapath.config([client, server, late])
    await check(LOADS, async () => {
      agent = await datapath.start(config)
      const states = agent.outcomes.map(({ state, reason }) => `${state}${reason === undefined ? '' : `: ${reason}`}`)
      assert.deepEqual(states, ['enrolled', 'enrolled', 'enrolled'])
      return '3 pods enrolled'
    })
    if (agent === undefined) throw new Error('the programs did not load')
    const scene = { client, server, late, agent }
    await decisions(scene, check, refusals)
    await localityChecks({ ...scene, lab, datapath }, check, config, seesProxy)
    await familyChecks({ ...scene, lab, datapath }, check, refusals, seesProxy)
    await loopbackCheck({ ...scene, lab, datapath }, check, config)
    await marksCheck({ ...scene, lab, datapath }, check, config)
    if (!short) await listeners(scene, check, refusals)
    await agent[Symbol.asyncDispose]()
  },
})
