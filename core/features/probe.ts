/** Asks the kernel for every feature of the catalogue, once, before anything is loaded. A missing necessity is an error that names them all. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { release } from 'node:os'
import { Ability } from '../contract.ts'
import { acceleration } from '../datapath/hooks.ts'
import type { LoopbackHook } from '../datapath/loopback.ts'
import { MerbridgeError } from '../errors.ts'
import type { Native } from '../native/api.ts'
import { accelerationLacks } from './acceleration.ts'
import { type Forceable, optional, type Probed, probed } from './catalogue.ts'
import { deniedHere } from './denied.ts'

export interface Feature {
  readonly id: string
  readonly name: string
  readonly state: 'yes' | 'no' | 'fallback'
  readonly detail: string
}

/** What is known of the kernel before the programs are loaded. */
export interface KernelFacts {
  readonly features: readonly Feature[]
  /** enum ability, or-ed: what the programs may use */
  readonly abilities: bigint
  /** Optional programs that must not be loaded, with the reason. */
  readonly skip: ReadonlyMap<string, string>
  /** The kernel tells the cookie of a network namespace. */
  readonly tellsCookies: boolean
  /** How a program is attached to the lo of pods. */
  readonly loopback: LoopbackHook
  /** A file that stands in for the kernel's own BTF. */
  readonly btf?: string
}

export const hasAbility = (abilities: bigint, ability: Ability): boolean => (abilities & BigInt(ability)) !== 0n

export interface ProbeSetting {
  /** attach.btf of the config */
  readonly btf: string
  /** attach.without of the config */
  readonly without: readonly Forceable[]
}

const KERNEL_BTF = '/sys/kernel/btf/vmlinux'
const forcedOff = 'attach.without in the config'

function unsupported(what: string, hint: string): MerbridgeError {
  return new MerbridgeError('KERNEL_UNSUPPORTED', `this kernel (${release()}) ${what}`, hint)
}

/** Raw BTF (little-endian), or an object file that has it in a section. */
const beginnings = [Buffer.from([0x9f, 0xeb]), Buffer.from('\x7fELF', 'latin1')]
const mostBytes = 256 * 1024 * 1024

/** A kernel that shows its own BTF can be asked whether the file is of another one: with wrong offsets programs would read nonsense. */
function notThisKernels(path: string, size: number): string | undefined {
  if (size === 0) return 'is empty'
  if (size > mostBytes) return 'has more than 256 MiB'
  const bytes = readFileSync(path)
  if (!beginnings.some((beginning) => bytes.subarray(0, beginning.length).equals(beginning))) return 'holds no BTF'
  const raw = bytes.subarray(0, 2).equals(beginnings[0] as Buffer)
  return raw && existsSync(KERNEL_BTF) && !bytes.equals(readFileSync(KERNEL_BTF)) ? 'is the BTF of another kernel' : undefined
}

/** The file is parsed by root, so nobody else may have written it. */
function requireBtfFile(path: string): void {
  const status = statSync(path, { throwIfNoEntry: false })
  const wrong = !status?.isFile()
    ? 'is not a file'
    : status.uid !== 0
      ? `belongs to uid ${status.uid}, not to root`
      : (status.mode & 0o022) !== 0
        ? 'can be written by others than root'
        : notThisKernels(path, status.size)
  if (wrong === undefined) return
  throw new MerbridgeError(
    'KERNEL_UNSUPPORTED',
    `attach.btf: ${path} ${wrong}`,
    'name a file with the BTF of this very kernel, owned by root, mode 0644',
  )
}

/** undefined: the kernel's own. */
function btfFile(setting: ProbeSetting): string | undefined {
  if (setting.btf !== 'auto') {
    requireBtfFile(setting.btf)
    return setting.btf
  }
  if (existsSync(KERNEL_BTF)) return undefined
  throw unsupported(
    `has no BTF: ${KERNEL_BTF} does not exist`,
    'use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distribution kernels are), or name a file with its BTF under attach.btf',
  )
}

const sinceText = (since: string): string => `Linux ${since}`

function describe(feature: Probed, there: boolean, forced: boolean): Feature {
  const { id, name, since } = feature
  const used = feature.unused ? `${feature.detail === '' ? '' : `${feature.detail}, `}not used yet` : feature.detail
  if (there && !forced) return { id, name, state: 'yes', detail: used }
  const why = forced ? forcedOff : (deniedHere(id)?.reason ?? `${sinceText(since)} has it`)
  if (feature.fallback === undefined) return { id, name, state: 'no', detail: `${used} (${why})` }
  return { id, name, state: 'fallback', detail: `${feature.fallback} (${why})` }
}

