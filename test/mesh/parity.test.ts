/**
 * Istio's default IPv4 TCP table, connection by connection: a pod with Istio's iptables rules beside a pod of the same shape with the agent.
 * docs/parity.md names the differences that are meant; this test reads it, and fails for one that is not named as for one that no longer occurs.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { namedWith } from '../kernels/differences.ts'
import { Agent } from '../lab/agent.ts'
import { applyIptables, istioRules } from '../lab/istio-iptables.ts'
import { caseCount, compareMode, runMatrix } from '../parity/columns.ts'
import { type Column, type Difference, differences, judge, namedDifferences, show } from '../parity/compare.ts'
import { createSite, type Mode, type Site } from '../parity/shape.ts'

const modes: readonly Mode[] = ['any', 'loopback', 'dual', 'cookies']

/** Rows of Istio's table as they were measured elsewhere: a probe that is wrong in both columns does not pass these. */
const measured: readonly (readonly [connection: string, field: string, value: string])[] = [
  ['app -> VIP:80', 'accepted by', 'proxy:15001'],
  ['app -> VIP:80', 'accepted SO_ORIGINAL_DST 16', 'asked (16 bytes)'],
  ['app -> VIP:80', 'accepted SO_ORIGINAL_DST 32', 'asked (32 bytes)'],
  ['app -> VIP:80', 'accepted SO_ORIGINAL_DST 15', 'EINVAL'],
  ['app -> VIP:80', 'accepted SO_ORIGINAL_DST v6 28', 'EOPNOTSUPP'],
  ['app -> VIP:80', 'source seen', 'POD:eph'],
  ['app -> VIP:80', 'address seen', '127.0.0.1:15001'],
  ['app -> VIP:80', 'getpeername', 'asked'],
  ['app -> VIP:80', 'getsockname', 'POD:eph'],
  ['app -> VIP:53', 'accepted by', 'proxy:15001'],
  ['app -> VIP:31000', 'accepted by', 'proxy:15001'],
  ['app -> LOSTVIP:80', 'accepted by', 'proxy:15001'],
  ['app -> VIP:15020', 'accepted by', 'peer:15020'],
  ['app -> 127.0.0.1:8080', 'accepted by', 'app:8080'],
  ['app -> 0.0.0.0:8080', 'accepted by', 'app:8080'],
  ['app -> 127.0.0.9:8080', 'accepted by', 'app:8080'],
  ['app -> 127.0.0.6:15002', 'outcome', 'ECONNREFUSED'],
  ['app -> POD:8080', 'accepted by', 'app:8080'],
  ['app -> POD:15008', 'accepted by', 'proxy:15008'],
  ['app -> THROW:80', 'outcome', 'ENETUNREACH'],
  ['proxy -> VIP:80', 'accepted by', 'peer:80'],
  ['proxy -> 127.0.0.1:8080', 'accepted by', 'app:8080'],
  ['proxy -> 0.0.0.0:8080', 'accepted by', 'app:8080'],
  ['proxy -> 127.0.0.9:8080', 'accepted by', 'proxy:15006'],
  ['proxy -> 127.0.0.53:53', 'accepted by', 'proxy:15006'],
  ['proxy -> 127.0.0.6:15002', 'accepted by', 'proxy:15006'],
  ['proxy -> 127.0.0.6:15002', 'accepted SO_ORIGINAL_DST 32', 'asked (32 bytes)'],
  ['proxy -> POD:8080', 'accepted by', 'proxy:15006'],
  ['proxy -> POD:8080', 'accepted SO_ORIGINAL_DST 16', 'asked (16 bytes)'],
  ['proxy -> POD:15008', 'accepted by', 'proxy:15008'],
  ['proxy -> POD:8080 from 127.0.0.6', 'accepted by', 'app:8080'],
  ['proxyGid -> VIP:80', 'accepted by', 'peer:80'],
  ['proxyGid -> 127.0.0.9:8080', 'accepted by', 'app:8080'],
  ['proxyGid -> POD:8080', 'accepted by', 'app:8080'],
  ['rootThenProxy -> VIP:80', 'accepted by', 'proxy:15001'],
  ['proxyThenRoot -> VIP:80', 'accepted by', 'peer:80'],
  ['peer => POD:8080', 'accepted by', 'proxy:15006'],
  ['peer => POD:8080', 'accepted SO_ORIGINAL_DST 16', 'asked (16 bytes)'],
  ['peer => POD:8080', 'source seen', 'PEER:eph'],
  ['peer => POD:22', 'accepted by', 'proxy:15006'],
  ['peer => POD:15001', 'accepted by', 'proxy:15006'],
  ['peer => POD:15006', 'accepted by', 'proxy:15006'],
  ['peer => POD:9999', 'accepted by', 'proxy:15006'],
  ['peer => POD:15008', 'accepted by', 'proxy:15008'],
  ['peer => POD:15020', 'accepted by', 'app:15020'],
  ['peer => POD:15021', 'accepted by', 'app:15021'],
  ['peer => POD:15090', 'accepted by', 'app:15090'],
  ['peer => POD2ND:8080', 'accepted by', 'proxy:15006'],
  ['node => POD:8080', 'accepted by', 'proxy:15006'],
  ['self => POD:8080', 'accepted by', 'app:8080'],
]

