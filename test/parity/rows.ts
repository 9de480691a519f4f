/** The rows of docs/parity.md that hold for a mesh. */
import { readFileSync } from 'node:fs'
import { coveredRows, type Named, namedDifferences } from './compare.ts'
import { type Ports, rowsFor } from './ports.ts'

export interface Rows {
  /** Each of these occurs in the mesh's fixed matrix, and nothing else does. */
  readonly fixed: readonly Named[]
  /** What its random pods may show: rows of other meshes and rare ones too. */
  readonly random: readonly Named[]
}

export const parityDocument = (): string => readFileSync(new URL('../../docs/parity.md', import.meta.url), 'utf8')

/** Of every mesh, or of one. */
export function rowsOf(mesh: string, document = parityDocument()): Rows {
  const titled = (...titles: readonly string[]) => titles.flatMap((title) => namedDifferences(document, title))
  const shared = titled('Difference', 'Difference of families')
  const own = titled(`Difference of ${mesh}`)
  const random = [...shared, ...own, ...titled('Rare difference', `Rare difference of ${mesh}`)]
  const [idle] = coveredRows(random)
  if (idle !== undefined) throw new Error(`docs/parity.md: a row before this one names all that it names, so it must go: ${JSON.stringify(idle)}`)
  return { fixed: [...shared.filter(({ meshes = [] }) => meshes.includes(mesh)), ...own], random }
}

/** `v4*` stands for pods without rules for IPv6. */
const withoutIPv6 = (row: Named): Named => (row.case === 'v4*' ? { ...row, case: '*' } : row)

/** Row by row as they hold for a pod of the mesh. */
export function rowsOfPod(rows: readonly Named[], ports: Ports, ipv6: boolean): readonly Named[] {
  const translated = rowsFor(ports, rows)
  return ipv6 ? translated : translated.map(withoutIPv6)
}