/** Both ways to know the pod in sock_ops are missing: no origin could be handed over. */
function requireIdentity(has: ReadonlySet<string>): void {
  if (has.has('sockops_netns_cookie') || has.has('kernel_reads')) return
  throw unsupported(
    'tells sock_ops programs neither the netns cookie (Linux 5.15) nor lets them read kernel memory',
    'give the agent CAP_PERFMON, boot without lockdown=confidentiality, take both out of attach.without, or use Linux 5.15 or newer',
  )
}

export async function probeKernel(native: Native, setting: ProbeSetting): Promise<KernelFacts> {
  const btf = btfFile(setting)
  const forced = new Set<string>(setting.without)
  const found = await Promise.all(probed.map(async (feature: Probed) => ({ feature, there: await feature.probe(native) })))
  const missing = found.filter(({ feature, there }) => !there && feature.fallback === undefined && !feature.unused)
  if (missing.length > 0) {
    const list = missing.map(({ feature }) => `${feature.name} (${sinceText(feature.since)})`).join(', ')
    throw unsupported(`lacks what interception needs: ${list}`, 'use a newer kernel; 5.10 and later have all of it')
  }
  const has = new Set(found.filter(({ feature, there }) => there && !forced.has(feature.id)).map(({ feature }) => feature.id))
  requireIdentity(has)
  const skip = skipped(has, forced)
  const asked = found.reduce((bits, { feature }) => (has.has(feature.id) && feature.ability !== undefined ? bits | feature.ability : bits), 0)
  return {
    features: [
      btf === undefined
        ? { id: 'btf', name: 'BTF', state: 'yes', detail: KERNEL_BTF }
        : { id: 'btf', name: 'BTF', state: 'fallback', detail: `${btf} (attach.btf in the config)` },
      { id: 'libbpf', name: 'libbpf', state: 'yes', detail: native.libbpf },
      ...found.map(({ feature, there }) => describe(feature, there, forced.has(feature.id))),
    ],
    abilities: BigInt(skip.has(acceleration.stub) ? asked : asked | Ability.JOIN),
    skip,
    loopback: has.has('tcx') ? 'link' : has.has('clsact') ? 'filter' : 'none',
    tellsCookies: has.has('socket_netns_cookie'),
    ...(btf === undefined ? {} : { btf }),
  }
}

/** Two programs look at the sockets of acceleration in different ways: the one that is not wanted. */
const looker = (has: ReadonlySet<string>): readonly (readonly [program: string, why: string])[] =>
  has.has('storage_iterator')
    ? [[acceleration.walk, 'the iterator over socket storage is used']]
    : [[acceleration.late, 'the iterator over socket storage is not used']]

/** Optional programs that are not even tried, with the reason. */
function skipped(has: ReadonlySet<string>, forced: ReadonlySet<string>): ReadonlyMap<string, string> {
  const whole = optional.flatMap(({ id, programs }) => {
    const lacks = id === 'acceleration' ? accelerationLacks(has, forced) : undefined
    const why = forced.has(id) ? forcedOff : (lacks ?? deniedHere(id)?.reason)
    return why === undefined ? [] : programs.map((program) => [program, why] as const)
  })
  return new Map([...looker(has), ...whole])
}

/** Why the feature whose programs these are is not tried. That one of them is not wanted says nothing, while others are. */
export function whySkipped(programs: readonly string[], skip: ReadonlyMap<string, string>): string | undefined {
  return programs.every((program) => skip.has(program)) ? skip.get(programs[0] as string) : undefined
}

/** What loading has shown. `refused`: programs that the kernel did not take, with its words; those of `skip` were not tried. */
export function optionalFeatures(facts: KernelFacts, refused: ReadonlyMap<string, string>): Feature[] {
  return optional.map(({ id, name, since, programs, detail, fallback }): Feature => {
    const not = whySkipped(programs, facts.skip)
    if (not !== undefined) return { id, name, state: 'fallback', detail: `${fallback} (${not})` }
    const [why] = programs.flatMap((program) => refused.get(program) ?? [])
    if (why === undefined) return { id, name, state: 'yes', detail }
    return { id, name, state: 'fallback', detail: `${fallback} (${sinceText(since)} has it; here: ${why})` }
  })
}
