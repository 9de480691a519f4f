/** docs/kernels.md: written from what runs have found, and read again to see that it still holds. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { optional, probed } from '../../core/features/catalogue.ts'
import { defects } from '../../core/features/denied.ts'
import { kernelDifferences } from '../../test/kernels/differences.ts'
import { checkout } from './place.ts'
import { shapes } from './shapes.ts'
import { compareReleases } from './versions.ts'

const path = join(checkout, 'docs/kernels.md')

/** What one guest has shown; a column of the tables. */
export interface Finding {
  /** '6.12', '6.12-cloud', 'arm64:6.12', or the name of a shape */
  readonly key: string
  /** Packages with versions: for people, never compared. */
  readonly origin: string
  readonly seconds: string
  readonly features: ReadonlyMap<string, string>
  readonly checks: ReadonlyMap<string, string>
}

const cellsOf = (line: string): string[] =>
  line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim().replace(/^`(.*)`$/, '$1'))

/** The rows below the header that starts with this cell. */
function tableOf(text: string, first: string): string[][] {
  const lines = text.split('\n')
  const start = lines.findIndex((line) => line.startsWith(`| ${first} |`))
  if (start < 0) return []
  const end = lines.findIndex((line, index) => index > start && !line.startsWith('|'))
  return lines
    .slice(start, end)
    .filter((line) => !line.startsWith('|--'))
    .map(cellsOf)
}

function columnsOf(text: string, first: string): Map<string, Map<string, string>> {
  const [header = [], ...rows] = tableOf(text, first)
  return new Map(
    header.slice(1).map((key, index) => [key, new Map(rows.flatMap((row) => (row[index + 1] ? [[row[0] ?? '', row[index + 1] ?? '']] : [])))]),
  )
}

export function readDocument(text: string): Finding[] {
  const [features, checks] = [columnsOf(text, 'feature'), columnsOf(text, 'check')]
  return tableOf(text, 'run')
    .slice(1)
    .map(([key = '', origin = '', seconds = '']) => ({
      key,
      origin,
      seconds,
      features: features.get(key) ?? new Map(),
      checks: checks.get(key) ?? new Map(),
    }))
}

const known = (): Finding[] => {
  try {
    return readDocument(readFileSync(path, 'utf8'))
  } catch {
    return [] // the first run writes it
  }
}

function differencesIn(what: string, key: string, documented: ReadonlyMap<string, string>, found: ReadonlyMap<string, string>): string[] {
  return [...new Set([...documented.keys(), ...found.keys()])]
    .filter((name) => documented.get(name) !== found.get(name))
    .map((name) => `${key}: ${what} "${name}" is ${found.get(name) ?? 'gone'}, docs/kernels.md says ${documented.get(name) ?? 'nothing'}`)
}

/** Features that the deny list takes from some patch levels of a minor version: of another package than the documented one they tell nothing. */
const byLevel = new Set([...probed, ...optional].filter(({ id }) => defects.some(({ feature }) => feature === id)).map(({ name }): string => name))

/** What the document says otherwise. A kernel that it does not know yet is no difference: Debian moves. */
export function compareWithDocument(found: readonly Finding[]): { readonly differences: string[]; readonly unknown: string[] } {
  const documented = new Map(known().map((finding) => [finding.key, finding]))
  const differences = found.flatMap(({ key, origin, features, checks }) => {
    const old = documented.get(key)
    if (old === undefined) return []
    const same =
      old.origin === origin
        ? features
        : new Map([...features].map(([name, state]) => [name, byLevel.has(name) ? (old.features.get(name) ?? state) : state]))
    return [...differencesIn('feature', key, old.features, same), ...differencesIn('check', key, old.checks, checks)]
  })
  return { differences, unknown: found.flatMap(({ key }) => (documented.has(key) ? [] : [key])) }
}

const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [row(header), `|${'---|'.repeat(header.length)}`, ...rows.map(row)].join('\n')
}

