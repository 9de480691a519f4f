/** Loads the object. A program that the rest can do without, and that this kernel does not take, is left out and told. */
import { randomBytes } from 'node:crypto'
import { release } from 'node:os'
import { u64Codec } from '../codec.ts'
import { MerbridgeError } from '../errors.ts'
import { optional } from '../features/catalogue.ts'
import type { KernelFacts } from '../features/probe.ts'
import type { BpfMap, BpfObject, Native, NativeError, OpenOptions } from '../native/api.ts'
import { allPrograms, cookieProgram } from './hooks.ts'

export interface Loaded {
  readonly object: BpfObject
  /** Optional programs that the kernel refused, with its words. */
  readonly refused: ReadonlyMap<string, string>
}

/** Lines of the verifier's log that an operator sees; the end says what it did not like. */
const shownLogLines = 12

/** What the programs are told of the kernel. */
export const abilitiesOf = (kernel: KernelFacts): Buffer => u64Codec.encode(kernel.abilities)

export interface LoadPlan {
  readonly path: string
  readonly kernel: KernelFacts
  readonly reuse?: Readonly<Record<string, BpfMap>>
  readonly maxEntries?: Readonly<Record<string, number>>
}

/** Throws DATAPATH_FAILED with the verifier's last words. Nothing is attached then. */
export async function loadObject(native: Native, { path, kernel, reuse, maxEntries }: LoadPlan): Promise<Loaded> {
  const unwanted = [...kernel.skip.keys(), ...(kernel.tellsCookies ? [cookieProgram] : [])]
  const options = (skip: readonly string[]): OpenOptions => ({
    skip,
    rodata: { '.rodata.abilities': abilitiesOf(kernel), '.rodata.seed': randomBytes(8) },
    ...(reuse === undefined ? {} : { reuse }),
    ...(maxEntries === undefined ? {} : { maxEntries }),
    ...(kernel.btf === undefined ? {} : { btf: kernel.btf }),
  })
  try {
    return { object: await native.load(path, options(unwanted)), refused: new Map() }
  } catch (first) {
    const refused = new Map<string, string>()
    for (const { programs } of optional.filter((each) => !each.programs.some((program) => unwanted.includes(program)))) {
      const others = allPrograms.filter((name) => !(programs as readonly string[]).includes(name))
      const error = await loadAlone(native, path, options(others))
      if (error !== undefined) for (const program of programs) refused.set(program, shortReason(error))
    }
    if (refused.size === 0) throw asMerbridgeError(first as NativeError)
    try {
      return { object: await native.load(path, options([...unwanted, ...refused.keys()])), refused }
    } catch (second) {
      throw asMerbridgeError(second as NativeError)
    }
  }
}

/** undefined: the kernel takes it. */
async function loadAlone(native: Native, path: string, options: OpenOptions): Promise<NativeError | undefined> {
  try {
    const object = await native.load(path, options)
    object.close()
    return undefined
  } catch (error) {
    return error as NativeError
  }
}

/** The verifier's verdict is the last line of its log before the statistics. */
function shortReason({ message, log = '' }: NativeError): string {
  const lines = log.split('\n').map((line) => line.trim())
  const verdict = lines.findLast(
    (line) => line !== '' && !/^(processed \d+ insns|-- END|libbpf:|verification time|stack depth|max_states)/.test(line),
  )
  return verdict ?? message
}

function asMerbridgeError(cause: NativeError): MerbridgeError {
  const { message, log = '' } = cause
  const what = `the kernel (${release()}) did not take the programs: ${message}`
  const hint = 'Report it with this text; nothing was attached, and what was in place before still is.'
  const shown = log.trimEnd().split('\n').slice(-shownLogLines)
  return new MerbridgeError('DATAPATH_FAILED', what, hint, cause, { issues: [], detail: [`merbridge: ${what}`, ...shown, hint].join('\n  ') })
}
