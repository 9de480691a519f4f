/** Loads the object, and the one with direct reads beside it. A program that the rest can do without, and that this kernel does not take, is left out and told. */
import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { release } from 'node:os'
import { dirname, join } from 'node:path'
import { u64Codec } from '../codec.ts'
import { Ability } from '../contract.ts'
import { MerbridgeError } from '../errors.ts'
import { accelerationAbilities } from '../features/acceleration.ts'
import { optional } from '../features/catalogue.ts'
import { type KernelFacts, whySkipped } from '../features/probe.ts'
import type { BpfMap, BpfObject, BpfProgram, Native, NativeError, OpenOptions } from '../native/api.ts'
import { using } from '../scope.ts'
import { deciding } from './contents.ts'
import { acceleration, allPrograms, cookieProgram } from './hooks.ts'

export interface Loaded {
  readonly object: BpfObject
  /** Optional programs that the kernel refused, with its words. */
  readonly refused: ReadonlyMap<string, string>
  /** What the programs were told that they may use: less than was found, where acceleration was refused. */
  readonly abilities: bigint
}

/** Lines of the verifier's log that an operator sees; the end says what it did not like. */
const shownLogLines = 12

/** What the programs are told of the kernel. */
export const abilitiesOf = (abilities: bigint): Buffer => u64Codec.encode(abilities)

const withoutJoining = (abilities: bigint): bigint => accelerationAbilities.reduce((bits, ability) => bits & ~BigInt(ability), abilities)

export interface LoadPlan {
  readonly path: string
  readonly kernel: KernelFacts
  readonly reuse?: Readonly<Record<string, BpfMap>>
  readonly maxEntries?: Readonly<Record<string, number>>
}

/** Throws DATAPATH_FAILED with the verifier's last words. Nothing is attached then. */
export async function loadObject(native: Native, { path, kernel, reuse, maxEntries }: LoadPlan): Promise<Loaded> {
  const unwanted = [...kernel.skip.keys(), ...(kernel.tellsCookies ? [cookieProgram] : [])]
  const options = (skip: readonly string[], abilities = kernel.abilities): OpenOptions => ({
    skip,
    rodata: { '.rodata.abilities': abilitiesOf(abilities), '.rodata.seed': randomBytes(8) },
    ...(reuse === undefined ? {} : { reuse }),
    ...(maxEntries === undefined ? {} : { maxEntries }),
    ...(kernel.btf === undefined ? {} : { btf: kernel.btf }),
  })
  try {
    return { object: await native.load(path, options(unwanted)), refused: new Map(), abilities: kernel.abilities }
  } catch (first) {
    const refused = new Map<string, string>()
    for (const { programs } of optional.filter((each) => whySkipped(each.programs, kernel.skip) === undefined)) {
      const others = allPrograms.filter((name) => unwanted.includes(name) || !(programs as readonly string[]).includes(name))
      const error = await loadAlone(native, path, options(others))
      if (error !== undefined) for (const program of programs) refused.set(program, shortReason(error))
    }
    if (refused.size === 0) throw asMerbridgeError(first as NativeError)
    const abilities = refused.has(acceleration.stub) ? withoutJoining(kernel.abilities) : kernel.abilities
    try {
      return { object: await native.load(path, options([...unwanted, ...refused.keys()], abilities)), refused, abilities }
    } catch (second) {
      throw asMerbridgeError(second as NativeError)
    }
  }
}

interface DeciderPlan extends Pick<LoadPlan, 'path' | 'kernel' | 'maxEntries'> {
  readonly abilities: bigint
  readonly charged: boolean
}

/**
 * The same program with direct reads of the kernel's sockets (bpf_rdonly_cast, Linux 6.2) instead of a helper's call for each: little more than half the time
 * of a message. undefined: it was not built.
 */
export function directDecider(object: string): string | undefined {
  const path = join(dirname(object), 'direct.bpf.o')
  return statSync(path, { throwIfNoEntry: false })?.isFile() ? path : undefined
}

/**
 * The program that decides about messages, once more, over the maps of `loaded`; with direct reads where the kernel takes them: not before 6.2, and not without
 * its own BTF file.
 */
export async function loadDecider(native: Native, plan: DeciderPlan, loaded: BpfObject): Promise<BpfProgram> {
  const { path, kernel, maxEntries, abilities, charged } = plan
  const bit = BigInt(Ability.CHARGED)
  const reuse = Object.fromEntries(['accelerated', ...deciding].map((name) => [name, loaded.map(name)]))
  const sizes = Object.entries(maxEntries ?? {}).filter(([name]) => name in reuse)
  const load = (from: string, programs: readonly string[]) =>
    native.load(from, {
      skip: programs.filter((name) => name !== acceleration.decider),
      rodata: { '.rodata.abilities': abilitiesOf(charged ? abilities | bit : abilities & ~bit) },
      reuse,
      onlyReused: true,
      maxEntries: Object.fromEntries(sizes),
      ...(kernel.btf === undefined ? {} : { btf: kernel.btf }),
    })
  const direct = directDecider(path)
  try {
    const object = await (direct === undefined ? load(path, allPrograms) : load(direct, [acceleration.stub]).catch(() => load(path, allPrograms)))
    return using(object, () => object.program(acceleration.decider))
  } finally {
    for (const map of Object.values(reuse)) map.close()
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
