/** YAML text -> a value, what is wrong with it as YAML, and where each part of the value stands in the text. */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument, visit, type YAMLError } from 'yaml'
import { inspectNodes } from './nodes.ts'

export type Path = readonly (string | number)[]

/** Offsets into the text; `end` is after the last character. */
export interface Span {
  readonly start: number
  readonly end: number
}

export interface Problem {
  readonly span: Span
  readonly path: Path
  readonly message: string
  readonly hint: string
}

export interface ParsedDocument {
  /** undefined: the text has no value that could be checked further, see the problems. */
  readonly value: unknown
  readonly problems: readonly Problem[]
  /** Where the value of `path` stands; 'key': its key. A path that is not in the text: the nearest part of it that is. */
  locate(path: Path, part: 'key' | 'value'): Span
  /** Both count from 1. */
  position(offset: number): { readonly line: number; readonly column: number }
}

/** What each error of the parser asks for; the others are about indentation and quotes. */
const hints: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: 'Indent with spaces.',
  MULTIPLE_DOCS: 'Keep one document: remove the line "---" and what follows.',
  TAG_RESOLVE_FAILED: 'Remove the tag: only the plain types of YAML 1.2 are read.',
  NON_STRING_KEY: 'Write the key as a plain word.',
  RESOURCE_EXHAUSTION: 'Nest less deeply.',
  BAD_ALIAS: 'Write the value out.',
  BAD_SCALAR_START: 'Write the value in quotes.',
  BLOCK_AS_IMPLICIT_KEY: 'A value that contains ": " needs quotes.',
}

const messages: Readonly<Record<string, string>> = {
  MULTIPLE_DOCS: 'a second document starts here',
  RESOURCE_EXHAUSTION: 'nested too deeply',
  NON_STRING_KEY: 'a key must be text',
}

const lowerFirst = (text: string) => text.charAt(0).toLowerCase() + text.slice(1)

/** The parser notices a missing quote at the end of the file; what its author looks for is where the text begins. */
function unclosed(document: Document.Parsed): Problem | undefined {
  let span: Span | undefined
  visit(document, {
    Scalar: (_, node) => {
      if (node.type === 'QUOTE_DOUBLE' || node.type === 'QUOTE_SINGLE') span = spanOf(node)
    },
  })
  return (
    span && {
      span: { start: span.start, end: span.start + 1 },
      path: [],
      message: 'not valid YAML: this quote is not closed',
      hint: 'Close it at the end of the value.',
    }
  )
}

function fromParser(error: YAMLError, document: Document.Parsed): Problem {
  const quote = error.message.startsWith('Missing closing') ? unclosed(document) : undefined
  if (quote !== undefined) return quote
  const span = { start: error.pos[0], end: error.pos[1] }
  if (error.message === 'Sequence item without - indicator') {
    const hint = 'Indent the keys of one element alike: this line begins in another column than the key of the element above it.'
    return { span, path: [], message: 'not valid YAML: neither an element of the list above nor a key of its last element', hint }
  }
  const hint = hints[error.code] ?? 'Check the indentation, the quotes and the brackets here and in the line before.'
  const message = messages[error.code] ?? `not valid YAML: ${lowerFirst(error.message)}`
  return { span, path: [], message, hint }
}

/** One error for each place: what follows from the first one at the same place says nothing new. Too deep: the rest follows from that. */
function firstErrors(errors: readonly YAMLError[]): YAMLError[] {
  const tooDeep = errors.find((error) => error.code === 'RESOURCE_EXHAUSTION')
  if (tooDeep !== undefined) return [tooDeep]
  const places = new Set<number>()
  return errors.filter(({ pos }) => !places.has(pos[0]) && places.add(pos[0]))
}

/** Characters that no text file has: NUL, and what invalid UTF-8 is decoded to. */
function badCharacter(text: string): Problem | undefined {
  const start = text.search(/[\0\ufffd]/)
  if (start < 0) return undefined
  const span = { start, end: start + 1 }
  if (text[start] !== '\0') return { span, path: [], message: 'not valid UTF-8', hint: 'Save the file as UTF-8 text.' }
  return { span, path: [], message: 'a NUL byte: this is no text', hint: 'Name the config file, or save it as UTF-8 text.' }
}

const wholeText: Span = { start: 0, end: 0 }

const failed = (problems: readonly Problem[]): ParsedDocument => ({
  value: undefined,
  problems,
  locate: () => wholeText,
  position: () => ({ line: 1, column: 1 }),
})

/** The key check of the library compares every key with every other: inspectNodes does it instead. */
function parse(text: string, lineCounter: LineCounter): Document.Parsed {
  const options = { version: '1.2', schema: 'core', resolveKnownTags: false, stringKeys: true, uniqueKeys: false, logLevel: 'error' } as const
  return parseDocument(text, { ...options, prettyErrors: false, lineCounter })
}

/** Never throws for any text. */
export function readDocument(text: string): ParsedDocument {
  const bad = badCharacter(text)
  if (bad !== undefined) return failed([bad])
  const lines = new LineCounter()
  const document = parse(text, lines)
  if (document.errors.length > 0) return failed(firstErrors(document.errors).map((error) => fromParser(error, document)))
  if (document.contents === null || (isScalar(document.contents) && document.contents.source === '')) {
    const hint = 'Write at least "version: 1" and "mesh: istio".'
    return failed([{ span: wholeText, path: [], message: 'there is nothing in this file', hint }])
  }
  const inspection = inspectNodes(document.contents)
  const problems = [...document.warnings.map((warning) => fromParser(warning, document)), ...inspection.problems]
  if (!inspection.convertible) return failed(problems)
  const value: unknown = document.toJS({ maxAliasCount: -1 })
  const position = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return { line, column: col }
  }
  return { value, problems, locate: (path, part) => locate(document, path, part), position }
}

function spanOf(node: Node | null | undefined): Span | undefined {
  const range = node?.range
  return range ? { start: range[0], end: range[1] } : undefined
}

function pairOf(node: unknown, key: string): Pair<Node, Node | null> | undefined {
  if (!isMap<Node, Node | null>(node)) return undefined
  return node.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === key)
}

function locate(document: Document.Parsed, path: Path, part: 'key' | 'value'): Span {
  let node: Node | null | undefined = document.contents
  // What stands for the parent: its key, which is one line, rather than its value, which may be a hundred.
  let title = wholeText
  for (const [index, step] of path.entries()) {
    const container: unknown = isAlias(node) ? node.resolve(document) : node
    const pair = pairOf(container, String(step))
    const item = isSeq<Node>(container) && typeof step === 'number' ? container.items[step] : undefined
    if (pair === undefined && item === undefined) return title
    title = spanOf(pair?.key ?? item) ?? title
    node = pair === undefined ? item : pair.value
    if (part === 'key' && index === path.length - 1) return title
  }
  const value = spanOf(node)
  return value === undefined || value.start === value.end ? title : value
}
