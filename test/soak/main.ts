/**
 * npm run soak [-- --minutes N] [-- --seed S] [-- --pods N] [-- --connections N]: random traffic while everything around it changes. Exit status 1: bytes were wrong,
 * a connection hung or was cut off for no reason, or the kernel holds more at the end than at the start.
 */
import { parseArgs } from 'node:util'
import { reportText, soak } from './soak.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    pods: { type: 'string', default: '3' },
    connections: { type: 'string', default: '12' },
  },
})

function number(name: keyof typeof values, least: number, most: number): number {
  const value = Number(values[name])
  if (value >= least && value <= most) return value
  process.stderr.write(`--${name} ${values[name]}: a number from ${least} to ${most} is needed\n`)
  process.exit(2)
}

const report = await soak({
  minutes: number('minutes', 0.1, 10_000),
  seed: Math.trunc(number('seed', 0, 2 ** 32 - 1)),
  pods: Math.trunc(number('pods', 2, 20)),
  connections: Math.trunc(number('connections', 1, 40)),
  onProgress: (text) => process.stdout.write(`${text}\n`),
})
process.stdout.write(`${reportText(report)}\n`)
process.exitCode = report.failures.length === 0 ? 0 : 1
