/** Tables and lines for a terminal of so many columns: what does not fit is left out, or goes on in the next line; no cell is cut but a long name. */
import { printable } from '../config/printable.ts'
import { table } from './table.ts'

const width = (text: string) => [...text].length
const gap = 2
/** So much of a name is enough to know it again, by its beginning and its end. */
const shortest = 9

function shortened(name: string, columns: number): string {
  const letters = [...name]
  if (letters.length <= columns) return name
  const start = Math.ceil((columns - 1) / 2)
  return [...letters.slice(0, start), '~', ...letters.slice(letters.length - (columns - 1 - start))].join('')
}

/** The first column has names. `needed`: so many columns stay, and names are shortened for them; the others go, from the last one, where they do not fit. */
export function fittedTable(header: readonly string[], rows: readonly (readonly string[])[], columns: number, needed: number): string {
  const cells = [header, ...rows.map((row) => row.map(printable))]
  const widths = header.map((_, column) => Math.max(...cells.map((row) => width(row[column] ?? ''))))
  const others = widths.slice(1, needed).reduce((sum, each) => sum + gap + each, 0)
  const name = Math.min(widths[0] ?? 0, Math.max(shortest, columns - others))
  let [shown, used] = [needed, name + others]
  while (shown < header.length && used + gap + (widths[shown] ?? 0) <= columns) used += gap + (widths[shown++] ?? 0)
  return table(
    header.slice(0, shown),
    rows.map((row) => [shortened(printable(row[0] ?? ''), name), ...row.slice(1, shown)]),
  )
}

/** Breaks a line between words. */
export function wrapped(line: string, columns: number): string {
  const lines = ['']
  for (const word of line.split(' ')) {
    const last = lines.at(-1) ?? ''
    if (last === '') lines[lines.length - 1] = word
    else if (width(last) + 1 + width(word) <= columns) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines.join('\n')
}
