/**
 * `node scripts/rings.ts RING... [--without FEATURE,...]` runs the rings of tests in the order given, each to its end, prints a table, and then looks
 * for leftovers. `--without`: the datapath does without these features of the kernel (attach.without).
 * Exit code 1 when a test failed, a ring was empty or something was left behind; 2 when a ring did not understand its arguments.
 */
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { parseArgs } from 'node:util'
import { parseWithout, WITHOUT_VARIABLE } from '../test/lab/without.ts'
import { leftovers, RUN_VARIABLE, snapshot } from './leftovers.ts'
import { rings } from './ring-list.ts'

interface Outcome {
  readonly ring: string
  tests: number
  skipped: number
  minutes: number
  result: 'passed' | 'FAILED' | 'skipped'
  readonly notes: string[]
}

/** Milliseconds that one file of tests may take. */
const FILE_DEADLINE = 5 * 60_000

/** Files that the table names for the time they took. */
const SLOWEST = 12

/** Ends the tests, so that they can clean up, when the run is interrupted. */
const interrupt = new AbortController()

/** Why this machine cannot run what needs root and a kernel with BPF; undefined: it can. */
function kernelMissing(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux'
  if (process.getuid?.() !== 0) return 'needs root'
  if (!existsSync('/sys/kernel/btf/vmlinux')) return 'needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)'
  if (!/ cgroup2 /.test(readFileSync('/proc/self/mounts', 'utf8'))) return 'needs a mounted cgroup v2'
  if (spawnSync('bpftool', ['prog', 'show']).status !== 0) return 'needs the right to use bpf(2): bpftool prog show fails'
  return undefined
}

/** Exit code of a command that does not understand its arguments. */
const USAGE = 2
let usage = false

/** Its exit code, or why there is none. An interrupt reaches it as SIGTERM, so that it can clean up. */
function runCommand([file = '', ...args]: readonly string[]): Promise<number | string> {
  return new Promise((done) => {
    const child = spawn(file, args, { stdio: ['ignore', 'inherit', 'inherit'] })
    const stop = () => child.kill('SIGTERM')
    interrupt.signal.addEventListener('abort', stop)
    const end = (outcome: number | string) => {
      interrupt.signal.removeEventListener('abort', stop)
      done(outcome)
    }
    child.once('error', (error) => end(error.message))
    child.once('close', (code, signal) => end(code ?? signal ?? 'ended'))
  })
}

async function runCommands(commands: readonly (readonly string[])[], outcome: Outcome): Promise<void> {
  for (const command of commands) {
    const status = await runCommand(command)
    outcome.tests++
    if (status === 0) continue
    usage ||= status === USAGE
    outcome.result = 'FAILED'
    outcome.notes.push(`${command.join(' ')}: ${typeof status === 'string' ? status : `exit code ${status}`}`)
  }
}

async function runTests(files: readonly string[], parallel: boolean, outcome: Outcome): Promise<void> {
  const stream = run({ files: [...files], concurrency: parallel ? availableParallelism() : 1, timeout: FILE_DEADLINE, signal: interrupt.signal })
  const skips = new Map<string, number>()
  stream.on('test:pass', ({ skip }) => {
    if (skip !== undefined) skips.set(String(skip), (skips.get(String(skip)) ?? 0) + 1)
  })
  stream.on('test:fail', ({ name, file, todo }) => {
    if (todo === undefined) outcome.notes.push(`failed: ${name} (${file ?? 'no file'})`)
  })
  const took: { file: string; seconds: number }[] = []
  stream.on('test:summary', ({ file, counts, success, duration_ms }) => {
    if (file !== undefined) {
      took.push({ file: basename(file, '.test.ts'), seconds: duration_ms / 1000 })
      return // the last summary is of all files
    }
    outcome.tests = counts.tests
    outcome.skipped = counts.skipped
    outcome.result = success && counts.tests > 0 ? 'passed' : 'FAILED'
  })
  outcome.result = 'FAILED' // until the summary says otherwise
  for await (const chunk of stream.compose(new spec())) process.stdout.write(chunk)
  const slowest = took.sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST)
  outcome.notes.push(`slowest: ${slowest.map(({ file, seconds }) => `${file} ${seconds.toFixed(0)} s`).join(', ')}`)
  for (const [reason, count] of skips) outcome.notes.push(`skipped ${count}: ${reason}`)
}

