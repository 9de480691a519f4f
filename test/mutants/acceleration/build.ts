/**
 * Objects with a rule of acceleration taken out, in a temporary directory: the sources of bpf/ with one text exchanged, or one file. What is not found
 * is an error, so that a mutant is never the product itself.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { must } from '../../lab/process.ts'

export interface Mutant {
  readonly name: string
  readonly file: string
  /** Each must be found. */
  readonly edits?: readonly (readonly [find: RegExp, by: string])[]
  /** Of this directory, in place of the whole file. */
  readonly whole?: string
}

export const mutants: readonly Mutant[] = [
  { name: 'a naive redirect', file: 'accelerate.bpf.c', whole: 'naive.bpf.c' },
  {
    name: 'without pairing',
    file: 'join.bpf.c',
    edits: [
      [/ctx->snd_nxt/, 'ctx->local_port'],
      [/ctx->rcv_nxt/, 'bpf_ntohl(ctx->remote_port)'],
    ],
  },
  { name: 'without budget', file: 'accelerate.bpf.c', edits: [[/!fits_budget\(/, '0 && !fits_budget(']] },
  { name: 'without order check', file: 'accelerate.bpf.c', edits: [[/!is_path_empty\(/, '0 && !is_path_empty(']] },
  { name: 'without receiver rule', file: 'accelerate.bpf.c', edits: [[/reason = judge_receiver\([^;]*;/, 'reason = ACCEL_REDIRECTED;']] },
]

const root = resolve(import.meta.dirname, '../../..')
const flags = ['-target', 'bpf', '-g', '-O2', '-mcpu=v3']
const machine = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`
const compilersAtOnce = 2

const sources = () => readdirSync(join(root, 'bpf')).filter((each) => each.endsWith('.bpf.c') && each !== 'contract.bpf.c')

async function compile(directory: string, source: string): Promise<string> {
  const part = join(directory, `${basename(source, '.bpf.c')}.o`)
  await must(['clang-19', ...flags, '-I', directory, '-idirafter', machine, '-c', join(directory, source), '-o', part])
  await must(['llvm-strip-19', '-g', part])
  return part
}

/** Builds mutants; what they have in common is compiled once. */
export class MutantBuilder implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'merbridge-mutants-'))
  readonly #parts = new Map<string, Promise<string>>()
  #waiting: Promise<unknown>[] = Array.from({ length: compilersAtOnce }, () => Promise.resolve())
  #made = 0

  constructor() {
    cpSync(join(root, 'bpf'), join(this.#directory, 'common'), { recursive: true })
  }

  #compile(directory: string, source: string): Promise<string> {
    const [before = Promise.resolve(), ...others] = this.#waiting
    const part = before.catch(() => {}).then(() => compile(directory, source))
    part.catch(() => {}) // whoever waits for it is told
    this.#waiting = [...others, part]
    return part
  }

  #common(source: string): Promise<string> {
    const known = this.#parts.get(source) ?? this.#compile(join(this.#directory, 'common'), source)
    this.#parts.set(source, known)
    return known
  }

  /** The object is there until the builder is disposed of. */
  async build({ name, file, edits = [], whole }: Mutant): Promise<string> {
    const directory = join(this.#directory, String(++this.#made))
    cpSync(join(root, 'bpf'), directory, { recursive: true })
    let text = readFileSync(whole === undefined ? join(directory, file) : join(import.meta.dirname, whole), 'utf8')
    for (const [find, by] of edits) {
      if (!find.test(text)) throw new Error(`the mutant '${name}' is not made: ${file} has no ${find}`)
      text = text.replace(find, by)
    }
    writeFileSync(join(directory, file), text)
    const parts = await Promise.all(sources().map((source) => (source === file ? this.#compile(directory, source) : this.#common(source))))
    const object = join(directory, 'merbridge.bpf.o')
    await must(['/usr/sbin/bpftool', 'gen', 'object', object, ...parts])
    return object
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true, force: true })
  }
}
