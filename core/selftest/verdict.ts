/** The verdict on this kernel, kept on disk: the same kernel, BTF, programs and exchanges come to the same verdict. */
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { release, version } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { abilitiesOf } from '../datapath/load.ts'
import { makeDirectory } from '../directories.ts'
import type { KernelFacts } from '../features/probe.ts'
import type { CheckResult } from './checks.ts'

export interface Verdict {
  /** Of what it is the verdict, a hash. */
  readonly of: string
  readonly at: string
  readonly ms: number
  readonly checks: readonly CheckResult[]
  /** Redirected bytes that wait are charged to the receiver; absent: it could not be seen. */
  readonly charged?: boolean
  /** enum accel_quirk, or-ed. */
  readonly quirks?: number
}

export const passed = ({ checks }: Verdict): boolean => checks.length > 0 && checks.every(({ problems }) => problems.length === 0)

const kernelBtf = '/sys/kernel/btf/vmlinux'
const name = 'selftest.json'
/** Far more than a verdict needs; a file that somebody else has put there is not read whole. */
const mostBytes = 1 << 20

/** Everything that may change the verdict. */
export async function subjectOf(kernel: KernelFacts, files: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(`${release()}\n${version()}\n`).update(abilitiesOf(kernel.abilities))
  for (const path of [kernel.btf ?? kernelBtf, ...files]) {
    const part = createHash('sha256')
    await pipeline(createReadStream(path), part)
    hash.update(part.digest())
  }
  return hash.digest('hex')
}

/** undefined: none is kept, or it is of something else. A file that cannot be read or understood is none. */
export async function readVerdict(stateDir: string, of: string): Promise<Verdict | undefined> {
  try {
    const text = await readFile(join(stateDir, name), 'utf8')
    const verdict = text.length > mostBytes ? undefined : (JSON.parse(text) as Verdict)
    return verdict?.of === of && Array.isArray(verdict.checks) && verdict.checks.every(isCheck) ? verdict : undefined
  } catch {
    return undefined
  }
}

function isCheck(value: CheckResult | null): boolean {
  return typeof value?.name === 'string' && Array.isArray(value.problems) && value.problems.every((each) => typeof each === 'string')
}

/** Atomic. Throws the system's error. */
export async function saveVerdict(stateDir: string, verdict: Verdict): Promise<void> {
  makeDirectory(stateDir, 0o700)
  const temporary = join(stateDir, `${name}.${randomBytes(6).toString('hex')}.tmp`)
  try {
    await writeFile(temporary, `${JSON.stringify(verdict, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' })
    await rename(temporary, join(stateDir, name))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
