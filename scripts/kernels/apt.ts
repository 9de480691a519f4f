/**
 * Debian packages of other suites and architectures, beside the machine's own: an apt configuration with lists, cache and status of its own, so
 * that nothing of the machine's changes. apt verifies them as always (signed Release, SHA-256); they are unpacked, never installed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Architecture, cacheDirectory, execute, Failure, must, note, type Outcome } from './place.ts'

/** Suites by purpose. What a mirror does not have is skipped with a note. */
const suites = {
  /** Everywhere that Debian has a kernel. */
  kernels: [
    ...['bullseye', 'bullseye-security', 'bullseye-backports', 'bookworm', 'bookworm-security', 'bookworm-backports'],
    ...['trixie', 'trixie-security', 'trixie-backports', 'forky', 'sid'],
  ],
  /** The guest's programs are those of one release, whatever its kernel. */
  guest: ['bookworm', 'bookworm-security'],
} as const
export type Purpose = keyof typeof suites

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
const LISTS_ARE_FRESH_MS = 24 * 3600_000
const ATTEMPTS = 3

export interface Package {
  readonly name: string
  readonly version: string
  /** Names only. */
  readonly depends: readonly string[]
}

interface Mirror {
  readonly main: string
  readonly security: string
}

/** The mirror that this machine uses, from its own sources. */
async function machineMirror(): Promise<Mirror> {
  const format = '$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(ORIGIN)'
  const targets = (await must(['apt-get', 'indextargets', '--format', format])).split('\n').map((line) => line.split('|'))
  // The origin is known only once the machine has fetched its lists.
  const debian = targets.filter(([kind, uri = '', , origin]) => kind === 'Packages' && (origin === 'Debian' || /\/debian(-security)?\/$/.test(uri)))
  const security = (release = '') => release.includes('security')
  const main = debian.find(([, , release]) => !security(release))?.[1]
  if (main === undefined) throw new Failure('apt knows no Debian mirror on this machine: add one to its sources, then try again')
  return { main, security: debian.find(([, , release]) => security(release))?.[1] ?? main.replace(/debian\/$/, 'debian-security/') }
}

/** How this machine reaches its mirror: proxies, certificates. */
async function machineTransport(): Promise<string> {
  const lines = (await must(['apt-config', 'dump'])).split('\n')
  return lines.filter((line) => /^Acquire::(http|https|ForceIPv4|ForceIPv6)\b/.test(line)).join('\n')
}

/**
 * Nothing else of the machine's configuration: its hooks must not run for lists that are not the machine's. Lists may be older than they claim to
 * be good for, because releases that have ended and frozen mirrors are welcome here; their signatures are checked all the same.
 */
const configuration = (directory: string, architecture: Architecture): string => `
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
APT::Architecture "${architecture}";
APT::Architectures { "${architecture}"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Dir::Etc::sourcelist "${directory}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "${directory}/state";
Dir::State::lists "${directory}/lists";
Dir::State::status "${directory}/state/status";
Dir::Cache "${directory}/cache";
Dir::Log "${directory}/log";
Acquire::Retries "3";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::GzipIndexes "false";
`

const sourceLine = ({ main, security }: Mirror, suite: string) =>
  `deb [signed-by=${KEYRING}] ${suite.endsWith('-security') ? security : main} ${suite} main\n`

/** Suites that the mirror does not have (a release that ended, an architecture that it had not). */
function notThere({ stdout, stderr }: Outcome): string[] {
  if (!/404 +Not Found/.test(stdout + stderr)) return []
  return [...stderr.matchAll(/The repository '\S+ (\S+) Release' does not have a Release file/g)].map(([, suite = '']) => suite)
}

/** Sources, lists and cache for one architecture, which apt takes for the machine's. */
export class Apt {
  readonly architecture: Architecture
  readonly #purpose: Purpose
  readonly #directory: string

  constructor(purpose: Purpose, architecture: Architecture) {
    this.architecture = architecture
    this.#purpose = purpose
    this.#directory = join(cacheDirectory, 'apt', `${purpose}-${architecture}`)
  }

