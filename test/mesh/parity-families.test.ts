/**
 * IPv6, IPv4-mapped addresses and DNS over UDP and TCP, in pods and beside proxies of every kind: Istio's iptables rules beside the agent.
 * docs/parity.md names the differences that are meant; this test reads it, and fails for one that is not named as for one that no longer occurs.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { namedWith } from '../kernels/differences.ts'
import { Agent } from '../lab/agent.ts'
import { settledDifferences } from '../parity/columns.ts'
import { type Column, type Difference, essential, judge, type Named, namedDifferences, show } from '../parity/compare.ts'
import { measured } from '../parity/measured.ts'
import { configFor, createTwins, runSetup, setups, type Twins, withAgent, withRules } from '../parity/setups.ts'

describe('IPv6, mapped addresses and DNS', { timeout: 280_000 }, () => {
  const columns = new Map<string, Column>()
  const found: Difference[] = []
  let rows: { readonly shared: readonly Named[]; readonly own: readonly Named[] }
  let twins: Twins
  let agent: Agent

  before(async () => {
    twins = await createTwins()
    agent = await Agent.start(configFor(twins, { env: {} }))
    const document = await readFile(new URL('../../docs/parity.md', import.meta.url), 'utf8')
    const { features } = (await agent.status()).kernel
    rows = { shared: namedWith(features, namedDifferences(document)), own: namedDifferences(document, 'Difference of families') }
  })

  after(async () => {
    await agent?.close()
    await twins?.[Symbol.asyncDispose]()
  })

  for (const setup of setups) {
    test(`${setup.name}: as with Istio's rules, but for the named differences`, async (context) => {
      const [rules, merbridge] = await Promise.all([withRules(setup, twins), withAgent(setup, twins, agent)])
      columns.set(setup.name, rules)
      const named = [...rows.shared, ...rows.own]
      const all = await settledDifferences(rules, merbridge, named, (only) => runSetup(setup, twins.withRules[setup.kind], only))
      found.push(...all)
      const { unnamed } = judge(all, named)
      context.diagnostic(`${merbridge.size} connections, ${all.length} named differences`)
      assert.equal(unnamed.length, 0, `${unnamed.length} of ${all.length} differences are not named:\n${show(essential(unnamed).slice(0, 60))}`)
    })
  }

  test('the iptables rules do what was measured elsewhere', () => {
    for (const [connection, field, value] of measured) {
      const [setup = ''] = connection.split(': ')
      assert.equal(columns.get(setup)?.get(connection)?.get(field), value, `${connection}, ${field}`)
    }
  })

  test('every difference that is named occurs', () => {
    const { idle } = judge(found, [...rows.shared, ...rows.own])
    const gone = idle.filter((row) => rows.own.includes(row))
    assert.equal(gone.length, 0, `named in docs/parity.md, but did not occur:\n${gone.map((row) => JSON.stringify(row)).join('\n')}`)
  })
})
