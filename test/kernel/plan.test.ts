/** plan says exactly what the agent then does, with an agent and without one, and changes nothing itself. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { stringify } from 'yaml'
import { attachCgroup } from '../../core/cgroup.ts'
import { type MapName, mapNames } from '../../core/compile/maps.ts'
import { currentLayout } from '../../core/datapath/layout.ts'
import { lockPath } from '../../core/lock.ts'
import { native } from '../../core/native/index.ts'
import { definedCapacities } from '../../core/plan/gather.ts'
import type { PlanView } from '../../core/plan/view.ts'
import { objectPath } from '../../core/root.ts'
import { usingAsync } from '../../core/scope.ts'
import { Agent, type AgentConfig, execute, type Outcome, program, until } from '../lab/agent.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { btf, without } from '../lab/without.ts'

/** Named, where the config in force has auto. */
const cgroup = attachCgroup('auto').path

type Contents = Record<MapName | 'meta', Map<string, string>>

async function contentsOf(bpffs: string): Promise<Contents> {
  const layout = currentLayout(bpffs)
  const read = async (name: string) => {
    if (!existsSync(layout.map(name))) return new Map<string, string>()
    const entries = await usingAsync(native.pinnedMap(layout.map(name)), (map) => map.entries())
    return new Map(entries.map(({ key, value }) => [key.toString('hex'), value.toString('hex')]))
  }
  return Object.fromEntries(await Promise.all([...mapNames, 'meta' as const].map(async (name) => [name, await read(name)]))) as Contents
}

/** Everything that plan could have touched: pins with their inodes, contents with the generation, the lock. */
async function everything(bpffs: string): Promise<unknown> {
  const names = existsSync(bpffs) ? readdirSync(bpffs, { recursive: true }).map(String).sort() : []
  const pins = names.map((name) => `${name} ${statSync(join(bpffs, name)).ino}`)
  return { pins, contents: await contentsOf(bpffs), lock: existsSync(lockPath(bpffs)) }
}

type Counts = Readonly<Record<string, readonly [added: number, changed: number, removed: number]>>

function difference(old: Contents, now: Contents): Counts {
  return Object.fromEntries(
    mapNames.map((name) => {
      const [a, b] = [old[name], now[name]]
      const both = [...b].filter(([key]) => a.has(key))
      return [name, [b.size - both.length, both.filter(([key, value]) => a.get(key) !== value).length, a.size - both.length]]
    }),
  )
}

const counts = ({ maps }: PlanView): Counts => Object.fromEntries(maps.map(({ map, added, changed, removed }) => [map, [added, changed, removed]]))

const changes = ({ pods }: PlanView) => Object.fromEntries(pods.map(({ name, change }) => [name, change]))

/** The kernel adds routes of its own when it has found a link-local address to be free. */
const settled = (pod: LabPod) =>
  until('no address is tentative', 10_000, async () =>
    (await must(pod.command(['ip', '-6', '-oneline', 'address', 'show', 'tentative']))).trim() === '' ? true : undefined,
  )

