/** The verdict on this kernel, kept on disk: the same kernel, BTF, programs and exchanges come to the same verdict. */
import { createHash, randomBytes } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { open, rename, rm, writeFile } from 'node:fs/promises'
import { release, version } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { abilitiesOf } from '../datapath/load.ts'
import { lookerOf } from '../datapath/looker.ts'
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
  const hash = createHash('sha256')
    .update(`${release()}\n${version()}\n${lookerOf(kernel.skip)}\n`)
    .update(abilitiesOf(kernel.abilities))
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
    const value: unknown = JSON.parse(await readBounded(join(stateDir, name)))
    return isVerdict(value) && value.of === of ? value : undefined
  } catch {
    return undefined
  }
}

/** Whatever stands in its place, a pipe or a link to a file of somebody else's, is not waited for and not read. */
async function readBounded(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  try {
    const status = await file.stat()
    if (!status.isFile() || status.size > mostBytes) throw new Error('no verdict')
    const { bytesRead, buffer } = await file.read(Buffer.alloc(status.size), 0, status.size, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await file.close()
  }
}

const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> => (typeof value === 'object' && value !== null ? { ...value } : {})
const isPositive = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0
const isBits = (value: unknown): value is number => isPositive(value) && Number.isInteger(value) && value <= 0xffff_ffff

function isCheck(value: unknown): value is CheckResult {
  const { name: title, problems, ms } = fieldsOf(value)
  return typeof title === 'string' && isPositive(ms) && Array.isArray(problems) && problems.every((each) => typeof each === 'string')
}

/** What is not told is not known, so the test has to find it; but no kernel need show whether it charges. */
function isVerdict(value: unknown): value is Verdict {
  const { of, at, ms, checks, charged, quirks } = fieldsOf(value)
  const texts = typeof of === 'string' && typeof at === 'string'
  const numbers = isPositive(ms) && isBits(quirks)
  return texts && numbers && ['boolean', 'undefined'].includes(typeof charged) && Array.isArray(checks) && checks.every(isCheck)
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
