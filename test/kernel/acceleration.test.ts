/** The socket-semantics suite: what an exchange sees accelerated is what it sees over plain TCP, in every place. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { AccelStop } from '../../core/contract.ts'
import { acceleration as programs } from '../../core/datapath/hooks.ts'
import { listExchanges } from '../../core/selftest/program.ts'
import { type Compared, Comparison } from '../acceleration/comparison.ts'
import { equalAddresses } from '../acceleration/places.ts'
import { Suite } from '../acceleration/suite.ts'
import { tableOf, tablePath, withTable } from '../acceleration/table.ts'
import { duplex, elsewhere, inEveryPlace, long, options } from '../acceleration/tasks.ts'
import { kernel } from './fixture.ts'

const exchanges = await listExchanges()
const budget = 4n << 20n
const lanes = 4
const problemsOf = (compared: readonly Compared[]) => compared.flatMap(({ problems }) => problems)

describe('the socket-semantics suite', { timeout: long ? 3_600_000 : 400_000, skip: kernel.skip.get(programs.stub) }, () => {
  let suite: Suite
  let comparison: Comparison
  before(async () => {
    suite = await Suite.open('semantics', { none: 3, all: lanes, proxies: 2 })
    comparison = new Comparison(suite, options)
  })
  after(async () => suite?.[Symbol.asyncDispose]())

  test('every exchange is what it is over plain TCP, or makes its named difference, and its own bytes take the way that is expected', async () => {
    const compared = await comparison.all(inEveryPlace(exchanges))
    assert.deepEqual(problemsOf(compared), [])
    const text = readFileSync(tablePath, 'utf8')
    assert.equal(
      withTable(
        text,
        tableOf(exchanges, () => ({ same: true, different: true })),
      ),
      text,
      'npm run test:acceleration-table -- --write',
    )
  })

  test('over IPv6, with IPv4 addresses in IPv6 sockets, and in mode proxies', async () => {
    assert.deepEqual(problemsOf(await comparison.all(elsewhere(exchanges))), [])
  })

  test('connections of several pods with equal addresses and ports, at the same time, are not taken for each other', async () => {
    const paired = exchanges.find(({ name }) => name === 'paired')
    assert.ok(paired)
    const task = { exchange: paired, place: equalAddresses, family: 'ipv4', mode: 'all' } as const
    assert.deepEqual(problemsOf(await comparison.all(Array.from({ length: lanes }, () => task))), [])
  })

  test('both ends send and receive at once while the switch and the budget change every few milliseconds', async () => {
    const { acceleration } = suite.agent.datapath
    let turn = 0
    const switching = setInterval(() => {
      turn++
      if (turn % 2 === 0) acceleration.resume(AccelStop.OPERATOR)
      else acceleration.stop(AccelStop.OPERATOR)
      acceleration.setBudget(turn % 3 === 0 ? 64n << 10n : turn % 7 === 0 ? 0n : budget)
    }, 3)
    try {
      const compared = await comparison.all(duplex(exchanges), true)
      assert.deepEqual(problemsOf(compared), [])
      assert.ok(compared.filter(({ cell }) => cell.accelerated).length > compared.length / 3, 'some of it was redirected')
      assert.ok(turn > 50)
    } finally {
      clearInterval(switching)
      acceleration.resume(AccelStop.OPERATOR)
      acceleration.setBudget(budget)
    }
  })
})
