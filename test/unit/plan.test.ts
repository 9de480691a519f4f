/** What plan says of two sets of contents, without a kernel. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { planText } from '../../core/cli/plantext.ts'
import type { MapContents } from '../../core/compile/maps.ts'
import { parseConfig } from '../../core/config/load.ts'
import { restartKeys } from '../../core/config/restart.ts'
import type { Config, StaticPod } from '../../core/config/schema.ts'
import { type Enrolment, enrol } from '../../core/enrol.ts'
import type { NamespaceState } from '../../core/native/api.ts'
import { noContents } from '../../core/plan/changes.ts'
import { plan, type Sides } from '../../core/plan/plan.ts'
import type { PlanView } from '../../core/plan/view.ts'
import type { Interception, Rule } from '../../core/plugin.ts'
import { builtInOnly, plugins } from '../../core/plugins.ts'
import { podAddresses, podRoutes, roomy } from './pods.ts'

const pods = (...names: readonly string[]): readonly StaticPod[] =>
  names.map((name) => ({
    name,
    namespace: { name: 'default', labels: {}, annotations: {} },
    netns: `/run/netns/${name}`,
    labels: {},
    annotations: {},
    containers: [],
  }))

/** A namespace of each pod that does not change while the config does. */
const cookies = new Map<string, bigint>()
const stateOf = ({ name }: StaticPod): NamespaceState => {
  const cookie = cookies.get(name) ?? BigInt(cookies.size + 1)
  cookies.set(name, cookie)
  return { cookie, inode: Number(cookie), addresses: podAddresses, routes: podRoutes, rules: [], interfaces: [] }
}

function enrolled(interception: Interception, listed: readonly StaticPod[]): Enrolment {
  const istio = plugins.istio
  assert.ok(istio !== undefined)
  const plugin = { ...istio, describe: () => interception }
  return enrol(
    [{ plugin, options: {}, entry: 'mesh' }],
    listed.map((pod) => ({ pod, state: stateOf(pod) })),
    { capacities: roomy, strict: true },
  )
}

const rule = (name: string, more: Partial<Rule> = {}): Rule => ({ name, then: 'pass', ...more })
const policy = (ports: readonly number[], outbound: readonly Rule[]): Interception => ({
  sets: { skipped: { ports } },
  targets: { proxy: { port: 15001 } },
  outbound,
  inbound: [],
})

const skip = rule('skip', { when: { port: 'skipped' } })
const [first, second] = [rule('tcp', { when: { proto: 'tcp' }, then: 'proxy' }), rule('local', { when: { to: 'pod' } })]

function planned(before: Enrolment | undefined, after: Enrolment, more: Partial<Sides> = {}) {
  const have: MapContents = before?.desired.maps ?? noContents()
  return plan({ have, capacities: roomy, before, after, placeOf: (netns) => `namespace ${netns}`, ...more })
}

const view = (part: ReturnType<typeof planned>, more: Partial<PlanView> = {}): PlanView => ({
  file: '/new.yaml',
  bpffs: '/sys/fs/bpf/merbridge',
  datapath: { inPlace: true, generation: 3 },
  agentRuns: true,
  needsRestart: [],
  notes: [],
  ...part,
  ...more,
})

