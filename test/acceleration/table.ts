/** The table of docs/acceleration.md: what became of every exchange in every place. */
import { join } from 'node:path'
import type { Exchange } from '../../core/selftest/program.ts'
import { wayOf } from './expected.ts'
import { type Place, places } from './places.ts'

export const tablePath = join(import.meta.dirname, '../../docs/acceleration.md')
const begin = '<!-- exchanges: written by npm run test:acceleration-table -- --write -->'
const end = '<!-- end of exchanges -->'

/** What a test has found in mode all. */
export interface Found {
  readonly same: boolean
  readonly different: boolean
}

/** What a kernel does not have was not seen; the table says what the others say. */
export function cellText(exchange: Exchange, place: Place, { same, different }: Found): string {
  if (!same) return 'NOT THE SAME'
  const way = wayOf(exchange, place)
  if (exchange.differs !== '') return different ? `difference: ${exchange.differs}` : 'NO DIFFERENCE'
  if ('reason' in way) return way.redirected === false ? `same, by TCP: ${way.reason}` : `same, in part by TCP: ${way.reason}`
  return 'same'
}

/** One row for each exchange; equal cells of a row are one. */
export function tableOf(exchanges: readonly Exchange[], found: (exchange: Exchange, place: Place) => Found): string {
  const rows = exchanges.map((exchange) => {
    const cells = places.map((place) => cellText(exchange, place, found(exchange, place)))
    return `| ${exchange.name} | ${exchange.title.replaceAll('|', '\\|')} | ${cells.join(' | ')} |`
  })
  return [
    `| exchange | what it does | ${places.map(({ name }) => name).join(' | ')} |`,
    `|---|---|${places.map(() => '---|').join('')}`,
    ...rows,
  ].join('\n')
}

export function withTable(text: string, table: string): string {
  const [before, rest] = text.split(`${begin}\n`)
  const after = rest?.split(`${end}`)[1]
  if (before === undefined || after === undefined) throw new Error(`${tablePath} has lost the place of its table: ${begin} ... ${end}`)
  return `${before}${begin}\n${table}\n${end}${after}`
}
