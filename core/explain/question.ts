/** The question that `explain` asks, strictly read: the same text comes from the command line and over the control socket. Pure. */
import { formatAddress, isZero, parseAddress, type Words } from '../address.ts'
import { MerbridgeError } from '../errors.ts'

export type Who = 'from-app' | 'from-proxy' | 'inbound'

export const whos: readonly Who[] = ['from-app', 'from-proxy', 'inbound']

export interface Endpoint {
  readonly family: 4 | 6
  readonly words: Words
  /** As it was written, normalised: "10.0.0.1", "::ffff:10.0.0.1" */
  readonly text: string
  /** Absent: none was given. */
  readonly port?: number
  /** An IPv6 socket, also where the address is a mapped IPv4 one. */
  readonly socket6: boolean
}

export interface Question {
  /** NAME or NAMESPACE/NAME */
  readonly pod: string
  readonly who: Who
  readonly to: Endpoint & { readonly port: number }
  readonly protocol: 'tcp' | 'udp'
  /** As it is decided: 4 for IPv4 on an IPv6 socket. */
  readonly family: 4 | 6
  readonly uid?: number
  readonly gid?: number
  readonly mark?: number
  readonly source?: Endpoint
}

/** What may be asked over the socket; the command line has options of the same names. */
export const parameters = ['pod', 'who', 'to', 'uid', 'gid', 'mark', 'source'] as const
type Parameter = (typeof parameters)[number]

const maxLength = 600 // a pod's name and namespace have 253 bytes each

const wrong = (message: string, hint: string) => new MerbridgeError('USAGE', message, hint)

const addressHint = 'Write ADDRESS:PORT, as 10.96.0.10:80 or [fd00::1]:80; /tcp or /udp may follow the port.'

/** Port 0 is none that anybody has, but rules decide about it all the same. */
function portOf(text: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port > 65535) throw wrong(`port ${text}: expected a number from 0 to 65535`, addressHint)
  return port
}

function hostOf(host: string): Pick<Endpoint, 'family' | 'words' | 'text' | 'socket6'> {
  const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host
  const [, zone] = /(%.*)$/s.exec(bare) ?? []
  if (zone !== undefined) {
    throw wrong(`"${host}" has a zone, which no rule and no route looks at`, `Leave "${zone}" out: the answer is the same for every zone.`)
  }
  const address = parseAddress(bare)
  if (address === undefined || (bare !== host && !bare.includes(':'))) {
    throw wrong(`"${host}" is not an IP address`, `explain wants an address, not a name. ${addressHint}`)
  }
  const socket6 = bare.includes(':')
  return { ...address, socket6, text: socket6 && address.family === 4 ? `::ffff:${formatAddress(address)}` : formatAddress(address) }
}

/** "10.0.0.1:80/udp" */
function destination(text: string): Pick<Question, 'to' | 'protocol'> {
  const [, endpoint = '', protocol] = /^(.*?)(?:\/(.*))?$/s.exec(text) ?? []
  if (protocol !== undefined && protocol !== 'tcp' && protocol !== 'udp') throw wrong(`protocol "${protocol}": expected tcp or udp`, addressHint)
  const parts = /^(\[.*\]|[^:]*):([^:]*)$/s.exec(endpoint)
  if (parts === null) {
    const isIpv6 = endpoint.split(':').length > 2 && !/^\[.*\]$/s.test(endpoint)
    if (isIpv6) throw wrong(`"${text}": an IPv6 address needs brackets before its port`, addressHint)
    throw wrong(`"${text}": the port is missing`, addressHint)
  }
  const [, host = '', port = ''] = parts
  return { to: { ...hostOf(host), port: portOf(port) }, protocol: protocol ?? 'tcp' }
}

/** "10.0.0.1", "10.0.0.1:4000", "fd00::1", "[fd00::1]:4000" */
function sourceOf(text: string): Endpoint {
  if (parseAddress(text) !== undefined || !text.includes(':')) return hostOf(text)
  const [, host = text, port] = /^(\[.*\]|[^:]*):([^:]*)$/s.exec(text) ?? []
  return { ...hostOf(host), ...(port === undefined ? {} : { port: portOf(port) }) }
}