describe('plan', () => {
  it('says what is added, what is removed, what changes and what moves, by name', () => {
    const before = enrolled(policy([22], [skip, first, second]), pods('web'))
    const after = enrolled(policy([22, 23], [skip, second, first, rule('more')]), pods('web'))
    const [group] = planned(before, after).rules
    assert.deepEqual(group?.pods, ['default/web'])
    assert.deepEqual(group?.rules, {
      added: ["outbound rule 3 'more': any -> pass"],
      removed: [],
      changed: [{ before: "outbound rule 0 'skip': port skipped (22) -> pass", after: "outbound rule 0 'skip': port skipped (22, 23) -> pass" }],
      reordered: true,
      known: true,
    })
    assert.deepEqual(planned(after, before).rules[0]?.rules.removed, ["outbound rule 3 'more': any -> pass"])
  })

  it('joins what many pods have in common', () => {
    const names = Array.from({ length: 9 }, (_, index) => `web${index}`)
    const before = enrolled(policy([22], [skip]), pods(...names))
    const after = enrolled(policy([23], [skip]), pods(...names))
    const part = planned(before, after)
    assert.equal(part.rules.length, 1)
    assert.equal(part.rules[0]?.pods.length, 9)
    assert.match(planText(view(part), false), /9 pods get other rules\n[\s\S]*rules of default\/web0, .*default\/web4 and 4 more: policy/)
  })

  it('goes without names where what is in the kernel is not known', () => {
    const before = enrolled(policy([22], [skip]), pods('web', 'old'))
    const after = enrolled(policy([23], [skip]), pods('web'))
    const part = planned(undefined, after, { have: before.desired.maps })
    assert.deepEqual(
      part.rules.map(({ rules }) => rules.known),
      [false, false],
    )
    const old = cookies.get('old')
    assert.deepEqual(
      part.pods.map(({ name, change }) => [name, change]),
      [
        ['default/web', 'new rules'],
        [`namespace ${old}`, 'leaves'],
      ],
    )
    const removed = part.entries
      .filter(({ map, change }) => change === 'remove' && map !== 'routes')
      .map(({ entry }) => entry.replace(/[0-9a-f]{16}/, 'ID'))
    assert.ok(removed.includes('policy ID: port 22: set 0'), removed.join('\n'))
    assert.deepEqual(part.entries.find(({ map, change }) => map === 'policies' && change === 'remove')?.details, [
      "outbound rule 0 'rule 0': from set 0 of the policy -> pass",
    ])
    assert.match(planText(view(part), false), /rules of before are not known/)
  })

  it('tells routes of a pod that changed from its rules', () => {
    const before = enrolled(policy([22], [skip]), pods('web'))
    const routes = new Map([...before.desired.maps.routes].slice(1))
    const part = planned(before, before, { have: { ...before.desired.maps, routes } })
    assert.deepEqual(
      part.pods.map(({ change }) => change),
      ['new routes'],
    )
    assert.deepEqual(
      part.maps.filter(({ added, changed, removed }) => added + changed + removed > 0).map(({ map, added }) => [map, added]),
      [['routes', 1]],
    )
    assert.equal(planned(before, before).changes, false)
  })

  it('says in text what matters most first, and makes everything printable', () => {
    const part = planned(undefined, enrolled(policy([22], [skip]), pods('web')))
    const text = planText(view(part, { needsRestart: ['attach.bpffs'], file: '-', notes: ['a \u001b[31mnote'], datapath: { inPlace: false } }), true)
    const lines = text.split('\n')
    assert.equal(lines[0], 'plan for standard input: what changes when the running agent takes the config')
    assert.match(lines[1] ?? '', /nothing is in place there: everything is new/)
    assert.match(lines[2] ?? '', /^NEEDS A RESTART: attach\.bpffs cannot change while the agent runs/)
    assert.equal(lines[3], 'note: a \\x1b[31mnote')
    assert.match(text, /\+ pods: default\/web: policy [0-9a-f]{16}\n/)
    assert.match(text, /MAP +ADDED +CHANGED +REMOVED +ENTRIES THEN +CAPACITY\npolicies +\+1 +~0 +-0 +1 +100000\n/)
  })

  it('compares the keys that need a restart as the agent does', async () => {
    const config = async (text: string): Promise<Config> => (await parseConfig(`version: 1\nmesh: istio\n${text}`, 'test', builtInOnly)).config
    assert.deepEqual(restartKeys(await config(''), await config('log: { level: debug }\noptions: { proxyPort: 1 }')), [])
    const changed = await config(
      'attach: { bpffs: /sys/fs/bpf/other, cgroup: /x, without: [set_retval], btf: /y, identity: netns }\ncontrol: { socket: /z }',
    )
    assert.deepEqual(restartKeys(await config(''), changed), [
      'attach.cgroup',
      'attach.bpffs',
      'attach.identity',
      'attach.btf',
      'attach.without',
      'control.socket',
    ])
  })
})
