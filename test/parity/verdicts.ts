/** The table mesh x feature x verdict, as README.md and docs/meshes.md have it between two markers. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Evidence, features, type Verdict, verdictOf } from './features.ts'

/** Of one mesh: features in their order, and what was found. */
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

const text = (verdict: Verdict) =>
  verdict.kind === 'but' ? `same, but ${verdict.rows.length} row${verdict.rows.length === 1 ? '' : 's'}` : verdict.kind

/** For a terminal: with the names of the rows. */
export const explained = (evidence: readonly Evidence[]): string =>
  features
    .map((feature) => {
      const verdict = verdictOf(feature, evidence)
      return `  ${feature.name}: ${text(verdict)}${verdict.kind === 'but' ? verdict.rows.map((row) => `\n    ${row}`).join('') : ''}`
    })
    .join('\n')

export const columnOf = (evidence: readonly Evidence[]): Column =>
  new Map(features.map((feature) => [feature.name, text(verdictOf(feature, evidence))]))

const cellsOf = (line: string) =>
  line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim().replace(/^\[(.*)\]\(.*\)$/, '$1'))

function between(document: string): readonly [before: string, table: string, after: string] {
  const [start, end] = [document.indexOf(START), document.indexOf(END)]
  if (start < 0 || end < start) throw new Error(`the table's place is missing: ${START} ... ${END}`)
  return [document.slice(0, start + START.length), document.slice(start + START.length, end), document.slice(end)]
}

/** What a document says now. */
export function tableIn(document: string): Table {
  const lines = between(document)[1]
    .split('\n')
    .filter((line) => line.startsWith('|'))
  const [[, ...meshes] = [], , ...rows] = lines.map(cellsOf)
  return new Map(meshes.map((mesh, index) => [mesh, new Map(rows.map(([feature = '', ...cells]) => [feature, cells[index] ?? '']))]))
}

/** The differences of a mesh: its own section, where it has one, or those of all. */
function link(parityDocument: string, parity: string, mesh: string): string {
  const own = new RegExp(`^## ${mesh}$`, 'im').test(parityDocument)
  return `${parity}#${own ? mesh : 'differences'}`
}

function render(table: Table, cell: (mesh: string, verdict: string) => string): string {
  const meshes = [...table.keys()].sort()
  const rows = features.map(({ name }) => [name, ...meshes.map((mesh) => cell(mesh, table.get(mesh)?.get(name) ?? ''))])
  return [['feature', ...meshes], ['---', ...meshes.map(() => '---')], ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

/** The document with these columns in place of what it says of their meshes. */
export function withColumns(document: string, columns: Table, parity: string, parityDocument: string): string {
  const [before, , after] = between(document)
  const all = new Map([...tableIn(document), ...columns])
  const cell = (mesh: string, verdict: string) => (verdict.includes('but') ? `[${verdict}](${link(parityDocument, parity, mesh)})` : verdict)
  return `${before}\n${render(all, cell)}\n${after}`
}

/** What the documents say of a mesh and was not found. */
export function wrongIn(mesh: string, found: Column): readonly string[] {
  return places.flatMap(({ file }) => {
    const said = tableIn(readFileSync(file, 'utf8')).get(mesh)
    return [...found].flatMap(([feature, verdict]) => {
      const now = said?.get(feature)
      return now === verdict ? [] : [`${file}: ${feature}: ${now ?? 'nothing'}; found: ${verdict}`]
    })
  })
}
