/**
 * npm run bench [-- --rounds N] [-- --quick]: connect() and request latency without a mesh, with Istio's iptables rules and with this datapath.
 * Exit status 1 when connect() is not proven to be faster than with iptables. --quick takes fewer rounds and leaves docs/performance.md alone.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { interval, performancePage, QUANTILES, type QuantileName, ratio, type Series, table } from './report.ts'
import { quantile, shuffled } from './statistics.ts'
import { startAgent, VARIANTS, Variant, type VariantName, type Workload } from './variants.ts'

const PAGE = join(import.meta.dirname, '../docs/performance.md')

const WORKLOADS: readonly Workload[] = [
  { mode: 'connect', title: 'connect()', count: 300, runs: 4 },
  { mode: 'keep', title: 'request, connection kept', count: 300, runs: 1 },
  { mode: 'new', title: 'request, new connection', count: 200, runs: 1 },
]

/** No round starts later than this many milliseconds after the first one. */
const TIME_LIMIT = { full: 140_000, quick: 12_000 }

const say = (text: string) => process.stdout.write(`${text}\n`)

type Samples = Map<string, number[]>

function series(samples: Samples): Series[] {
  const names = Object.keys(QUANTILES) as QuantileName[]
  return WORKLOADS.flatMap((workload) =>
    names.map((name) => {
      const of = (variant: VariantName) => samples.get(key(workload, variant, name)) ?? []
      return { workload, quantile: name, runs: { none: of('none'), iptables: of('iptables'), merbridge: of('merbridge') } }
    }),
  )
}

function key(workload: Workload, variant: VariantName, name: QuantileName): string {
  return `${workload.mode} ${variant} ${name}`
}

async function runRound(variants: readonly Variant[], samples: Samples): Promise<void> {
  const runs = WORKLOADS.flatMap((workload) => Array.from({ length: workload.runs }, () => workload))
  const tasks = shuffled(runs).flatMap((workload) => shuffled(variants).map((variant) => ({ workload, variant })))
  for (const { workload, variant } of tasks) {
    const times = await variant.measure(workload)
    for (const [name, fraction] of Object.entries(QUANTILES) as [QuantileName, number][]) {
      const at = key(workload, variant.name, name)
      samples.set(at, [...(samples.get(at) ?? []), quantile(times, fraction)])
    }
  }
}

async function measure(variants: readonly Variant[], rounds: number, limit: number): Promise<Series[]> {
  const samples: Samples = new Map()
  const end = Date.now() + limit
  for (let round = 1; round <= rounds && Date.now() < end; round++) {
    await runRound(variants, samples)
    if (process.stdout.isTTY) process.stdout.write(`\rround ${round} of ${rounds}${round === rounds ? '\n' : ''}`)
  }
  return series(samples)
}

/** The claim that this bench checks: the upper bound of the interval is below 1. */
function verdict(all: readonly Series[]): { readonly good: boolean; readonly text: string } {
  const connect = all.find(({ workload, quantile }) => workload.mode === 'connect' && quantile === 'median')
  if (connect === undefined) throw new Error('connect() was not measured')
  const found = ratio(connect, 'merbridge', 'iptables')
  const good = found.high < 1
  const text = good ? 'connect() is faster than with iptables' : 'connect() is NOT proven to be faster than with iptables'
  return { good, text: `${text}: ratio of the medians ${interval(found)}, the claim is an upper bound below 1.` }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { rounds: { type: 'string' }, quick: { type: 'boolean', default: false } } })
  const rounds = Number(values.rounds ?? (values.quick ? 12 : 80))
  if (!Number.isInteger(rounds) || rounds < 5) throw new Error(`--rounds ${values.rounds}: a whole number of at least 5 is needed for an interval`)

  await using stack = new AsyncDisposableStack()
  say(`setting up: ${VARIANTS.join(', ')}`)
  const create = async (name: VariantName) => stack.use(await Variant.create(name))
  const merbridge = await create('merbridge')
  stack.use(await startAgent(merbridge))
  const variants = [await create('none'), await create('iptables'), merbridge]
  for (const variant of variants) await variant.check()

  const all = await measure(variants, rounds, values.quick ? TIME_LIMIT.quick : TIME_LIMIT.full)
  const { good, text } = verdict(all)
  say(`\n${table(all)}\n\n${text}`)
  if (!values.quick) {
    await mkdir(dirname(PAGE), { recursive: true })
    await writeFile(PAGE, performancePage(all, text))
  }
  if (!good) process.exitCode = 1
}

await main().catch((error: Error) => {
  process.stderr.write(`bench: ${error.message}\n`)
  process.exitCode = 1
})