function matrix(first: string, findings: readonly Finding[], part: (finding: Finding) => ReadonlyMap<string, string>): string {
  const names = [...new Set(findings.flatMap((finding) => [...part(finding).keys()]))]
  return table(
    [first, ...findings.map(({ key }) => `\`${key}\``)],
    names.map((name) => [name, ...findings.map((finding) => part(finding).get(name) ?? '')]),
  )
}

/** Versions in their order, other architectures after them, shapes last. */
function ordered(findings: readonly Finding[]): Finding[] {
  const rank = (key: string) => (key in shapes ? 2 : key.includes(':') ? 1 : 0)
  return findings.toSorted((a, b) => rank(a.key) - rank(b.key) || compareReleases(a.key, b.key) || a.key.localeCompare(b.key))
}

const introduction = `# Kernels

<!-- Written by npm run test:kernels -- --write from what the runs found. Do not edit. -->

Each column is a run in QEMU: a Debian kernel boots, the package as it is shipped runs in it with its programs and its addon, and the checks of
\`test/kernels/\` look at what a user can see. \`6.12\` is Debian's newest 6.12 for amd64, \`6.12-cloud\` and \`6.12-rt\` are its other flavours,
\`arm64:6.12\` is another architecture. Every run is compared with this page, by minor version and flavour: one that finds something else fails.

    npm run test:kernels                          # one kernel of each minor version, and arm64
    npm run test:kernels -- 6.1 6.12-cloud        # these
    npm run test:kernels -- --shape hybrid 6.12   # a node of another shape
    npm run test:kernels -- ./linux-image.deb     # a kernel of your own (or a vmlinuz, with --modules DIRECTORY; arm64:FILE)

The BPF object is the same file for every kernel and every architecture.
`

/** What makes the column again. */
function commandOf(key: string, origin: string): string {
  const [, version = 'VERSION'] = /linux-image-(\d+\.\d+)/.exec(origin) ?? []
  return `npm run test:kernels -- --write ${key in shapes ? `--shape ${key} ${version}` : key}`
}

export function writeDocument(found: readonly Finding[]): void {
  const fresh = new Set(found.map(({ key }) => key))
  const all = ordered([...found, ...known().filter(({ key }) => !fresh.has(key))])
  const runs = table(
    ['run', 'kernel', 'seconds from boot to verdict', 'command'],
    all.map(({ key, origin, seconds }) => [`\`${key}\``, origin, seconds, `\`${commandOf(key, origin)}\``]),
  )
  const shapeRows = table(
    ['shape', 'node'],
    Object.entries(shapes).map(([name, { about }]) => [`\`${name}\``, about]),
  )
  const fallbacks = table(
    ['a kernel without', 'Linux has it since', 'what happens instead', 'in `attach.without`'],
    [...probed, ...optional].flatMap((each) => ('fallback' in each ? [[each.name, each.since, each.fallback, `\`${each.id}\``]] : [])),
  )
  const denied = table(
    ['not used', 'on Linux', 'used again on', 'because it'],
    defects.map(({ feature, from, fixed, reason, source }) => [
      `\`${feature}\``,
      `${from.join('.')} and later`,
      fixed.map((version) => `${version.join('.')}+`).join(', ') || 'no release yet',
      `${reason} (${source})`,
    ]),
  )
  const reasons = table(
    ['missing feature', 'what is different then'],
    kernelDifferences.map(({ feature, reason }) => [feature, reason]),
  )
  writeFileSync(
    path,
    [
      introduction,
      `## Features\n\nAs \`merbridge status\` tells them.\n\n${matrix('feature', all, ({ features }) => features)}\n`,
      `${fallbacks}\n`,
      `What an app or a proxy can tell from that:\n\n${reasons}\n`,
      `Features that are there and not used, because a kernel crashes or hangs with them, which no probe can find out:\n\n${denied}\n`,
      `## Checks\n\n${matrix('check', all, ({ checks }) => checks)}\n`,
      `## Shapes of nodes\n\nThe newest kernel runs them; the others run \`v2\`.\n\n${shapeRows}\n`,
      `## Runs\n\n${runs}\n`,
    ].join('\n'),
  )
}
