/** One guest: QEMU without KVM, from its start to the verdict. */
import { spawn } from 'node:child_process'
import { createReadStream, createWriteStream, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { CheckResult } from '../../test/kernels/checks.ts'
import type { Bootable } from './kernel.ts'
import { runArchive } from './overlay.ts'
import { type Architecture, cacheDirectory, running } from './place.ts'
import type { Shape } from './shapes.ts'

/** Seconds that a guest may take: those that hang must not hold up the others. */
const DEADLINE = 420

interface Machine {
  readonly program: string
  readonly arguments: readonly string[]
  readonly append: string
  readonly console: string
}

/**
 * Everything that the emulator can do, but for what it does slowly: protection keys flush its TLB whenever V8 writes code, wide vectors and string
 * instructions go through helpers byte by byte, pointer authentication computes a cipher in software. Without "tsc" every look at the clock would
 * leave the emulated CPU.
 */
const machines: Readonly<Record<Architecture, Machine>> = {
  amd64: {
    program: 'qemu-system-x86_64',
    arguments: ['-cpu', 'max,-pku,-la57,-erms,-fsrm,-avx,-avx2'],
    append: 'tsc=reliable clocksource=tsc',
    console: 'ttyS0',
  },
  arm64: { program: 'qemu-system-aarch64', arguments: ['-M', 'virt', '-cpu', 'max,pauth-impdef=on,sve=off'], append: '', console: 'ttyAMA0' },
}

/** What the kernel says when something is wrong with it, or with what was loaded into it. */
const alarms =
  /\b(BUG:|WARNING:|Oops|Kernel panic|general protection fault|unable to handle|soft lockup|hard LOCKUP|hung task|detected stalls?|self-detected stall|Call Trace)/

/**
 * The kernel patches its own code with a breakpoint for a moment (static keys). QEMU's threads may run it on another CPU after it has gone, where no
 * handler knows it any more. Real processors do not.
 */
const staleBreakpoint = /\bOops: int3\b/

type Line =
  | { readonly type: 'start'; readonly release: string }
  | ({ readonly type: 'check' } & CheckResult)
  | { readonly type: 'end'; readonly features: readonly Feature[] }
  | { readonly type: 'broken'; readonly reason: string }

export interface Feature {
  readonly name: string
  readonly state: 'yes' | 'no' | 'fallback'
  readonly detail: string
}

export interface Verdict {
  readonly release: string
  readonly checks: readonly CheckResult[]
  readonly features: readonly Feature[]
  readonly seconds: number
  /** What is wrong beside failed checks; each one fails the run. */
  readonly problems: readonly string[]
  /** It ended for a reason that only emulation has. */
  readonly emulatorAtFault: boolean
  readonly consoleLog: string
}

export interface Guest {
  readonly name: string
  readonly kernel: Bootable
  /** Archives that come before those of this run. */
  readonly archives: readonly string[]
  readonly shape: Shape
  readonly selection: 'all' | 'short'
}

async function concatenate(files: readonly string[], to: string): Promise<void> {
  const out = createWriteStream(to)
  for (const file of files) await pipeline(createReadStream(file, { highWaterMark: 4 << 20 }), out, { end: false })
  await new Promise<void>((done) => out.end(() => done()))
}

/** Runs it to its end, or to the deadline; "" or what ended it. */
function emulate(architecture: Architecture, argv: readonly string[]): Promise<string> {
  const { program } = machines[architecture]
  return new Promise((done) => {
    const child = spawn(program, argv, { stdio: ['ignore', 'ignore', 'pipe'], detached: true }) // Ctrl-C is for the harness, which then ends it
    const { pid } = child
    if (pid !== undefined) running.add(pid)
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (data: string) => (said += data))
    let late = false
    const timer = setTimeout(() => {
      late = true
      child.kill('SIGKILL')
    }, DEADLINE * 1000)
    const end = (reason: string) => {
      clearTimeout(timer)
      if (pid !== undefined) running.delete(pid)
      done(reason)
    }
    child.once('error', (error) => end(`${program}: ${error.message}`))
    child.once('close', (code, signal) => {
      if (late) end(`no verdict within ${DEADLINE} s`)
      else end(code === 0 ? '' : `${program}: ${signal ?? `exit ${code}`} ${said.trim()}`)
    })
  })
}

function linesOf(file: string): Line[] {
  if (!existsSync(file)) return []
  const lines = readFileSync(file, 'utf8').split('\n')
  return lines.slice(0, -1).map((line) => JSON.parse(line) as Line) // the last one is empty, or was cut off
}

function problemsOf(lines: readonly Line[], console: string, ended: string): string[] {
  const problems = ended === '' ? [] : [ended]
  for (const line of lines) if (line.type === 'broken') problems.push(line.reason)
  const alarm = console.split('\n').findIndex((line) => alarms.test(line))
  if (alarm >= 0)
    problems.push(
      `the kernel complains:\n${console
        .split('\n')
        .slice(alarm, alarm + 15)
        .join('\n')}`,
    )
  if (!lines.some(({ type }) => type === 'end') && problems.length === 0) problems.push('the guest ended without a verdict')
  return problems
}

export async function bootGuest({ name, kernel, archives, shape, selection }: Guest): Promise<Verdict> {
  const directory = join(cacheDirectory, 'run', name.replaceAll(/[^\w.+-]/g, '_'))
  const logs = join(cacheDirectory, 'logs')
  rmSync(directory, { recursive: true, force: true })
  for (const each of [directory, logs]) mkdirSync(each, { recursive: true })
  const consoleLog = join(logs, `${name.replaceAll(/[^\w.+-]/g, '_')}.console`)
  const results = join(directory, 'results')
  rmSync(consoleLog, { force: true })
  const initrd = join(directory, 'initrd')
  await concatenate([...archives, runArchive(kernel, shape, selection, directory)], initrd)
  const machine = machines[kernel.architecture]
  const start = performance.now()
  const ended = await emulate(kernel.architecture, [
    ...machine.arguments,
    ...['-accel', 'tcg,thread=multi,tb-size=1024', '-m', '2048', '-smp', '2', '-nographic', '-nodefaults', '-no-reboot'],
    ...['-serial', `file:${consoleLog}`, '-chardev', `file,id=results,path=${results}`],
    ...['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=results,name=results'],
    ...['-kernel', join(kernel.directory, 'vmlinuz'), '-initrd', initrd],
    ...['-append', `console=${machine.console} ${machine.append} loglevel=5 panic=-1 oops=panic mitigations=off nokaslr ${shape.append ?? ''}`],
  ])
  const seconds = (performance.now() - start) / 1000
  const console = existsSync(consoleLog) ? readFileSync(consoleLog, 'utf8') : ''
  const lines = linesOf(results)
  rmSync(directory, { recursive: true, force: true })
  return {
    release: lines.find((line) => line.type === 'start')?.release ?? '',
    checks: lines.filter((line) => line.type === 'check'),
    features: lines.find((line) => line.type === 'end')?.features ?? [],
    seconds,
    problems: problemsOf(lines, console, ended),
    emulatorAtFault: staleBreakpoint.test(console),
    consoleLog,
  }
}