describe('plan', { timeout: 240_000 }, () => {
  let lab: Lab
  let pods: LabPod[]
  let agent: Agent
  let directory: string

  before(async () => {
    lab = await Lab.create('plan')
    pods = [await lab.pod('web'), await lab.pod('api'), await lab.pod('old')]
    for (const pod of pods) await settled(pod)
    directory = await mkdtemp(join(tmpdir(), 'merbridge-plan-'))
    agent = await Agent.create(listing(0, 2))
  })

  after(async () => {
    await agent?.close()
    await lab?.close()
    await rm(directory, { recursive: true, force: true })
  })

  const at = (index: number) => ({ name: pods[index]?.name ?? '', netns: pods[index]?.netns ?? '' })
  const listing = (...indexes: readonly number[]): AgentConfig => ({ pods: indexes.map(at), options: { excludeOutboundPorts: [15020, 22] } })
  const missing = { name: 'gone', netns: '/run/netns/merbridge-no-such-namespace' }

  /** The config that the next reload shall get, beside the one in force. */
  async function file(config: AgentConfig, attach: object = {}): Promise<string> {
    const path = join(directory, 'new.yaml')
    const { pods: listed, options = {} } = config
    const control = { socket: join(agent.directory, 'agent.sock') }
    const own = { bpffs: agent.bpffs, btf, without, ...attach }
    await writeFile(path, stringify({ version: 1, mesh: 'istio', options, workloads: { static: listed }, attach: own, control }))
    return path
  }

  /** Runs plan, and sees that it leaves everything as it is. */
  async function planned(argv: readonly string[] = []): Promise<PlanView> {
    const old = await everything(agent.bpffs)
    const outcome = await agent.command(['plan', '--output', 'json', ...argv])
    assert.equal(outcome.code, 0, outcome.stderr)
    assert.deepEqual(await everything(agent.bpffs), old, 'plan changed something')
    return JSON.parse(outcome.stdout) as PlanView
  }

  const text = async (argv: readonly string[]): Promise<string> => {
    const outcome = await agent.command(['plan', ...argv])
    assert.equal(outcome.code, 0, outcome.stderr)
    return outcome.stdout
  }

  /** What the agent does with the config, counted in the maps. */
  async function reloaded(config: AgentConfig, generations: number): Promise<Counts> {
    const [old, status] = [await contentsOf(agent.bpffs), await agent.status()]
    await agent.write(config)
    await agent.waitFor('the reload is in force', 20_000, ({ config: now }) => now.lastReload.at > status.config.lastReload.at)
    assert.equal((await agent.status()).config.generation, status.config.generation + generations)
    return difference(old, await contentsOf(agent.bpffs))
  }

  test('a first start: everything is added, and that is what the agent then adds', async () => {
    const view = await planned()
    assert.deepEqual(changes(view), { 'default/web': 'joins', 'default/old': 'joins' })
    assert.deepEqual([view.changes, view.datapath.inPlace, view.agentRuns], [true, false, false])
    assert.match(await text([]), /nothing is in place there: everything is new\n2 pods join\n/)
    assert.equal(existsSync(agent.bpffs), false)
    await agent.run()
    assert.deepEqual(counts(view), difference(await contentsOf(`${agent.bpffs}-none`), await contentsOf(agent.bpffs)))
  })

  test('capacities are those of the maps', async () => {
    const defined = definedCapacities(native.btf(objectPath('merbridge.bpf.o')))
    for (const name of mapNames)
      await usingAsync(native.pinnedMap(currentLayout(agent.bpffs).map(name)), async (map) => assert.equal(defined[name], map.info.maxEntries, name))
  })

  test('the config in force changes nothing', async () => {
    const view = await planned()
    assert.deepEqual([view.changes, view.agentRuns, view.needsRestart, view.entries], [false, true, [], []])
    assert.match(await text([]), /nothing to change\n2 pods stay as they are\n$/)
  })

  test('a pod that the plugin would not enrol any more stays as it is, and the plan says so', async () => {
    const tproxy = { ...at(0), annotations: { 'sidecar.istio.io/interceptionMode': 'TPROXY' } }
    const path = await file({ ...listing(0, 2), pods: [tproxy, at(2)] })
    const view = await planned([path])
    assert.deepEqual([changes(view), view.changes], [{ 'default/web': 'unchanged', 'default/old': 'unchanged' }, false])
    const web = view.pods.find(({ name }) => name === 'default/web')
    assert.deepEqual([web?.state, web?.policyAfter], ['enrolled', web?.policyBefore])
    assert.match(web?.warnings.join() ?? '', /TPROXY.*; the rules of before stay: .*start the pod again, or take it out of the configuration$/)
    assert.match(await text([path]), /web.*the rules of before stay/)
  })

  test('pods join, leave and get other rules, as a reload then does it, entry by entry', async () => {
    const next: AgentConfig = {
      options: { excludeOutboundPorts: [15020, '8000-8010'], excludeOutboundCidrs: ['10.5.0.0/16'], proxyPort: 15101, includeInboundPorts: [80] },
      pods: [
        at(0),
        at(1),
        missing,
        { name: 'tproxy', netns: '/run/netns/merbridge-neither', annotations: { 'sidecar.istio.io/interceptionMode': 'TPROXY' } },
      ],
    }
    const path = await file(next)
    const view = await planned([path])
    assert.deepEqual(changes(view), {
      'default/web': 'new rules',
      'default/api': 'joins',
      'default/gone': 'stays out',
      'default/tproxy': 'stays out',
      'default/old': 'leaves',
    })
    const reasons = Object.fromEntries(view.pods.map(({ name, state, reason }) => [name, `${state}: ${reason}`]))
    assert.match(reasons['default/gone'] ?? '', /^waiting: its network namespace .* does not exist/)
    assert.match(reasons['default/tproxy'] ?? '', /^cannot: .*TPROXY/)
    const rules = view.rules.find((each) => each.pods.includes('default/web'))?.rules
    assert.ok(rules?.known)
    assert.deepEqual(
      rules.added.map((rule) => rule.split(':')[0]),
      ["outbound rule 7 'excluded destination'", "inbound rule 2 'included port'"],
    )
    assert.deepEqual(
      rules.removed.map((rule) => rule.split(':')[0]),
      ["inbound rule 2 'excluded port'", "inbound rule 3 'everything else'"],
    )
    assert.match(rules.added[0] ?? '', /excluded destinations \(10\.5\.0\.0\/16\)/)
    const changed = rules.changed.map(({ after: now }) => now)
    for (const part of [/'excluded port': port excluded outbound ports \(15020, 8000-8010\) -> pass$/, /127\.0\.0\.1:15101/])
      assert.ok(
        changed.some((rule) => part.test(rule)),
        `${part}: ${changed.join('\n')}`,
      )
    const entries = view.entries.map(({ map, change, entry }) => `${change} ${map} ${entry}`)
    for (const part of [
      /^add port_sets policy [0-9a-f]{16}: port 8000-8007: excluded outbound ports$/,
      /^remove port_sets policy [0-9a-f]{16}: port 22: excluded outbound ports$/,
      /^add cidr_sets policy [0-9a-f]{16}: destination 10\.5\.0\.0\/16: excluded destinations/,
      /^add owner_sets policy [0-9a-f]{16}: uid 1337: .*sidecar/,
      /^add proxy_ports default\/web: listeners on port 15101/,
      /^remove routes default\/old: 10\.77\.0\.\d+\/32 is the pod's own, source 10\.77\.0\.\d+$/,
      /^add routes default\/api: 0\.0\.0\.0\/0 leaves the pod, source/,
      /^change pods default\/web: policy/,
      /^remove pods default\/old: policy/,
    ])
      assert.ok(
        entries.some((entry) => part.test(entry)),
        `${part}:\n${entries.join('\n')}`,
      )
    assert.equal(
      entries.length,
      view.maps.reduce((sum, { added, changed: different, removed }) => sum + added + different + removed, 0),
    )
    assert.match(await text([path]), /1 pod LEAVES, and .*\n2 pods stay out\n1 pod joins\n1 pod gets other rules\n\nPOD/)
    assert.match(await text([path, '--verbose']), /\+ port_sets: policy [0-9a-f]{16}: port 8000-8007: excluded outbound ports\n/)
    const piped = await execute('/bin/sh', ['-c', `"${program}" plan - --output json --config "${agent.configFile}" <"${path}"`])
    assert.deepEqual({ ...(JSON.parse(piped.stdout) as PlanView), file: path, pods: [], rules: [] }.maps, view.maps)
    assert.deepEqual(await reloaded(next, 1), counts(view))
  })

  test('explain asks the agent, and names a pod that has no rules with its state and the reason', async () => {
    const asked = await agent.command(['explain', 'web', '10.96.0.10:80', '--uid', '1337'])
    assert.equal(asked.code, 0, asked.stderr)
    assert.match(asked.stdout, /^default\/web +10\.96\.0\.10:80\/tcp from the app\ndecided by +outbound rule \d+ '.*': pass\n/)
    for (const [pod, code, message] of [
      ['gone', 1, /pod default\/gone is not enrolled \(waiting\): its network namespace .* does not exist/],
      ['tproxy', 1, /pod default\/tproxy is not enrolled \(cannot\): .*TPROXY/],
      ['wbe', 1, /the config lists no pod "wbe"\n {2}Did you mean web/],
    ] as const) {
      const outcome = await agent.command(['explain', pod, '10.96.0.10:80'])
      assert.deepEqual([outcome.code, outcome.stdout], [code, ''])
      assert.match(outcome.stderr, message)
    }
  })

  test('without an agent it plans the same, by the config that was kept', async () => {
    const next = listing(0, 1, 2)
    const path = await file(next)
    const running = await planned([path])
    await agent.kill('SIGKILL')
    const stopped = await planned([path])
    assert.deepEqual(stopped, { ...running, agentRuns: false })
    assert.ok(stopped.rules.every(({ rules }) => rules.known))
    await agent.run('answering')
    assert.deepEqual(await reloaded(next, 1), counts(stopped))
  })

  test('takes the names of pods that leave from the agent, and calls one that nobody knows by its namespace', async () => {
    const path = await file({ pods: [] })
    const leaving = async () => {
      const outcome = await execute(program, ['plan', path, '--output', 'json', '--config', path, '--state-dir', join(directory, 'nowhere')])
      return new Set((JSON.parse(outcome.stdout) as PlanView).pods.map(({ name }) => name))
    }
    assert.deepEqual(await leaving(), new Set(['default/web', 'default/old', 'default/api']))
    await agent.kill('SIGTERM')
    assert.deepEqual(await leaving(), new Set(pods.map(({ netns }) => netns)))
    await agent.run()
  })

  test('says which keys need a restart, and what cannot be planned', async () => {
    assert.deepEqual((await planned([await file(listing(0), { cgroup })])).needsRestart, ['attach.cgroup'])
    const elsewhere = await planned([await file(listing(0), { bpffs: `${agent.bpffs}-other` })])
    assert.deepEqual([elsewhere.needsRestart, elsewhere.datapath.inPlace, changes(elsewhere)], [['attach.bpffs'], false, { 'default/web': 'joins' }])
    assert.match(await text([await file(listing(0), { cgroup })]), /NEEDS A RESTART: attach\.cgroup cannot change while the agent runs/)

    const wrong = await agent.command(['plan', await file({ pods: [at(0)], options: { proxyPort: 70_000 } })])
    assert.deepEqual([wrong.code, wrong.stdout], [2, ''])
    assert.equal(wrong.stderr, (await agent.command(['validate', join(directory, 'new.yaml')])).stderr)
    assert.equal((await agent.command(['plan', join(directory, 'absent.yaml')])).code, 2)
    const notBpffs: Outcome = await agent.command(['plan', await file(listing(0), { bpffs: directory })])
    assert.deepEqual([notBpffs.code, /is not on a BPF file system/.test(notBpffs.stderr)], [1, true])
    const words = ['--bounding-set=-sys_admin,-net_admin', program, 'plan', await file(listing(0)), '--config', agent.configFile]
    const powerless = await execute('/usr/bin/setpriv', words)
    assert.equal(powerless.code, 1)
    assert.match(powerless.stderr, /CAP_SYS_ADMIN, CAP_NET_ADMIN missing\n {2}Run as root/)
  })
})