test('a difference that is not named is found, and so is a name without a difference', () => {
  const table = [
    '| Difference | Cases | Field | iptables | Merbridge |',
    '|---|---|---|---|---|',
    '| one | `any: * => *` | `seen` | `*:1` | `asked` |',
  ]
  const named = namedDifferences(table.join('\n'))
  const difference = { case: 'any: peer => POD:80', field: 'seen', iptables: 'POD:1', merbridge: 'asked' }
  assert.deepEqual(judge([difference], named), { unnamed: [], idle: [] })
  const other = { ...difference, merbridge: 'ECONNREFUSED' }
  assert.deepEqual(judge([other], named), { unnamed: [other], idle: named })
})

describe("Istio's default IPv4 TCP table", { timeout: 300_000 }, () => {
  const columns = new Map<Mode, Column>() // of iptables
  let withRules: Site
  let withAgent: Site
  let agent: Agent | undefined

  before(async () => {
    withRules = await createSite('parity-rules')
    withAgent = await createSite('parity-agent')
    await applyIptables(withRules.pod, istioRules())
  })

  after(async () => {
    await agent?.close()
    await withAgent?.[Symbol.asyncDispose]()
    await withRules?.[Symbol.asyncDispose]()
  })

  test('the iptables rules do what was measured elsewhere', async () => {
    columns.set('any', await runMatrix(withRules, 'any'))
    for (const [connection, field, value] of measured) {
      assert.equal(columns.get('any')?.get(`any: ${connection}`)?.get(field), value, `${connection}, ${field}`)
    }
    for (const way of ['app -> VIP:80 fast open', 'proxy -> POD:8080 fast open', 'peer => POD:8080 fast open']) {
      assert.equal(columns.get('any')?.get(`any: ${way}`)?.get('data in the SYN'), 'true', way)
    }
  })

  test('a pod with neither is told apart from one with rules', async () => {
    const rules = columns.get('any') ?? new Map()
    const found = differences(rules, await runMatrix(withAgent, 'any'))
    const different = new Set(found.map((each) => each.case))
    for (const connection of ['app -> VIP:80', 'proxy -> POD:8080', 'peer => POD:8080', 'peer => POD:9999'])
      assert(different.has(`any: ${connection}`), connection)
    assert(!different.has('any: app -> BLACKHOLE:80'), show(found.filter((each) => each.case === 'any: app -> BLACKHOLE:80')))
  })

  test(`${caseCount()} connections in ${modes.length} set-ups end alike with the agent, but for the named differences`, async (context) => {
    agent = await Agent.start({ pods: [{ name: 'pod', netns: withAgent.pod.netns }] })
    const document = await readFile(new URL('../../docs/parity.md', import.meta.url), 'utf8')
    const named = namedWith((await agent.status()).kernel.features, namedDifferences(document))
    const found: Difference[] = []
    let repeated = 0
    for (const mode of modes) {
      const known = columns.get(mode)
      const [column, merbridge] = await Promise.all([known ?? runMatrix(withRules, mode), runMatrix(withAgent, mode)])
      const settled = await compareMode({ site: withRules, column }, merbridge, mode, named)
      found.push(...settled.differences)
      repeated += settled.repeated
    }
    context.diagnostic(`${found.length} named differences; ${repeated} connections made again under iptables`)
    const { unnamed, idle } = judge(found, named)
    assert.equal(
      unnamed.length,
      0,
      `differences that docs/parity.md does not name (${unnamed.length} of ${found.length}):\n${show(unnamed.slice(0, 100))}`,
    )
    assert.equal(idle.length, 0, `named in docs/parity.md, but did not occur:\n${idle.map((row) => JSON.stringify(row)).join('\n')}`)
  })
})