async function runRing(name: string): Promise<Outcome> {
  const outcome: Outcome = { ring: name, tests: 0, skipped: 0, minutes: 0, result: 'passed', notes: [] }
  const ring = rings[name]
  const start = performance.now()
  const missing = ring?.needsKernel ? kernelMissing() : undefined
  process.stdout.write(`\n=== ${name}\n`)
  if (ring === undefined) {
    outcome.result = 'FAILED'
    outcome.notes.push(`no such ring; there are ${Object.keys(rings).join(', ')}`)
  } else if (missing !== undefined) {
    outcome.result = 'skipped'
    outcome.notes.push(missing)
  } else {
    await runCommands(names.length === 1 && ring.alone !== undefined ? [[...ring.alone, ...more]] : (ring.commands ?? []), outcome)
    if (ring.tests !== undefined) {
      const files = globSync(ring.tests.map((directory) => `${directory}/**/*.test.ts`)).sort()
      if (files.length > 0) await runTests(files, !ring.needsKernel, outcome)
      else outcome.result = 'FAILED'
      if (outcome.tests === 0) outcome.notes.push('no tests')
    }
  }
  outcome.minutes = (performance.now() - start) / 60_000
  return outcome
}

function print(outcomes: readonly Outcome[], left: readonly string[]): void {
  const line = (...cells: readonly string[]) =>
    `${cells[0]?.padEnd(10)}${cells
      .slice(1, 4)
      .map((cell) => cell.padStart(9))
      .join('')}  ${cells[4]}\n`
  process.stdout.write(`\n${line('ring', 'tests', 'skipped', 'minutes', 'result')}`)
  for (const { ring, tests, skipped, minutes, result, notes } of outcomes) {
    process.stdout.write(line(ring, String(tests), String(skipped), minutes.toFixed(2), result))
    for (const note of notes) process.stdout.write(`  ${note}\n`)
  }
  process.stdout.write(left.length === 0 ? 'nothing left behind\n' : `LEFT BEHIND:\n${left.map((thing) => `  ${thing}\n`).join('')}`)
}

/** Names of rings, and what is for the ring itself; what is wrong with the command line ends the run. */
function readArguments(): { readonly names: readonly string[]; readonly more: readonly string[] } {
  const all = process.argv.slice(2)
  const [first = '', ...rest] = all
  // What follows a ring that takes arguments is for it: `kernels 6.1 6.12`.
  if (rings[first]?.alone !== undefined && !rest.some((name) => name in rings)) return { names: [first], more: rest }
  try {
    const { values, positionals } = parseArgs({ args: all, allowPositionals: true, options: { without: { type: 'string', default: '' } } })
    if (values.without !== '') process.env[WITHOUT_VARIABLE] = parseWithout(values.without).join()
    return { names: positionals, more: [] }
  } catch (error) {
    process.stderr.write(`rings: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exit(2)
  }
}

const { names, more } = readArguments()

process.env[RUN_VARIABLE] ??= String(process.pid)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupt.abort())

// A directory for temporary files of this run alone: what is in it at the end was left by a test. Other users look into it, proxies for example.
const scratch = mkdtempSync(join(tmpdir(), 'merbridge-run-'))
chmodSync(scratch, 0o755)
process.env.TMPDIR = scratch
// Hundreds of agents and commands are started; compiled modules are kept for this run, elsewhere, or npm and tsc would put theirs there.
const compiled = mkdtempSync(join(tmpdir(), 'merbridge-compiled-'))
process.env.NODE_COMPILE_CACHE = compiled

const before = await snapshot(kernelMissing() === undefined && names.some((name) => rings[name]?.needsKernel))
const outcomes: Outcome[] = []
for (const name of names) if (!interrupt.signal.aborted) outcomes.push(await runRing(name))
const left = await leftovers(before)
print(outcomes, left)
for (const directory of [scratch, compiled]) rmSync(directory, { recursive: true, force: true })
const well = names.length > 0 && outcomes.length === names.length && outcomes.every(({ result }) => result !== 'FAILED') && left.length === 0
process.exitCode = well && !interrupt.signal.aborted ? 0 : usage ? USAGE : 1
