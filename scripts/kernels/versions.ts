/** Which kernels there are, and which one a person means by "6.12-cloud". Pure. */
import type { Package } from './apt.ts'
import { type Architecture, Failure } from './place.ts'

export interface Kernel {
  readonly architecture: Architecture
  /** '6.12.118+deb13' */
  readonly release: string
  /** '6.12' */
  readonly minor: string
  /** 'amd64', 'cloud-amd64', 'rt-amd64', 'arm64' */
  readonly flavour: string
  /** The image, and what belongs to it where Debian splits it. */
  readonly packages: readonly Package[]
}

/** What is tested by `--ci`, and on arm64 otherwise: the newest of them that Debian has. */
const longTerm = ['6.18', '6.12', '6.6', '6.1', '5.15', '5.10']

const numbers = (text: string): number[] => (text.match(/\d+/g) ?? []).map(Number)

export function compareReleases(a: string, b: string): number {
  const [left, right] = [numbers(a), numbers(b)]
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? -1) - (right[i] ?? -1)
    if (difference !== 0) return difference
  }
  return 0
}

/**
 * Kernels that are complete. Newer ones are split (linux-binary, linux-modules), and a mirror may have lost a part of an old one; linux-base has
 * nothing that boots. A metapackage has no kernel of its own. What has no signed image has an unsigned one.
 */
export function kernelsOf(packages: readonly Package[], architecture: Architecture): Kernel[] {
  const newest = new Map<string, Package>()
  for (const each of packages) {
    const known = newest.get(each.name)
    if (known === undefined || compareReleases(known.version, each.version) < 0) newest.set(each.name, each)
  }
  const pattern = new RegExp(`^linux-image-(\\d[^-]*(?:-[\\d.]+(?:deb\\d+\\.\\d+)?)?)-((?:cloud-|rt-)?${architecture}(?:-16k)?)(-unsigned)?$`)
  const found: Kernel[] = []
  for (const image of newest.values()) {
    const [, release = '', flavour = '', unsigned] = pattern.exec(image.name) ?? []
    if (release === '' || image.depends.some((name) => name.startsWith('linux-image-'))) continue
    if (unsigned !== undefined && newest.has(image.name.replace(/-unsigned$/, ''))) continue
    const parts = image.depends.filter((name) => /^linux-(binary|modules)-/.test(name))
    const resolved = parts.map((name) => newest.get(name) ?? newest.get(name.replace('linux-binary-', 'linux-binary-unsigned-')))
    if (resolved.includes(undefined)) continue
    const minor = /^\d+\.\d+/.exec(release)?.[0] ?? release
    found.push({ architecture, release, minor, flavour, packages: [image, ...resolved.filter((each) => each !== undefined)] })
  }
  return found.toSorted((a, b) => compareReleases(a.release, b.release))
}

export interface Wanted {
  readonly architecture: Architecture
  readonly version: string
  readonly flavour: string
}

/** 'arm64:6.12', '6.1.0-55', '6.18-rt', 'newest' */
export function parseVersion(text: string): Wanted {
  const [, architecture = 'amd64', rest = ''] = /^(?:(amd64|arm64):)?(.*)$/.exec(text) ?? []
  const [, version = '', variant] = /^(\d[\d.]*(?:[-+](?!cloud|rt|16k)[\w.+]*?)?|newest|oldest)(?:-(cloud|rt|16k))?$/.exec(rest) ?? []
  if (version === '') throw new Failure(`${text} is not a version of a kernel: 6.12, 6.1.0-55, 6.12-cloud, 6.18-rt, arm64:6.12, newest, oldest`, 2)
  const flavour = variant === undefined ? architecture : variant === '16k' ? `${architecture}-16k` : `${variant}-${architecture}`
  return { architecture: architecture as Architecture, version, flavour }
}

/** The newest kernel that matches. */
export function choose(kernels: readonly Kernel[], { version, flavour }: Wanted): Kernel | undefined {
  const same = kernels.filter((kernel) => kernel.flavour === flavour)
  if (version === 'oldest') return choose(same, { version: same[0]?.minor ?? '', flavour, architecture: 'amd64' })
  if (version === 'newest') return same.at(-1)
  return same.findLast(({ release }) => release.startsWith(version) && !/^\d/.test(release.slice(version.length)))
}

/** One of each minor version, the plain flavour. */
export function oneOfEach(kernels: readonly Kernel[], architecture: Architecture): Kernel[] {
  const plain = kernels.filter(({ flavour }) => flavour === architecture)
  return [...new Map(plain.map((kernel) => [kernel.minor, kernel])).values()]
}

export function newestLongTerm(kernels: readonly Kernel[], architecture: Architecture): Kernel | undefined {
  const plain = kernels.filter(({ flavour }) => flavour === architecture)
  return longTerm.map((minor) => plain.findLast((kernel) => kernel.minor === minor)).find((kernel) => kernel !== undefined)
}

/** 'arm64:6.12-cloud': what `parseVersion` understands, without the exact patch. */
export function label({ architecture, minor, flavour }: Pick<Kernel, 'architecture' | 'minor' | 'flavour'>): string {
  const variant = flavour.replace(architecture, '').replaceAll('-', '')
  return `${architecture === 'amd64' ? '' : `${architecture}:`}${minor}${variant === '' ? '' : `-${variant}`}`
}

/** A line for each minor version and flavour: what may be asked for. */
export function listKernels(kernels: readonly Kernel[]): string {
  const groups = Map.groupBy(kernels, label)
  return [...groups]
    .map(
      ([name, [first, ...more]]) =>
        `  ${name.padEnd(18)} ${[first, more.at(-1)]
          .map((each) => each?.release)
          .filter(Boolean)
          .join(' ... ')}`,
    )
    .join('\n')
}
