/**
 * `npm run test:kernels -- [VERSION...]`: boots kernels of Debian in QEMU and runs test/kernels/ in each. Without a version: one kernel of each
 * minor version, and arm64. Exit code 1 when a check failed or docs/kernels.md says otherwise, 2 when a version is unknown.
 */
import { readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { parseWithout, WITHOUT_VARIABLE } from '../../test/lab/without.ts'
import { Apt } from './apt.ts'
import { bootGuest } from './boot.ts'
import { crossBuildAddon } from './cross.ts'
import { compareWithDocument, type Finding, writeDocument } from './document.ts'
import { type Bootable, fetchKernel, forgetOldKernels, givenKernel } from './kernel.ts'
import { buildProduct, productArchive } from './overlay.ts'
import { type Architecture, cacheDirectory, Failure, must, note, running, step } from './place.ts'
import { baseArchive, nodeArchitecture } from './root.ts'
import { plainShape, shapes } from './shapes.ts'
import { explainFailure, failed, printTable, type Result } from './table.ts'
import { choose, type Kernel, kernelsOf, label, listKernels, newestLongTerm, oneOfEach, parseVersion } from './versions.ts'

interface Target {
  readonly key: string
  readonly architecture: Architecture
  readonly shape: string
  readonly fetch: () => Promise<Bootable>
}

interface Options {
  readonly versions: readonly string[]
  readonly ci: boolean
  readonly shape: string
  readonly modules: string | undefined
  readonly write: boolean
  /** Features that the guests do without, with commas between. */
  readonly without: string
}

/** What can be fetched for an architecture; asked for once. */
class Sources {
  readonly #known = new Map<Architecture, Promise<{ readonly apt: Apt; readonly kernels: readonly Kernel[] }>>()

  of(architecture: Architecture) {
    const known = this.#known.get(architecture)
    if (known !== undefined) return known
    const found = step(`package lists of kernels for ${architecture}`, async () => {
      const apt = new Apt('kernels', architecture)
      await apt.update()
      return { apt, kernels: kernelsOf(apt.kernelPackages(), architecture) }
    })
    this.#known.set(architecture, found)
    return found
  }
}

async function fromDebian(
  sources: Sources,
  architecture: Architecture,
  pick: (kernels: readonly Kernel[]) => readonly Kernel[],
  shape: string,
): Promise<Target[]> {
  const { apt, kernels } = await sources.of(architecture)
  return pick(kernels).map((kernel) => ({
    key: shape === plainShape ? label(kernel) : shape,
    architecture,
    shape,
    fetch: () => fetchKernel(kernel, apt),
  }))
}

async function named(sources: Sources, text: string, { shape, modules }: Options): Promise<Target[]> {
  const [, prefix, path = text] = /^(?:(amd64|arm64):)?(.*)$/s.exec(text) ?? []
  if (path.includes('/') || path.endsWith('.deb')) {
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) throw new Failure(`${path}: there is no such file`, 2)
    const architecture = prefix === 'arm64' ? 'arm64' : 'amd64'
    return [{ key: text, architecture, shape, fetch: () => givenKernel(path, modules, architecture) }]
  }
  const wanted = parseVersion(text)
  return fromDebian(
    sources,
    wanted.architecture,
    (kernels) => {
      const kernel = choose(kernels, wanted)
      if (kernel === undefined) throw new Failure(`Debian has no kernel ${text}. There are:\n${listKernels(kernels)}`, 2)
      return [kernel]
    },
    shape,
  )
}

async function targetsOf(options: Options): Promise<Target[]> {
  const sources = new Sources()
  const one = (kernel: Kernel | undefined) => (kernel === undefined ? [] : [kernel])
  if (options.versions.length > 0) return (await Promise.all(options.versions.map((text) => named(sources, text, options)))).flat()
  const plain = (pick: (kernels: readonly Kernel[]) => readonly Kernel[], shape = options.shape) => fromDebian(sources, 'amd64', pick, shape)
  const ends = (kernels: readonly Kernel[]) => [oneOfEach(kernels, 'amd64').at(0), oneOfEach(kernels, 'amd64').at(-1)].flatMap(one)
  const newest = (kernels: readonly Kernel[]) => one(oneOfEach(kernels, 'amd64').at(-1))
  const others = Object.entries(shapes).flatMap(([shape, { ci = false }]) => (shape === plainShape || (options.ci && !ci) ? [] : [shape]))
  const found = await Promise.all([
    plain(options.ci ? ends : (kernels) => oneOfEach(kernels, 'amd64')),
    options.ci ? [] : fromDebian(sources, 'arm64', (kernels) => one(newestLongTerm(kernels, 'arm64')), options.shape),
    ...(options.shape === plainShape ? others.map((shape) => plain(newest, shape)) : []),
  ])
  return found.flat()
}

/** The archives of each architecture, each made once. */
class Archives {
  readonly #product: string
  readonly #made = new Map<Architecture, Promise<readonly string[]>>()

  constructor(product: string) {
    this.#product = product
  }

  of(architecture: Architecture): Promise<readonly string[]> {
    const made = this.#made.get(architecture) ?? this.#make(architecture)
    this.#made.set(architecture, made)
    return made
  }

