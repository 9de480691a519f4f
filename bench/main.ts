/**
 * npm run bench [-- --quick] [-- --only PART] [-- --rounds N]: what connections and DNS queries cost without a mesh, with Istio's iptables rules and with
 * this datapath; what one connect() costs with many rules and CIDRs; what processes pay that are in no pod; what acceleration is worth. Writes
 * docs/performance.md; with --only, that part's section of it.
 * --rounds takes so many, however long they last.
 * Exit status 1 when something failed, or when a claim is not proven. --quick takes few rounds, claims nothing and leaves docs/performance.md alone.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { accelerationSetting } from './acceleration.ts'
import { accelerationClaims, accelerationTable } from './acceleration-report.ts'
import { costSetting } from './cost.ts'
import { interleave, type Result, type Setting } from './measure.ts'
import { outsideSetting } from './outside.ts'
import { type Found, type PartName, performancePage } from './page.ts'
import { type Claim, costClaims, costTable, outsideTable, trafficClaims, trafficTable } from './report.ts'
import { trafficSetting } from './traffic.ts'

const PAGE = join(import.meta.dirname, '../docs/performance.md')

interface Part {
  /** Rounds, and seconds after which no round starts */
  readonly full: readonly [number, number]
  /** How often everything is set up anew: processes differ in speed by where their memory lies, for as long as they live. */
  readonly settings?: number
  readonly setUp: (quick: boolean) => Promise<Setting>
  readonly table: (results: readonly Result[]) => string
  readonly claims: (results: readonly Result[]) => Claim[]
}

/** One after the other; what is within a part takes turns. */
const PARTS = {
  traffic: { full: [80, 260], setUp: trafficSetting, table: trafficTable, claims: trafficClaims },
  cost: { full: [60, 180], setUp: costSetting, table: costTable, claims: costClaims },
  outside: { full: [60, 40], setUp: outsideSetting, table: outsideTable, claims: () => [] },
  acceleration: { full: [6, 900], settings: 6, setUp: accelerationSetting, table: accelerationTable, claims: accelerationClaims },
} as const satisfies Record<PartName, Part>

/** An interval over fewer says nothing. */
const FEWEST_ROUNDS = 5
const QUICK_ROUNDS = 3

const say = (text: string) => process.stdout.write(`${text}\n`)

async function run(name: PartName, part: Part, quick: boolean, rounds: number | undefined): Promise<Found> {
  const { full, setUp, table, claims } = part
  const settings = quick ? 1 : Math.min(part.settings ?? 1, rounds ?? Number.POSITIVE_INFINITY)
  const milliseconds = rounds === undefined ? (full[1] * 1000) / settings : Number.POSITIVE_INFINITY
  const budget = { rounds: Math.ceil((rounds ?? full[0]) / settings), milliseconds }
  const progress = (round: number) => process.stdout.isTTY && process.stdout.write(`\rround ${round} of ${budget.rounds}`)
  let results: Result[] = []
  for (let time = 1; time <= settings; time++) {
    say(`\n${name}: setting up${settings === 1 ? '' : ` (${time} of ${settings})`}`)
    await using setting = await setUp(quick)
    results = await interleave(setting.comparisons, budget, progress, results)
  }
  const found = { table: table(results), claims: claims(results), results }
  say(`\n${found.table}`)
  return found
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { rounds: { type: 'string' }, quick: { type: 'boolean', default: false }, only: { type: 'string' } } })
  const rounds = values.rounds === undefined ? (values.quick ? QUICK_ROUNDS : undefined) : Number(values.rounds)
  const fewest = values.quick ? 1 : FEWEST_ROUNDS
  if (rounds !== undefined && (!Number.isInteger(rounds) || rounds < fewest))
    throw new Error(`--rounds ${values.rounds}: a whole number of at least ${fewest} is needed`)
  const names = (Object.keys(PARTS) as PartName[]).filter((name) => values.only === undefined || values.only === name)
  if (names.length === 0) throw new Error(`--only ${values.only}: the parts are ${Object.keys(PARTS).join(', ')}`)

  const all: Partial<Record<PartName, Found>> = {}
  for (const name of names) all[name] = await run(name, PARTS[name], values.quick, rounds)
  if (values.quick) return
  const claims = Object.values(all).flatMap((found) => found.claims)
  say(`\n${claims.map(({ text }) => text).join('\n')}`)
  await writeFile(PAGE, performancePage(await readFile(PAGE, 'utf8'), all))
  if (claims.some(({ good }) => !good)) process.exitCode = 1
}

/** What went wrong, and what then went wrong while cleaning up. */
function reasons(error: unknown): string[] {
  if (error instanceof SuppressedError) return [...reasons(error.suppressed), ...reasons(error.error)]
  return [error instanceof Error ? error.message : String(error)]
}

await main().catch((error: unknown) => {
  for (const reason of reasons(error)) process.stderr.write(`bench: ${reason}\n`)
  process.exitCode = 1
})
