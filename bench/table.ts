/** Markdown tables with aligned columns, readable as they are. */
import type { Interval } from './statistics.ts'

export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`
  return [line(header), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n')
}

export function interval({ estimate, low, high }: Interval, digits = 2): string {
  return `${estimate.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`
}

export const microseconds = (nanoseconds: number): string => (nanoseconds / 1000).toFixed(1)