  async #make(architecture: Architecture): Promise<readonly string[]> {
    const apt = new Apt('guest', architecture)
    const base = await step(`the guest's programs for ${architecture}`, async () => {
      await apt.update()
      return baseArchive(apt)
    })
    if (nodeArchitecture[architecture] !== process.arch) await step(`the addon for ${architecture}`, () => crossBuildAddon(apt))
    return [base, productArchive(this.#product, architecture)]
  }
}

/** Everything is there before the first guest boots, and they run one after the other: each uses both cores, and its seconds are shown. */
async function runAll(targets: readonly Target[], archives: Archives, without: string): Promise<Result[]> {
  const kernels = new Map<Target, Bootable>()
  const fetchKernels = async () => {
    for (const target of targets) kernels.set(target, await step(`the kernel of ${target.key}`, target.fetch))
  }
  await Promise.all([fetchKernels(), ...targets.map(({ architecture }) => archives.of(architecture))])
  const results: Result[] = []
  for (const [target, kernel] of kernels) results.push(await runTarget(target, kernel, await archives.of(target.architecture), without))
  return results
}

async function runTarget({ key, architecture, shape }: Target, kernel: Bootable, archives: readonly string[], without: string): Promise<Result> {
  const selection = shape === plainShape ? 'all' : 'short'
  const { script = '', ...rest } = shapes[shape] ?? { about: '' }
  const guest = { name: key, kernel, archives, shape: { ...rest, script: `export ${WITHOUT_VARIABLE}=${without}\n${script}` }, selection } as const
  const first = await bootGuest(guest)
  if (first.emulatorAtFault) note(`${key}: the emulator ran a breakpoint that the kernel had taken out again; once more`)
  const verdict = first.emulatorAtFault ? await bootGuest(guest) : first
  const result = { key, origin: kernel.origin, verdict }
  note(
    `${key} (${verdict.release || kernel.origin}, ${architecture}): ${failed(result) ? 'FAILED' : 'passed'}, ${verdict.seconds.toFixed(0)} s from boot to verdict`,
  )
  return result
}

const findingOf = ({ key, origin, verdict }: Result): Finding => ({
  key,
  origin,
  seconds: verdict.seconds.toFixed(0),
  features: new Map(verdict.features.map(({ name, state }) => [name, state])),
  checks: new Map(verdict.checks.map(({ name, ok }) => [name, ok ? 'ok' : 'failed'])),
})

/** A kernel that was given as a file is nobody's column. */
const isFile = (key: string): boolean => key.includes('/') || key.endsWith('.deb')

/** Failures, the console of what ended badly, and what the document says otherwise; true when all is well. */
function judge(results: readonly Result[], { write, without }: Options): boolean {
  process.stdout.write(`\n${printTable(results)}\n`)
  for (const result of results.filter(failed)) {
    process.stdout.write(`${explainFailure(result)}\n`)
    if (result.verdict.checks.length === 0)
      process.stdout.write(`${readFileSync(result.verdict.consoleLog, 'utf8').split('\n').slice(-40).join('\n')}\n`)
  }
  if (without !== '') return !results.some(failed) // the document is about kernels as they are
  const findings = results.map(findingOf)
  if (write) writeDocument(results.filter((result) => !failed(result) && !isFile(result.key)).map(findingOf))
  const { differences, unknown } = compareWithDocument(findings)
  for (const line of differences) process.stdout.write(`${line}\n`)
  if (unknown.length > 0) note(`docs/kernels.md does not have ${unknown.join(', ')} yet; --write adds what a run has found`)
  return differences.length === 0 && !results.some(failed)
}

function readArguments(): Options {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        ci: { type: 'boolean', default: false },
        write: { type: 'boolean', default: false },
        shape: { type: 'string', default: plainShape },
        modules: { type: 'string' },
        without: { type: 'string', default: '' },
      },
    })
    if (!Object.hasOwn(shapes, values.shape)) throw new Error(`no shape ${values.shape}; there are ${Object.keys(shapes).join(', ')}`)
    return { ...values, modules: values.modules, versions: positionals, without: parseWithout(values.without).join() }
  } catch (error) {
    throw new Failure(error instanceof Error ? error.message : String(error), 2)
  }
}

async function main(): Promise<number> {
  const options = readArguments()
  const start = performance.now()
  await step('QEMU and what else this ring needs', () => must(['sh', 'scripts/kernels/setup.sh', 'amd64', 'arm64']))
  const [targets, product] = await Promise.all([targetsOf(options), step('the package and the tests', buildProduct)])
  const archives = new Archives(product)
  const results = await runAll(targets, archives, options.without)
  forgetOldKernels()
  rmSync(join(cacheDirectory, 'run'), { recursive: true, force: true })
  const well = judge(results, options)
  note(`${results.length} guests in ${((performance.now() - start) / 60_000).toFixed(1)} minutes`)
  return well ? 0 : 1
}

/** Ends what runs, by pid; the temporary files of the run are below .cache/kernels/run, which the next run empties. */
function interrupted(signal: NodeJS.Signals): void {
  for (const pid of running) process.kill(pid, 'SIGKILL')
  rmSync(join(cacheDirectory, 'run'), { recursive: true, force: true })
  process.stderr.write(`kernels: ${signal}\n`)
  process.exit(130)
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, interrupted)
try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof Failure)) throw error
  process.stderr.write(`kernels: ${error.message}\n`)
  process.exitCode = error.exitCode
}
