/** Text for a terminal: aligned columns, ages, counts. Everything that comes from a config or a pod is made printable here. */
import { printable } from '../config/printable.ts'

const width = (text: string) => [...text].length

/** Columns are two spaces apart; the last one is not padded. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [header, ...rows.map((row) => row.map(printable))]
  const widths = header.map((_, column) => Math.max(...cells.map((row) => width(row[column] ?? ''))))
  const pad = (cell: string, column: number) => cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - width(cell)))
  return cells.map((row) => row.map(pad).join('  ').trimEnd()).join('\n')
}

export const indent = (text: string): string => text.replaceAll(/^(?=.)/gm, '  ')

/** "1 pod", "2 pods" */
export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`

/** "45 s", "12 min", "3 h 5 min", "2 d 4 h" */
export function age(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000))
  const minutes = Math.floor(seconds / 60)
  const hours = Math.floor(minutes / 60)
  if (minutes < 1) return `${seconds} s`
  if (hours < 1) return `${minutes} min`
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** Sections are parted by an empty line; empty ones are left out. */
export const sections = (parts: readonly string[]): string => `${parts.filter((part) => part !== '').join('\n\n')}\n`
