/** Problems at offsets -> a MerbridgeError with line, column, the line itself, a caret and the way out. */
import { LineCounter } from 'yaml'
import { type Issue, MerbridgeError } from '../errors.ts'
import type { Path, Problem } from './document.ts'
import { printable } from './printable.ts'

/** Issues that are shown; whoever has more corrects these first. */
const maxIssues = 20
/** Columns of the file's line that are shown, around the caret. */
const frameWidth = 120
/** Of a message, which may repeat a value of 256 KiB. */
const maxMessage = 600

const shortened = (text: string) => (text.length <= maxMessage ? text : `${text.slice(0, maxMessage)}...`)

export const pathText = (path: Path): string =>
  path.reduce<string>((text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`), '')

function lineStarts(text: string): LineCounter {
  const lines = new LineCounter()
  lines.addNewLine(0)
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines.addNewLine(at + 1)
  return lines
}

/** The line of the file and a line of carets under the span, both cut to the same window. */
function frame(text: string, problem: Problem, issue: Issue): string {
  const begin = problem.span.start - (issue.column - 1)
  const newline = text.indexOf('\n', begin)
  const line = text.slice(begin, newline < 0 ? text.length : newline).replace(/\r$/, '')
  const from = Math.max(0, Math.min(issue.column - 1, line.length) - frameWidth / 2)
  const shown = line.slice(from, from + frameWidth)
  const show = (part: string) => printable(part.replaceAll('\t', ' '))
  const indent = show(shown.slice(0, issue.column - 1 - from)).length
  const carets = show(
    line.slice(issue.column - 1, Math.min(begin + line.length, problem.span.end) - begin).slice(0, from + frameWidth - issue.column + 1),
  ).length
  const number = String(issue.line)
  return `${number} | ${show(shown)}\n${' '.repeat(number.length)} | ${' '.repeat(indent)}${'^'.repeat(Math.max(1, carets))}`
}

const headline = (file: string, { line, column, path, message }: Issue) =>
  `${printable(file)}:${line}:${column}: ${path === '' ? '' : `${path}: `}${message}`

const indented = (text: string) => text.replaceAll(/^/gm, '  ')

/** CONFIG_INVALID for at least one problem. */
export function invalidConfig(file: string, text: string, problems: readonly Problem[]): MerbridgeError {
  const lines = lineStarts(text)
  const sorted = [...problems].sort((a, b) => a.span.start - b.span.start)
  const placed = sorted.slice(0, maxIssues).map((problem) => {
    const { line, col } = lines.linePos(problem.span.start)
    const path = printable(shortened(pathText(problem.path)))
    return { problem, issue: { line, column: col, path, message: printable(shortened(problem.message)), hint: printable(shortened(problem.hint)) } }
  })
  const more = problems.length - placed.length
  const blocks = placed.map(({ problem, issue }) => `${headline(file, issue)}\n${indented(`${frame(text, problem, issue)}\n${issue.hint}`)}`)
  const detail = [...blocks, ...(more > 0 ? [`and ${more} more`] : [])].join('\n')
  const [first] = placed
  const rest = problems.length > 1 ? ` (and ${problems.length - 1} more)` : ''
  const message = first === undefined ? `${printable(file)}: not valid` : `${headline(file, first.issue)}${rest}`
  return new MerbridgeError('CONFIG_INVALID', message, first?.issue.hint ?? '', undefined, { issues: placed.map(({ issue }) => issue), detail })
}
