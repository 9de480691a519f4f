/**
 * The suite notices it when a rule of acceleration is taken out. In the ring: a redirect without any rule must fail many exchanges. In `npm run test:full`:
 * every mutant, and every exchange. (The self-test is asked the same: selftest.test.ts.)
 */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { acceleration as programs } from '../../core/datapath/hooks.ts'
import { listExchanges } from '../../core/selftest/program.ts'
import { Comparison } from '../acceleration/comparison.ts'
import { equalAddresses, places } from '../acceleration/places.ts'
import { Suite } from '../acceleration/suite.ts'
import { long } from '../acceleration/tasks.ts'
import { MutantBuilder, mutants } from '../mutants/acceleration/build.ts'
import { kernel } from './fixture.ts'

const lanes = 4
const mostFailures = 8
const skip = kernel.skip.get(programs.stub) ?? false
/** Quick ones that a naive redirect fails. */
const quick = new Set(
  'cork order-cork low-water order-low-water peek-offset socket-filter user-timeout splice-reader splice-forward tee fionread full-duplex full-duplex-switching never-reads shutdown-write unread'.split(
    ' ',
  ),
)
const chosen = long ? mutants : mutants.filter(({ whole }) => whole !== undefined)

describe('the suite against programs with a rule taken out', { timeout: 900_000, skip }, () => {
  const builder = new MutantBuilder()
  after(() => builder[Symbol.dispose]())

  for (const [index, mutant] of chosen.entries())
    test(mutant.name, async () => {
      const exchanges = (await listExchanges()).filter(({ name, ownStart }) => (long || quick.has(name)) && !ownStart)
      await using suite = await Suite.open(`mutant${index}`, { none: 3, all: lanes }, await builder.build(mutant))
      const comparison = new Comparison(suite, ['--part', '8', '--timeout', '12'])
      const in4 = { family: 'ipv4', mode: 'all' } as const
      const paired = exchanges.filter(({ name }) => name === 'paired')
      const equal = Array.from({ length: lanes }, () => paired.map((exchange) => ({ exchange, place: equalAddresses, ...in4 }))).flat()
      const each = exchanges.flatMap((exchange, at) =>
        places
          .slice(at % places.length)
          .slice(0, 1)
          .map((place) => ({ exchange, place, ...in4 })),
      )
      const compared = [...(await comparison.all(equal)), ...(await comparison.all(each))]
      const failed = new Set(compared.filter(({ problems }) => problems.length > 0).map(({ exchange }) => exchange.name))
      assert.ok(failed.size >= (mutant.whole === undefined ? 1 : mostFailures), `only ${[...failed].join(', ')}`)
    })
})
