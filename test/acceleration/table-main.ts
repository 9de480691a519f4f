/** `npm run test:acceleration-table -- [--write]`: runs every exchange in every place and shows the table, or writes it into docs/acceleration.md. */
import { readFileSync, writeFileSync } from 'node:fs'
import { listExchanges } from '../../core/selftest/program.ts'
import { Comparison } from './comparison.ts'
import { places } from './places.ts'
import { Suite } from './suite.ts'
import { tableOf, tablePath, withTable } from './table.ts'

const [word, ...rest] = process.argv.slice(2)
if ((word !== undefined && word !== '--write') || rest.length > 0) {
  process.stderr.write('usage: npm run test:acceleration-table -- [--write]\n')
  process.exit(2)
}
const exchanges = await listExchanges()
await using suite = await Suite.open('exchanges', { none: 3, all: 4 })
const comparison = new Comparison(suite, ['--part', '8', '--timeout', '30', '--connections', '500'])
const compared = await comparison.all(
  exchanges.flatMap((exchange) => places.map((place) => ({ exchange, place, family: 'ipv4' as const, mode: 'all' as const }))),
)
const table = tableOf(exchanges, (exchange, place) => {
  const found = compared.find((each) => each.exchange === exchange && each.place === place)
  return { same: found !== undefined && found.cell.problems.length === 0, different: found?.cell.different === true }
})
const problems = compared.flatMap((each) => each.problems)
for (const problem of problems) process.stderr.write(`${problem}\n`)
if (problems.length > 0) process.exitCode = 1
if (word !== '--write') process.stdout.write(`${table}\n`)
else if (problems.length === 0) writeFileSync(tablePath, withTable(readFileSync(tablePath, 'utf8'), table))
