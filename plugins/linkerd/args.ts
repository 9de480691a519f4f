/** The arguments of the container linkerd-init, taken apart as its program does it. They say exactly which rules it writes. */
import type { Kit } from '../../core/plugin.ts'
import { messageOf, unexpected } from '../shared/text.ts'
import { flagElements } from './values.ts'

/** `text` and `number`: the last one counts; `list` and `numbers`: all of them together; `truth`: needs no value. */
type Kind = 'text' | 'number' | 'list' | 'numbers' | 'truth'

interface Flag {
  readonly kind: Kind
  readonly letter?: string
}

const flags: Readonly<Record<string, Flag>> = {
  'incoming-proxy-port': { kind: 'number', letter: 'p' },
  'outgoing-proxy-port': { kind: 'number', letter: 'o' },
  'proxy-uid': { kind: 'number', letter: 'u' },
  'proxy-gid': { kind: 'number', letter: 'g' },
  'ports-to-redirect': { kind: 'numbers', letter: 'r' },
  'inbound-ports-to-ignore': { kind: 'list' },
  'outbound-ports-to-ignore': { kind: 'list' },
  'subnets-to-ignore': { kind: 'list' },
  ipv6: { kind: 'truth' },
  simulate: { kind: 'truth' },
  'use-wait-flag': { kind: 'truth', letter: 'w' },
  netns: { kind: 'text' },
  'timeout-close-wait-secs': { kind: 'number' },
  'log-format': { kind: 'text' },
  'log-level': { kind: 'text' },
  'firewall-bin-path': { kind: 'text' },
  'firewall-save-bin-path': { kind: 'text' },
  'iptables-mode': { kind: 'text' },
}

export interface InitArguments {
  readonly numbers: ReadonlyMap<string, number>
  readonly lists: ReadonlyMap<string, readonly string[]>
  readonly truths: ReadonlyMap<string, boolean>
  /** It prints its help and does nothing. */
  readonly help: boolean
}

const isHelp = (argument: string): boolean => argument === '--help' || /^-w*h/.test(argument)

/** A flag as it was written; `value` absent: the next argument is it, unless it needs none. */
interface Written {
  readonly title: string
  readonly name: string
  readonly value?: string
}

/** Several letters may stand together; the first that needs a value takes what follows it. */
function lettersIn(argument: string): Written[] {
  const written: Written[] = []
  for (let at = 1; at < argument.length; at++) {
    const letter = argument[at] ?? ''
    const [name, flag] = Object.entries(flags).find(([, each]) => each.letter === letter) ?? []
    if (name === undefined || flag === undefined) throw unexpected('a flag of linkerd-init', argument, argument)
    const rest = argument.slice(at + 1)
    const [title, value] = [`-${letter}`, rest.startsWith('=') ? rest.slice(1) : rest]
    if (rest.startsWith('=') || (flag.kind !== 'truth' && rest !== '')) return [...written, { title, name, value }]
    written.push({ title, name })
  }
  return written
}

function flagsIn(argument: string): Written[] {
  if (!argument.startsWith('--')) return lettersIn(argument)
  const [title = '', ...value] = argument.split('=')
  const name = title.slice(2)
  if (!Object.hasOwn(flags, name)) throw unexpected('a flag of linkerd-init', argument, argument)
  return [{ title, name, ...(value.length > 0 && { value: value.join('=') }) }]
}

/** As Go reads a number with its prefix: 0x for 16, 0 for 8. */
function numberOf(text: string): number {
  const [, sign = '', digits = ''] = /^([+-]?)(0x[\da-f]+|0o?[0-7]+|0b[01]+|[1-9]\d*|0)$/i.exec(text) ?? []
  if (digits === '') throw unexpected('a number', text, text)
  return Number(digits.replace(/^0(?=\d)/, '0o')) * (sign === '-' ? -1 : 1)
}

function truthOf(text: string, { boolean }: Kit): boolean {
  try {
    return boolean(text)
  } catch {
    throw unexpected('true or false', text, text)
  }
}

/** Throws an Error that names the argument: the container fails with it. */
export function readArguments(args: readonly string[], kit: Kit): InitArguments {
  const [numbers, lists, truths] = [new Map<string, number>(), new Map<string, readonly string[]>(), new Map<string, boolean>()]
  const add = (name: string, elements: readonly string[]) => void lists.set(name, [...(lists.get(name) ?? []), ...elements])
  const take: Readonly<Record<Kind, (name: string, value: string) => void>> = {
    text: () => undefined,
    number: (name, value) => void numbers.set(name, numberOf(value)),
    list: (name, value) => add(name, flagElements(value)),
    numbers: (name, value) => add(name, value.split(',')),
    truth: (name, value) => void truths.set(name, truthOf(value, kit)),
  }
  const rest = args.slice(0, args.includes('--') ? args.indexOf('--') : undefined)
  for (let next = rest.shift(); next !== undefined; next = rest.shift()) {
    if (isHelp(next)) return { numbers, lists, truths, help: true }
    for (const { title, name, value } of next.length > 1 && next.startsWith('-') ? flagsIn(next) : []) {
      const kind = flags[name]?.kind ?? 'text'
      const text = value ?? (kind === 'truth' ? 'true' : rest.shift())
      if (text === undefined) throw new Error(`${title}: expected a value`)
      try {
        take[kind](name, text)
      } catch (error) {
        throw new Error(`${title}: ${messageOf(error)}`)
      }
    }
  }
  return { numbers, lists, truths, help: false }
}