  /** Fetches the lists, unless they are younger than a day. */
  async update(): Promise<void> {
    const stamp = join(this.#directory, 'updated')
    const mirror = await machineMirror()
    const key = `${this.#directory} ${mirror.main} ${mirror.security} ${suites[this.#purpose].join(' ')}\n` // the configuration has absolute paths
    const age = Date.now() - (statSync(stamp, { throwIfNoEntry: false })?.mtimeMs ?? 0)
    if (age < LISTS_ARE_FRESH_MS && readFileSync(stamp, 'utf8') === key) return
    if (!existsSync(KEYRING)) throw new Failure(`${KEYRING} is missing: apt-get install debian-archive-keyring`)
    rmSync(this.#directory, { recursive: true, force: true })
    for (const part of ['lists/partial', 'cache/archives/partial', 'state', 'log']) mkdirSync(join(this.#directory, part), { recursive: true })
    writeFileSync(join(this.#directory, 'state/status'), '') // nothing is installed; apt puts its lock beside it
    writeFileSync(join(this.#directory, 'apt.conf'), configuration(this.#directory, this.architecture) + (await machineTransport()))
    await this.#fetchLists(mirror)
    writeFileSync(join(this.#directory, 'linux.json'), JSON.stringify(this.#readLists()))
    writeFileSync(stamp, key)
  }

  async #fetchLists(mirror: Mirror): Promise<void> {
    const wanted = suites[this.#purpose]
    const use = (names: readonly string[]) =>
      writeFileSync(join(this.#directory, 'sources.list'), names.map((suite) => sourceLine(mirror, suite)).join(''))
    use(wanted)
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#run(['apt-get', '-q', 'update'])
      const missing = notThere(outcome)
      const others = outcome.stderr.split('\n').filter((line) => /^(E:|W: Failed)/.test(line)).length - missing.length
      if (others === 0 && missing.length < wanted.length) {
        if (missing.length > 0) note(`the mirror has no ${missing.join(', ')} for ${this.architecture}: skipped`)
        use(wanted.filter((suite) => !missing.includes(suite)))
        return
      }
      if (attempt >= ATTEMPTS)
        throw new Failure(`the package lists of ${mirror.main} could not be fetched: is the mirror reachable?\n${outcome.stderr.trim()}`)
    }
  }

  /** Kernel packages of the lists: apt's own tools need seconds for this. */
  #readLists(): Package[] {
    const found: Package[] = []
    const lists = join(this.#directory, 'lists')
    for (const file of readdirSync(lists).filter((name) => name.endsWith('_Packages'))) {
      for (const paragraph of readFileSync(join(lists, file), 'latin1').split('\n\n')) {
        if (!/^Package: linux-(image|base|binary|modules)-\d/.test(paragraph)) continue
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(paragraph)?.[1] ?? ''
        const depends = field('Depends')
          .split(',')
          .map((each) => each.trim().replace(/[ (|].*$/s, ''))
        found.push({ name: field('Package'), version: field('Version'), depends })
      }
    }
    return found
  }

  /** What `update` has found; a package may be there in several versions. */
  kernelPackages(): readonly Package[] {
    return JSON.parse(readFileSync(join(this.#directory, 'linux.json'), 'utf8')) as readonly Package[]
  }

  /** Downloads exactly these into `directory`; the paths of the files. */
  async download(packages: readonly Package[], directory: string): Promise<string[]> {
    mkdirSync(directory, { recursive: true })
    await this.#retry(['apt-get', '-q', 'download', ...packages.map(({ name, version }) => `${name}=${version}`)], directory)
    return readdirSync(directory)
      .filter((name) => name.endsWith('.deb'))
      .map((name) => join(directory, name))
  }

  /** The names of the files of these packages and of everything that they depend on: what a cache may be named after. */
  async tree(names: readonly string[]): Promise<string[]> {
    const { stdout } = await this.#retry(['apt-get', '-q', '-y', '--print-uris', 'install', ...names])
    return [...stdout.matchAll(/^'[^']*' (\S+\.deb) /gm)].map(([, file = '']) => file)
  }

  /** Downloads them into `directory`; the paths of the files. */
  async downloadTree(names: readonly string[], directory: string): Promise<string[]> {
    await this.#retry(['apt-get', '-q', '-y', '--download-only', 'install', ...names])
    const archives = join(this.#directory, 'cache/archives')
    mkdirSync(directory, { recursive: true })
    const files = readdirSync(archives).filter((name) => name.endsWith('.deb'))
    for (const file of files) renameSync(join(archives, file), join(directory, file))
    return files.map((file) => join(directory, file))
  }

  #run(argv: readonly string[], cwd: string = cacheDirectory): Promise<Outcome> {
    return execute(argv, { cwd, env: { ...process.env, APT_CONFIG: join(this.#directory, 'apt.conf'), LC_ALL: 'C' } })
  }

  async #retry(argv: readonly string[], cwd?: string): Promise<Outcome> {
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#run(argv, cwd)
      if (outcome.code === 0) return outcome
      if (attempt >= ATTEMPTS) throw new Failure(`${argv.slice(0, 4).join(' ')}: is the mirror reachable?\n${outcome.stderr.trim().slice(-2000)}`)
    }
  }
}
