/** The table mesh x feature x verdict, as README.md and docs/meshes.md have it between two markers. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Evidence, features, type Verdict, verdictOf } from './features.ts'

/** Of one mesh: features in their order, and what was found, with links as docs/meshes.md has them. */
export type Column = ReadonlyMap<string, string>

/** By the name of the mesh. */
export type Table = ReadonlyMap<string, Column>

interface Place {
  readonly file: string
  /** docs/parity.md as the file links to it. */
  readonly parity: string
}

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

export const places: readonly Place[] = [
  { file: at('README.md'), parity: 'docs/parity.md' },
  { file: at('docs/meshes.md'), parity: 'parity.md' },
]

const START = '<!-- verdicts: written by npm run test:parity-table -- --write -->'
const END = '<!-- end of verdicts -->'

/** "## IPv6, mapped addresses and DNS" as a link leads there. */
const anchor = (section: string) =>
  section
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')

const rowCount = (count: number) => `${count} row${count === 1 ? '' : 's'}`

/** Links lead to the sections where the rows stand; `parity.md` is the document with them. */
function text(verdict: Verdict): string {
  if (verdict.kind !== 'but') return verdict.kind
  const sections = Map.groupBy(verdict.rows, ({ section }) => section)
  const links = [...sections].map(([section, rows]) => `[${rowCount(rows.length)}](parity.md#${anchor(section)})`)
  return `same, but ${links.join(' and ')}`
}

/** For a terminal: with the names of the rows. */
export const explained = (evidence: readonly Evidence[]): string =>
  features
    .map((feature) => {
      const verdict = verdictOf(feature, evidence)
      return `  ${feature.name}: ${text(verdict)}${verdict.kind === 'but' ? verdict.rows.map(({ section, name }) => `\n    ${section}: ${name}`).join('') : ''}`
    })
    .join('\n')

export const columnOf = (evidence: readonly Evidence[]): Column =>
  new Map(features.map((feature) => [feature.name, text(verdictOf(feature, evidence))]))

const cellsOf = (line: string) =>
  line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim())

function between(document: string): readonly [before: string, table: string, after: string] {
  const [start, end] = [document.indexOf(START), document.indexOf(END)]
  if (start < 0 || end < start) throw new Error(`the table's place is missing: ${START} ... ${END}`)
  return [document.slice(0, start + START.length), document.slice(start + START.length, end), document.slice(end)]
}

/** What a document says now. */
export function tableIn(document: string, parity: string): Table {
  const lines = between(document)[1]
    .split('\n')
    .filter((line) => line.startsWith('|'))
  const [[, ...meshes] = [], , ...rows] = lines.map(cellsOf)
  const own = (cell = '') => cell.replaceAll(`](${parity}#`, '](parity.md#')
  return new Map(meshes.map((mesh, index) => [mesh, new Map(rows.map(([feature = '', ...cells]) => [feature, own(cells[index])]))]))
}

function render(table: Table, parity: string): string {
  const meshes = [...table.keys()].sort()
  const cell = (mesh: string, feature: string) => (table.get(mesh)?.get(feature) ?? '').replaceAll('](parity.md#', `](${parity}#`)
  const rows = features.map(({ name }) => [name, ...meshes.map((mesh) => cell(mesh, name))])
  return [['feature', ...meshes], ['---', ...meshes.map(() => '---')], ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

/** The document with these columns in place of what it says of their meshes. */
export function withColumns(document: string, columns: Table, parity: string): string {
  const [before, , after] = between(document)
  return `${before}\n${render(new Map([...tableIn(document, parity), ...columns]), parity)}\n${after}`
}

/** What a document says otherwise than it was found: of one mesh, and of what stands there besides features and `meshes`. */
export function wrongInDocument(document: string, parity: string, mesh: string, found: Column, meshes: readonly string[]): readonly string[] {
  const said = tableIn(document, parity)
  const cells = [...found].flatMap(([feature, verdict]) => {
    const now = said.get(mesh)?.get(feature)
    return now === verdict ? [] : [`${feature}: ${now ?? 'nothing'}; found: ${verdict}`]
  })
  if (cells.length > 0) return cells
  const known = new Map([...said].filter(([name]) => meshes.includes(name)))
  return between(document)[1] === `\n${render(known, parity)}\n` ? [] : ['the table has rows, columns or a form that nothing writes']
}

export const wrongIn = (mesh: string, found: Column, meshes: readonly string[]): readonly string[] =>
  places.flatMap(({ file, parity }) => wrongInDocument(readFileSync(file, 'utf8'), parity, mesh, found, meshes).map((wrong) => `${file}: ${wrong}`))
