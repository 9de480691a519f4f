/**
 * The script of osm-init (FSM: fsm-init) as the mesh writes it: one here-document of the shell for iptables-restore, with a fixed frame around the rules. The
 * shell and iptables would take much else; what a changed script comes to is not guessed at.
 */
import { short } from '../shared/text.ts'

export interface Line {
  readonly number: number
  readonly text: string
  /** A rule without its chain */
  readonly rule: string
}

export class NotUnderstood extends Error {}

export const lineOf = ({ number, text }: Pick<Line, 'number' | 'text'>): string => `line ${number} '${short(text)}'`

export const notHere = (line: Pick<Line, 'number' | 'text'>): NotUnderstood => new NotUnderstood(`${lineOf(line)} is not understood at this place`)

export const chainNames = ['INBOUND', 'IN_REDIRECT', 'OUTBOUND', 'OUT_REDIRECT'] as const

const opening = (title: string): readonly string[] => [
  'iptables-restore --noflush <<EOF',
  `# ${title} sidecar interception rules`,
  '*nat',
  ...chainNames.map((name) => `:${title}_PROXY_${name} - [0:0]`),
]
const closing = ['COMMIT', 'EOF']

/** The lines between the opening and COMMIT, and where they begin. */
function inside(lines: readonly string[], title: string): readonly { readonly number: number; readonly text: string }[] {
  const first = opening(title)
  const expect = (index: number, expected: string) => {
    const text = lines[index] ?? ''
    if (text !== expected) throw new NotUnderstood(`${lineOf({ number: index + 1, text })} is not understood: expected '${expected}'`)
  }
  for (const [index, expected] of first.entries()) expect(index, expected)
  const end = lines.indexOf('COMMIT')
  if (end === -1) throw new NotUnderstood("it has no line 'COMMIT'")
  for (const [offset, expected] of closing.entries()) expect(end + offset, expected)
  const rest = lines.findIndex((text, index) => index >= end + closing.length && text !== '')
  if (rest !== -1) throw new NotUnderstood(`${lineOf({ number: rest + 1, text: lines[rest] ?? '' })} is not understood: nothing comes after 'EOF'`)
  return lines.slice(first.length, end).map((text, index) => ({ number: first.length + index + 1, text }))
}

const ownJump = new RegExp(`-j (?:${chainNames.join('|')})$`)

/** The rules of each chain in the order in which they take effect: -I puts one first, -A last. Chains have their names without "OSM_PROXY_". */
export function chainsOf(script: string): ReadonlyMap<string, readonly Line[]> {
  const lines = script.split('\n')
  const title = lines[1]?.startsWith('# FSM ') ? 'FSM' : 'OSM'
  const found = new Map(['PREROUTING', 'OUTPUT', ...chainNames].map((name) => [name, { inserted: [] as Line[], appended: [] as Line[] }]))
  const shortName = new Map([...found.keys()].map((name) => [chainNames.some((own) => own === name) ? `${title}_PROXY_${name}` : name, name]))
  for (const line of inside(lines, title)) {
    const [, how, chain = '', written = ''] = /^-(A|I) (\w+) (.*)$/.exec(line.text) ?? []
    const rules = found.get(shortName.get(chain) ?? '')
    if (rules === undefined || ownJump.test(written)) throw new NotUnderstood(`${lineOf(line)} is not understood`)
    const rule = written.replace(`-j ${title}_PROXY_`, '-j ').replace(' --match ', ' -m ')
    rules[how === 'I' ? 'inserted' : 'appended'].push({ ...line, rule })
  }
  return new Map([...found].map(([name, { inserted, appended }]) => [name, [...inserted.reverse(), ...appended]]))
}
