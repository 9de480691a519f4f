/** The socket-semantics suite: what an exchange sees accelerated is what it sees over plain TCP, in every place. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { AccelStop } from '../../core/contract.ts'
import { type Exchange, listExchanges } from '../../core/selftest/program.ts'
import { elsewhere, overTcp } from '../acceleration/expected.ts'
import { type Family, families, type Place, places } from '../acceleration/places.ts'
import { type Cell, cellOf, type Mode, Suite } from '../acceleration/suite.ts'

/** A part of the long ones: those with millions of messages are in `npm run test:full`. */
const options = ['--part', '8', '--timeout', '30']
/** Seldom, on a busy machine, a connection does not join in time. */
const attempts = 4

const exchanges = (await listExchanges()).filter(({ name, slow }) => !slow && elsewhere[name] === undefined)

describe('the socket-semantics suite', { timeout: 400_000 }, () => {
  let suite: Suite
  before(async () => {
    suite = await Suite.open('semantics', { none: 2, all: 3, proxies: 1 })
  })
  after(async () => suite?.[Symbol.asyncDispose]())

  async function compare(exchange: Exchange, place: Place, family: Family, mode: Mode): Promise<Cell> {
    const wanted = overTcp(exchange) === undefined
    for (let attempt = 1; ; attempt++) {
      const [plain, other] = await Promise.all([
        suite.run(exchange, place, family, 'none', options),
        suite.run(exchange, place, family, mode, [...options, ...(attempt > 1 ? ['--warm', '400'] : [])]),
      ])
      const cell = cellOf(exchange, plain, other)
      const enough =
        cell.problems.length > 0 || cell.skipped || !wanted || mode !== 'all' || (cell.accelerated && (exchange.differs === '' || cell.different))
      if (enough || attempt === attempts) return cell
    }
  }

  const checked = async (some: readonly Exchange[], family: Family, mode: Mode) => {
    const found = some.flatMap((exchange) => places.map(async (place) => ({ exchange, place, cell: await compare(exchange, place, family, mode) })))
    const cells = await Promise.all(found)
    const title = ({ exchange, place }: (typeof cells)[number]) => `${exchange.name}, ${place.name}, ${family}, ${mode}`
    return {
      problems: cells.flatMap((each) => each.cell.problems.map((problem) => `${title(each)}: ${problem}`)),
      slow: cells.filter(({ exchange, cell }) => overTcp(exchange) === undefined && !cell.accelerated && !cell.skipped).map(title),
      alike: cells.filter(({ exchange, cell }) => exchange.differs !== '' && !cell.different && cell.accelerated).map(title),
    }
  }

  test('every exchange, in every place, is what it is over plain TCP; and it is accelerated', async () => {
    const { problems, slow, alike } = await checked(exchanges, 'ipv4', 'all')
    assert.deepEqual(problems, [])
    assert.deepEqual(slow, [], 'these went over TCP, and nothing says why')
    assert.deepEqual(alike, [], 'these are in the list of named differences, and do not differ')
  })

  for (const family of families.filter((each) => each !== 'ipv4'))
    test(`the fast ones over ${family}`, async () => {
      const { problems } = await checked(
        exchanges.filter(({ fast, blocking }) => fast && !blocking),
        family,
        'all',
      )
      assert.deepEqual(problems, [])
    })

  test('the fast ones in mode proxies', async () => {
    const { problems } = await checked(
      exchanges.filter(({ fast, blocking }) => fast && !blocking),
      'ipv4',
      'proxies',
    )
    assert.deepEqual(problems, [])
  })

  test('both ends send and receive at once while the switch and the budget change every few milliseconds', async () => {
    const { acceleration } = suite.agent.datapath
    let turn = 0
    const switching = setInterval(() => {
      turn++
      if (turn % 2 === 0) acceleration.resume(AccelStop.OPERATOR)
      else acceleration.stop(AccelStop.OPERATOR)
      acceleration.setBudget(turn % 3 === 0 ? 64n << 10n : 4n << 20n)
    }, 3)
    try {
      const duplex = exchanges.filter(({ name }) => name.startsWith('full-duplex') || name.startsWith('ping-pong'))
      const { problems } = await checked(duplex, 'ipv4', 'all')
      assert.deepEqual(problems, [])
    } finally {
      clearInterval(switching)
      acceleration.resume(AccelStop.OPERATOR)
      acceleration.setBudget(4n << 20n)
    }
  })
})
