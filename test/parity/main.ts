/** `npm run test:parity -- [--runs N] [--seed S] [--path P] [--backend nft|legacy]`: random pods beside Istio's iptables rules. */
import { parseArgs } from 'node:util'
import { freshSeed, type RandomRun, randomParity } from './random/run.ts'

const USAGE = 2

function fail(message: string): never {
  process.stderr.write(`${message}\nusage: npm run test:parity -- [--runs N] [--seed S] [--path P] [--backend nft|legacy]\n`)
  process.exit(USAGE)
}

function whole(name: string, text: string): number {
  if (!/^-?\d{1,10}$/.test(text)) fail(`--${name}: expected a whole number, got '${text}'`)
  return Number(text)
}

function readArguments(): RandomRun {
  const text = { type: 'string' } as const
  try {
    const { values } = parseArgs({ options: { runs: { ...text, default: '50' }, seed: text, path: text, backend: text } })
    const { backend, path } = values
    if (backend !== undefined && backend !== 'nft' && backend !== 'legacy') return fail(`--backend: expected nft or legacy, got '${backend}'`)
    if (path !== undefined && values.seed === undefined) return fail('--path belongs to a --seed')
    return {
      runs: whole('runs', values.runs),
      seed: values.seed === undefined ? freshSeed() : whole('seed', values.seed),
      ...(path === undefined ? {} : { path }),
      ...(backend === undefined ? {} : { backend }),
    }
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

const run = readArguments()
process.stdout.write(`seed ${run.seed}${run.path === undefined ? '' : `, path ${run.path}`}\n`)
const { failure, summary } = await randomParity({ ...run, onProgress: (text) => process.stdout.write(`${text}\n`) })
process.stdout.write(`${summary}\n${failure === undefined ? '' : `${failure}\n`}`)
process.exitCode = failure === undefined ? 0 : 1
