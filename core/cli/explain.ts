import { printable } from '../config/printable.ts'
import { askAgent } from '../control/client.ts'
import { MerbridgeError } from '../errors.ts'
import { parameters, parseQuestion, whos } from '../explain/question.ts'
import type { ExplainView, Finding } from '../explain/view.ts'
import { type Outcome, type Output, render } from './outcome.ts'
import { indent, sections, table } from './table.ts'

/** As they are given: each is checked where the question is read. */
export interface ExplainOptions {
  readonly uid?: string | undefined
  readonly gid?: string | undefined
  readonly mark?: string | undefined
  readonly source?: string | undefined
}

/** The words after the pod are [WHO] ADDR:PORT. */
export function questionOf(pod: string, words: readonly string[], options: ExplainOptions): URLSearchParams {
  const [first = '', second, ...more] = words
  if (more.length > 0 || (second === undefined && whos.some((who) => who === first))) {
    throw new MerbridgeError(
      'USAGE',
      'expected POD [from-proxy|from-app|inbound] ADDR:PORT',
      'For example: merbridge explain default/web 10.96.0.10:80',
    )
  }
  const values: Partial<Record<string, string>> = { ...options, pod, ...(second === undefined ? { to: first } : { who: first, to: second }) }
  const query = new URLSearchParams()
  for (const name of parameters) if (values[name] !== undefined) query.set(name, values[name])
  return query
}

const callers = { 'from-app': 'from the app', 'from-proxy': 'from the proxy', inbound: 'from outside' } as const

const subjectOf = ({ protocol }: ExplainView['connection']): string => (protocol === 'udp' ? 'the datagram' : 'the connection')

function headText({ connection, pod, rule, result, intercepted, assumed, notes, facts }: ExplainView): string {
  const decided = rule === undefined ? 'no rule: none matches' : `${rule.direction} rule ${rule.index} '${rule.name}': ${rule.then}`
  const rows = [
    ...(intercepted ? [['decided by', decided]] : []),
    ['result', `${subjectOf(connection)} ${result}`],
    ...notes.map((note) => ['note', note]),
    ...assumed.map((each) => ['assumed', each]),
    ...(facts.length === 0 ? [] : [['facts', facts.join(', ')]]),
  ]
  const caller = connection.source === undefined ? callers[connection.who] : `${callers[connection.who]} (${connection.source})`
  return table([printable(pod), `${connection.to}/${connection.protocol} ${caller}`], rows)
}

/** The rule in the first line of its conditions only. */
const conditions = (rule: string, findings: readonly Finding[]): string[][] =>
  findings.map(({ condition, actual }, line) => [line === 0 ? rule : '', condition, actual])

const conditionsText = (title: string, subject: string, rows: readonly (readonly string[])[]): string =>
  rows.length === 0 ? '' : `${title}\n${indent(table(['RULE', 'WANTS', `${subject} has`.toUpperCase()], rows))}`

export function explainText(view: ExplainView): string {
  const titled = ({ index, name }: { readonly index: number; readonly name: string }) => `${index} ${name}`
  const { rule, matched, earlier } = view
  const subject = subjectOf(view.connection)
  return sections([
    headText(view),
    rule === undefined ? '' : conditionsText('why it matches', subject, conditions(titled(rule), matched)),
    conditionsText(
      rule === undefined ? 'why no rule matches' : 'why no earlier rule matches',
      subject,
      earlier.flatMap((each) => conditions(titled(each), each.failed)),
    ),
  ])
}

/** `socket`: where the agent is, found only when the question makes sense. */
export async function explain(socket: () => Promise<string>, query: URLSearchParams, output: Output): Promise<Outcome> {
  parseQuestion(query)
  const view = await askAgent<ExplainView>(await socket(), '/v1/explain', undefined, `?${query}`)
  return { code: 0, stdout: render(view, output, () => explainText(view)) }
}
