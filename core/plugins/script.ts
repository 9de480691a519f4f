/**
 * The text of a plugin's file -> a script that can run in a context of its own. A plugin is one file that imports nothing but types: types are
 * erased in place, so that line and column of every message are those of the file, and `export default` becomes an assignment.
 */
import { stripTypeScriptTypes } from 'node:module'
import { type AnyNode, type ExportDefaultDeclaration, type ExportNamedDeclaration, type Program, parse } from 'acorn'

/** What is wrong with a plugin's file, for its author. */
export class PluginProblem extends Error {}

/** The script is a function of this object, whose `default` it sets. */
export const exportsName = '__m'
const scriptStart = `(${exportsName}) => { 'use strict';\n`
const scriptEnd = '\n}'
/** Lines of the script before the first one of the file. */
export const linesBefore = 1

const isTypeScript = (file: string) => /\.m?ts$/.test(file)

interface Place {
  readonly line: number
  /** From 1. */
  readonly column: number
}

const placed = ({ line, column }: Place, what: string) => new PluginProblem(`line ${line}, column ${column}: ${what}`)

/** Node's error has no position, but its stack starts with the place: "file:3", the line, and carets below the part that is wrong, if there is one. */
function typeScriptProblem(error: unknown): PluginProblem {
  const { message, stack = '' } = error instanceof Error ? error : new Error(String(error))
  if (/memory access out of bounds|unreachable|call stack/.test(message)) return new PluginProblem('its code is nested too deeply')
  const [, line] = /^[^\n]*:(\d+)\n/.exec(stack) ?? []
  const [, indent] = /\n([ \t]*)\^+\n/.exec(stack) ?? []
  const advice = /strip-only/.test(message) ? '; only types that can be erased are supported: no enum, no namespace, no parameter property' : ''
  const text = `${message.replaceAll('`', "'")}${advice}`
  if (line === undefined) return new PluginProblem(text)
  return indent === undefined ? new PluginProblem(`line ${line}: ${text}`) : placed({ line: Number(line), column: indent.length + 1 }, text)
}

function erased(text: string, file: string): string {
  try {
    return stripTypeScriptTypes(text, { mode: 'strip', sourceUrl: file })
  } catch (error) {
    throw typeScriptProblem(error)
  }
}

function parsed(code: string, file: string): Program {
  try {
    return parse(code, { ecmaVersion: 'latest', sourceType: 'module', locations: true, allowHashBang: false })
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw new PluginProblem('its code is nested too deeply')
    const { loc } = error as SyntaxError & { readonly loc?: { readonly line: number; readonly column: number } }
    const what = error.message.replace(/ \(\d+:\d+\)$/, '')
    const advice = isTypeScript(file) ? '' : ' (types need a file that ends in .ts)'
    throw loc === undefined ? new PluginProblem(what) : placed({ line: loc.line, column: loc.column + 1 }, `${what}${advice}`)
  }
}

const pure = 'a plugin is one file that imports types only ("import type"); what it needs comes with the kit'

/** Why the node must not stand in a plugin. `top`: outside of every function. */
function objection(node: AnyNode, top: boolean): string | undefined {
  switch (node.type) {
    case 'ImportDeclaration':
      if (node.source.value === 'merbridge/plugin')
        return `import of 'merbridge/plugin': write "import type", the package has nothing but types there`
      return `import of '${node.source.value}': ${pure}`
    case 'ExportAllDeclaration':
      return `import of '${node.source.value}': ${pure}`
    case 'ExportNamedDeclaration':
      return node.source ? `import of '${node.source.value}': ${pure}` : undefined
    case 'ImportExpression':
      return `import(): ${pure}`
    case 'MetaProperty':
      return node.meta.name === 'import' ? `import.meta: ${pure}` : undefined
    case 'CallExpression':
      return node.callee.type === 'Identifier' && node.callee.name === 'require' ? `require(): ${pure}` : undefined
    case 'AwaitExpression':
      return top ? 'await: a plugin waits for nothing' : undefined
    case 'ForOfStatement':
      return top && node.await ? 'await: a plugin waits for nothing' : undefined
    default:
      return undefined
  }
}

const isNode = (value: unknown): value is AnyNode => typeof value === 'object' && value !== null && typeof Reflect.get(value, 'type') === 'string'

/** Throws for the first node, in the order of the text, that must not stand in a plugin. */
function refuseImports(program: Program): void {
  const found: { readonly place: Place; readonly what: string }[] = []
  const open: { readonly node: AnyNode; readonly top: boolean }[] = [{ node: program, top: true }]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { node } = next
    const what = objection(node, next.top)
    if (what !== undefined && node.loc) found.push({ place: { line: node.loc.start.line, column: node.loc.start.column + 1 }, what })
    const top = next.top && !/Function|PropertyDefinition|StaticBlock/.test(node.type)
    for (const part of Object.values(node).flat()) if (isNode(part)) open.push({ node: part, top })
  }
  const [first] = found.sort((a, b) => a.place.line - b.place.line || a.place.column - b.place.column)
  if (first !== undefined) throw placed(first.place, first.what)
}

interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** A declaration with a name stays one, because the rest of the file may use the name. What stands after keeps its column. */
function defaultEdits({ start, end, declaration }: ExportDefaultDeclaration): Edit[] {
  const name = 'id' in declaration && /Declaration$/.test(declaration.type) ? declaration.id?.name : undefined
  const text = name === undefined ? `${exportsName}.default=` : ''
  const after = name === undefined ? ';' : `;${exportsName}.default=${name};`
  return [
    { start, end: declaration.start, text },
    { start: end, end, text: after },
  ]
}

/** Other exports are for the author's own tests: they become plain declarations. */
function namedEdits({ start, end, declaration, specifiers }: ExportNamedDeclaration): Edit[] {
  if (declaration) return [{ start, end: declaration.start, text: '' }]
  const chosen = specifiers.find(({ exported }) => exported.type === 'Identifier' && exported.name === 'default')
  return [{ start, end, text: chosen?.local.type === 'Identifier' ? `${exportsName}.default = ${chosen.local.name};` : ';' }]
}

function editsOf(program: Program): Edit[] {
  return program.body.flatMap((node) => {
    if (node.type === 'ExportDefaultDeclaration') return defaultEdits(node)
    return node.type === 'ExportNamedDeclaration' ? namedEdits(node) : []
  })
}

/** What stands after an edit keeps its line and, where there is room, its column. */
function applied(code: string, edits: readonly Edit[]): string {
  let at = 0
  const parts = edits.flatMap(({ start, end, text }) => {
    const kept = code.slice(at, start)
    at = end
    return [kept, text, code.slice(start + text.length, end).replaceAll(/[^\n]/g, ' ')]
  })
  return [...parts, code.slice(at)].join('')
}

/** Throws PluginProblem with line and column. */
export function scriptOf(text: string, file: string): string {
  const code = isTypeScript(file) ? erased(text, file) : text
  const program = parsed(code, file)
  refuseImports(program)
  return `${scriptStart}${applied(code, editsOf(program))}${scriptEnd}`
}
