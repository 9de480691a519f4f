/** The rows of docs/parity.md that hold for a mesh. */
import { readFileSync } from 'node:fs'
import { type Named, namedDifferences } from './compare.ts'
import { type Ports, rowsFor } from './ports.ts'

export interface Rows {
  /** Of every mesh; which of them occur depends on the mesh. */
  readonly shared: readonly Named[]
  /** Each of these occurs in the fixed matrix. */
  readonly own: readonly Named[]
  /** What some pods may show besides. */
  readonly rare: readonly Named[]
}

export const parityDocument = (): string => readFileSync(new URL('../../docs/parity.md', import.meta.url), 'utf8')

/** What every mesh shows is listed for Istio, so there it must occur. */
export function rowsOf(mesh: string, document = parityDocument()): Rows {
  const titled = (...titles: readonly string[]) => titles.flatMap((title) => namedDifferences(document, title))
  const families = titled('Difference of families')
  const istio = mesh === 'istio'
  return {
    shared: [...titled('Difference'), ...(istio ? [] : families)],
    own: [...(istio ? families : []), ...titled(`Difference of ${mesh}`)],
    rare: titled('Rare difference', `Rare difference of ${mesh}`),
  }
}

/** `v4*` stands for pods without rules for IPv6. */
const withoutIPv6 = (row: Named): Named => (row.case === 'v4*' ? { ...row, case: '*' } : row)

/** Row by row as they hold for a pod of the mesh. */
export function rowsOfPod(rows: readonly Named[], ports: Ports, ipv6: boolean): readonly Named[] {
  const translated = rowsFor(ports, rows)
  return ipv6 ? translated : translated.map(withoutIPv6)
}
