/** Columns for protocols and families. */
import { type Kind, kinds, type Tally } from '../views.ts'

export const kindTitles: Readonly<Record<Kind, string>> = { tcp4: 'TCP/IPv4', tcp6: 'TCP/IPv6', udp4: 'UDP/IPv4', udp6: 'UDP/IPv6' }

export interface KindColumns {
  readonly header: readonly string[]
  readonly cells: (by: Tally) => string[]
}

/** One column for each kind that occurs in any of them; none where everything is TCP over IPv4. */
export function kindColumns(tallies: readonly Tally[]): KindColumns {
  const found = kinds.filter((kind) => tallies.some((by) => by[kind] !== undefined))
  const shown = found.every((kind) => kind === 'tcp4') ? [] : found
  return { header: shown.map((kind) => kindTitles[kind]), cells: (by) => shown.map((kind) => String(by[kind] ?? 0)) }
}
