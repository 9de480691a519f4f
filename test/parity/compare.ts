/** Makes the results of two pods comparable, and compares them with the differences that docs/parity.md names. */
import { endpointText, normaliser } from './addresses.ts'
import type { Case, CaseResult, Originals, Step } from './probe.ts'

/** One observation: "any: app -> VIP:80" saw "proxy:15001" as "accepted by". */
export type Column = ReadonlyMap<string, ReadonlyMap<string, string>>

export interface Difference {
  readonly case: string
  readonly field: string
  readonly iptables: string
  readonly merbridge: string
}

/** A row of docs/parity.md; `*` stands for any text, and ` or ` is between patterns of which one must hold. */
export interface Named extends Difference {
  readonly name: string
  /** Meshes whose fixed matrix shows it, where the table says so. */
  readonly meshes?: readonly string[]
  /** Title of the document's section that it stands in. */
  readonly section?: string
}

const portOf = (endpoint: string) => endpoint.replace(/^.*:/, '')

function fields(step: Step, asked: string): Map<string, string> {
  const normalise = normaliser(asked, new Set(step.local === undefined ? [] : [portOf(step.local)]))
  const found = new Map<string, string>([
    ['outcome', step.error ?? 'connected'],
    ['reported by', step.when],
  ])
  const put = (field: string, value: string | undefined) => {
    if (value !== undefined) found.set(field, normalise(value))
  }
  const origins = (whose: string, origin: Originals | undefined) => {
    for (const [how, value] of Object.entries(origin ?? {})) put(`${whose} SO_ORIGINAL_DST ${how}`, value)
  }
  put('getsockname', step.local)
  put('getpeername', step.peer)
  put('data in the SYN', step.synData?.toString())
  const direct = typeof step.seen === 'object' && step.seen.listener.endsWith(`:${portOf(asked)}`)
  origins(direct ? 'direct client' : 'client', step.origin)
  if (typeof step.seen === 'string') put('accepted by', step.seen)
  else if (step.seen !== undefined) {
    found.set('accepted by', step.seen.listener)
    put('source seen', step.seen.peer)
    put('address seen', step.seen.local)
    origins('accepted', step.seen.origin)
  }
  return found
}

/** `setup`: begins the names of its cases. */
export function column(setup: string, cases: readonly Case[], results: readonly CaseResult[]): Column {
  const byId = new Map(results.map((result) => [result.id, result]))
  const found = new Map<string, ReadonlyMap<string, string>>()
  for (const each of cases) {
    const result = byId.get(each.id)
    if (result === undefined || byId.size !== cases.length) throw new Error(`not exactly one result for each case: ${each.id}`)
    result.steps.forEach((step, index) => {
      const number = each.to.length > 1 ? ` (${index + 1})` : ''
      found.set(`${setup}: ${each.id}${number}`, fields(step, endpointText(...(each.to[index] ?? ['', 0]))))
    })
  }
  return found
}

/** Of a connection that ended otherwise the rest says nothing, but who accepts one that iptables does not let in. */
function comparedFields(iptables: ReadonlyMap<string, string>, merbridge: ReadonlyMap<string, string>): Iterable<string> {
  if (iptables.get('outcome') === merbridge.get('outcome')) return new Set([...iptables.keys(), ...merbridge.keys()])
  return merbridge.get('outcome') === 'connected' ? ['outcome', 'accepted by'] : ['outcome']
}

export function differences(iptables: Column, merbridge: Column): readonly Difference[] {
  const found: Difference[] = []
  for (const name of new Set([...iptables.keys(), ...merbridge.keys()])) {
    const [left, right] = [iptables.get(name) ?? new Map<string, string>(), merbridge.get(name) ?? new Map<string, string>()]
    for (const field of comparedFields(left, right)) {
      const pair = { iptables: left.get(field) ?? 'nothing', merbridge: right.get(field) ?? 'nothing' }
      if (pair.iptables !== pair.merbridge) found.push({ case: name, field, ...pair })
    }
  }
  return found
}

/** The rows of every table in the text whose header starts with "| Difference |", or with another title. */
export function namedDifferences(markdown: string, title = 'Difference'): readonly Named[] {
  const rows: Named[] = []
  let [inside, section] = [false, '']
  for (const line of markdown.split('\n')) {
    const cells = line.split('|').map((cell) => cell.trim().replace(/^`(.*)`$/, '$1'))
    if (line.startsWith('## ')) section = line.slice(3).trim()
    if (!line.startsWith('|')) inside = false
    else if (cells[1] === title) inside = true
    else if (inside && !/^-+$/.test(cells[1] ?? '')) {
      const [, name = '', cases = '', field = '', iptables = '', merbridge = '', meshes = ''] = cells
      rows.push({ name, case: cases, field, iptables, merbridge, section, ...(meshes === '' ? {} : { meshes: meshes.split(', ') }) })
    }
  }
  return rows
}

const expressions = new Map<string, RegExp>()

function expressionOf(pattern: string): RegExp {
  const known = expressions.get(pattern)
  if (known !== undefined) return known
  const quoted = pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&')
  const made = new RegExp(`^(?:${quoted.replaceAll(' or ', '|').replaceAll('*', '.*')})$`)
  expressions.set(pattern, made)
  return made
}

const matches = (pattern: string, text: string): boolean => expressionOf(pattern).test(text)

export interface Judgement {
  /** Differences that no row names. */
  readonly unnamed: readonly Difference[]
  /** Rows that name nothing that occurs. */
  readonly idle: readonly Named[]
}

const keys = ['case', 'field', 'iptables', 'merbridge'] as const

/** The first row that names the difference. */
export const rowFor = (difference: Difference, named: readonly Named[]): Named | undefined =>
  named.find((each) => keys.every((key) => matches(each[key], difference[key])))

const covers = (one: Named, other: Named) => keys.every((key) => other[key].split(' or ').every((text) => matches(one[key], text)))

/** Rows that one before them leaves nothing for. */
export const coveredRows = (named: readonly Named[]): readonly Named[] =>
  named.filter((row, index) => named.slice(0, index).some((before) => covers(before, row)))

export function judge(found: readonly Difference[], named: readonly Named[]): Judgement {
  const used = new Set<Named>()
  const unnamed = found.filter((difference) => {
    const row = rowFor(difference, named)
    if (row !== undefined) used.add(row)
    return row === undefined
  })
  return { unnamed, idle: named.filter((row) => !used.has(row)) }
}

/** Who was reached, or the error, says enough of a connection that went elsewhere. */
export function essential(found: readonly Difference[]): readonly Difference[] {
  const decisive = ['outcome', 'accepted by']
  const elsewhere = new Set(found.filter(({ field }) => decisive.includes(field)).map((each) => each.case))
  return found.filter(({ case: name, field }) => !elsewhere.has(name) || decisive.includes(field))
}

export function show(found: readonly Difference[]): string {
  return found.map((each) => `${each.case} | ${each.field} | iptables: ${each.iptables} | merbridge: ${each.merbridge}`).join('\n')
}