function number(name: string, text: string, pattern: RegExp): number {
  const value = Number(text)
  if (pattern.test(text) && value <= 0xffffffff) return value
  throw wrong(`--${name} ${text}: expected a number from 0 to 4294967295`, `Correct --${name}.`)
}

const decimal = /^\d{1,10}$/
const decimalOrHex = /^(\d{1,10}|0x[0-9a-fA-F]{1,8})$/

function collect(query: URLSearchParams): ReadonlyMap<Parameter, string> {
  const values = new Map<Parameter, string>()
  for (const [name, value] of query) {
    const known = parameters.find((each) => each === name)
    if (known === undefined) throw wrong(`unknown parameter "${name.slice(0, 40)}"`, `The parameters are ${parameters.join(', ')}.`)
    if (values.has(known)) throw wrong(`parameter "${name}" is given twice`, 'Give it once.')
    if (value.length > maxLength) throw wrong(`parameter "${name}" is longer than ${maxLength} characters`, 'Shorten it.')
    values.set(known, value)
  }
  return values
}

/** "::" on an IPv6 socket: its other end decides whether it is about IPv4. */
const isAny6 = ({ family, words }: Endpoint): boolean => family === 6 && isZero({ words })
const isMapped = ({ family, socket6 }: Endpoint): boolean => family === 4 && socket6

function familyOf(to: Endpoint, source: Endpoint | undefined): 4 | 6 {
  if (source === undefined || source.family === to.family) return to.family
  if ((isAny6(to) && isMapped(source)) || (isAny6(source) && isMapped(to))) return 4
  if (isMapped(to) && source.socket6) {
    throw wrong(
      `a socket that is bound to ${source.text} is for IPv6 alone (bind() turns IPV6_V6ONLY on): connect() to ${to.text} fails with ENETUNREACH, whatever the rules say`,
      'Give the source in IPv4 form, as ::ffff:10.0.0.2. Where the program turns IPV6_V6ONLY off again, the source is ::ffff:127.0.0.6.',
    )
  }
  throw wrong(`the source ${source.text} and the destination ${to.text} are of different families`, 'Give both as IPv4 or both as IPv6.')
}

function checkTogether({ who, to, uid, gid, mark, source }: Question): void {
  const owner = uid !== undefined || gid !== undefined || mark !== undefined
  if (who === 'inbound' && owner) {
    throw wrong(
      '--uid, --gid and --mark belong to connections that the pod makes',
      'Leave them out for inbound: who calls from outside is not known.',
    )
  }
  if (source !== undefined && who === 'inbound' && isZero(source)) {
    throw wrong(`${source.text} cannot be the source of a connection from outside`, 'Give the address of the caller, or leave --source out.')
  }
  if (who === 'inbound' && isZero(to)) {
    throw wrong(`nobody outside can connect to ${to.text}`, "Give one of the pod's addresses.")
  }
}

/** Throws USAGE that says which part is wrong. */
export function parseQuestion(query: URLSearchParams): Question {
  const values = collect(query)
  const optional = <T>(name: Parameter, parse: (text: string) => T): Partial<Record<Parameter, T>> => {
    const text = values.get(name)
    return text === undefined ? {} : { [name]: parse(text) }
  }
  const [pod, to, who = 'from-app'] = [values.get('pod'), values.get('to'), values.get('who')]
  if (pod === undefined || pod === '') throw wrong('the pod is missing', 'Name one: merbridge pods lists them.')
  if (to === undefined) throw wrong('the address is missing', addressHint)
  const known = whos.find((each) => each === who)
  if (known === undefined) throw wrong(`"${who}": expected one of ${whos.join(', ')}`, 'See: merbridge explain --help.')
  const question = {
    pod,
    who: known,
    ...destination(to),
    ...optional('uid', (text) => number('uid', text, decimal)),
    ...optional('gid', (text) => number('gid', text, decimal)),
    ...optional('mark', (text) => number('mark', text, decimalOrHex)),
    ...optional('source', sourceOf),
  } as Omit<Question, 'family'>
  const whole = { ...question, family: familyOf(question.to, question.source) }
  checkTogether(whole)
  return whole
}
