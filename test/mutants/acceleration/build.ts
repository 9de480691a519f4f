/**
 * Objects with a rule of acceleration taken out, each in a temporary directory: the sources of bpf/ with one text exchanged, or one file. What is not found
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

/** The caller removes the directory of what is returned. */
export async function buildMutant({ name, file, edits = [], whole }: Mutant): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'merbridge-mutant-'))
  try {
    cpSync(join(root, 'bpf'), directory, { recursive: true })
    let text = readFileSync(whole === undefined ? join(directory, file) : join(import.meta.dirname, whole), 'utf8')
    for (const [find, by] of edits) {
      if (!find.test(text)) throw new Error(`the mutant '${name}' is not made: ${file} has no ${find}`)
      text = text.replace(find, by)
    }
    writeFileSync(join(directory, file), text)
    const machine = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`
    const sources = readdirSync(directory).filter((each) => each.endsWith('.bpf.c') && each !== 'contract.bpf.c')
    const parts = await Promise.all(
      sources.map(async (source) => {
        const part = join(directory, `${basename(source, '.bpf.c')}.o`)
        await must(['clang-19', ...flags, '-I', directory, '-idirafter', machine, '-c', join(directory, source), '-o', part])
        await must(['llvm-strip-19', '-g', part])
        return part
      }),
    )
    const object = join(directory, 'merbridge.bpf.o')
    await must(['/usr/sbin/bpftool', 'gen', 'object', object, ...parts])
    return object
  } catch (error) {
    rmSync(directory, { recursive: true, force: true })
    throw error
  }
}
