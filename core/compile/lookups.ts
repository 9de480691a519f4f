/**
 * Policy routing: which look-ups the kernel makes for a destination, in order. Rules are judged as a socket of the pod that has no mark, is
 * bound to no interface and asks for nothing special; what cannot be judged so is left out and named.
 */
import { addressBits, type Cidr, contains, type Address as Ip, network, parseAddress } from '../address.ts'
import type { Rule } from '../native/api.ts'

/** RTN_*: see linux/rtnetlink.h */
export const routeType = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
} as const

/** FR_ACT_*: see linux/fib_rules.h. Whatever else a rule may have as its action is a blackhole for the kernel. */
const action = { table: 1, goto: 2, nop: 3, unreachable: 7, prohibit: 8 } as const

export interface Lookup {
  /** The tables that are asked, as one trie; or the rule's own answer, an RTN_* with an errno. */
  readonly ask: { readonly tables: readonly number[] } | { readonly type: number }
  readonly to?: Cidr
  readonly from?: Cidr
  readonly inverted: boolean
  /** Routes of this length and shorter ones are passed over; -1: none are. */
  readonly suppress: number
}

const plain = (...tables: number[]): Lookup => ({ ask: { tables }, inverted: false, suppress: -1 })

/**
 * Without rules of its own a namespace has local (255) and main (254) of IPv4 in one trie: a longer prefix in main wins over a shorter one in
 * local. Then comes default (253), which only IPv4 asks.
 */
const untouched = { 4: [plain(255, 254), plain(253)], 6: [plain(255), plain(254)] } as const
const initial: Readonly<Record<4 | 6, readonly string[]>> = { 4: ['0:255', '32766:254', '32767:253'], 6: ['0:255', '32766:254'] }

/** A look-up goes over all rules for each prefix, and a pod makes its own rules. */
const MOST = 128
const MOST_NAMED = 8

const zero: Ip = { family: 4, words: [0, 0, 0, 0] }

export function cidrOf(text: string): Cidr {
  const [base = '', length] = text.split('/')
  const address = parseAddress(base)
  if (address === undefined) throw new TypeError(`not a network: ${text}`)
  return network(address, Number(length))
}

/** A condition that such a socket never meets, whatever the others say. */
const isForOthers = (rule: Rule): boolean => (rule.iif !== undefined && rule.iif !== 'lo') || (rule.mark & rule.mask) !== 0

/** As the kernel makes its own rules. */
const isPlain = (rule: Rule): boolean =>
  rule.action === action.table &&
  !rule.inverted &&
  rule.suppress < 0 &&
  (rule.to ?? rule.from ?? rule.iif) === undefined &&
  rule.mask === 0 &&
  rule.others.length === 0

/** No rules at all: the kernel has no policy routing. For IPv6 it asks local and main until a rule is added, also when theirs are removed. */
function isUntouched(family: 4 | 6, own: readonly Rule[]): boolean {
  if (!own.every(isPlain)) return false
  const text = own.map(({ priority, table }) => `${priority}:${table}`)
  return text.length === 0 || text.join(' ') === initial[family].join(' ') || (family === 6 && text.every((each) => initial[6].includes(each)))
}

const isInitial = (rule: Rule): boolean => isPlain(rule) && initial[rule.family].includes(`${rule.priority}:${rule.table}`)

const isUnknown = (rule: Rule): boolean => rule.others.length > 0 && !isForOthers(rule) && rule.action !== action.nop

/** Those that can say something about a connection of such a socket. */
function effective(own: readonly Rule[]): Rule[] {
  return own.filter((rule) => {
    if (rule.action === action.nop || isUnknown(rule)) return false
    if (isForOthers(rule)) return rule.inverted
    return !rule.inverted || (rule.to ?? rule.from) !== undefined
  })
}

function askOf(rule: Rule): Lookup['ask'] {
  if (rule.action === action.table) return { tables: [rule.table] }
  if (rule.action === action.prohibit) return { type: routeType.prohibit }
  // A rule's "unreachable" is ENETUNREACH, as multicast is for TCP; a route's would be EHOSTUNREACH.
  return { type: rule.action === action.unreachable ? routeType.multicast : routeType.blackhole }
}

function lookupOf(rule: Rule): Lookup {
  const always = isForOthers(rule) // and inverted, or it would not be here
  const { suppress, inverted } = rule
  const ask = askOf(rule)
  if (always) return { ask, suppress, inverted: false }
  return { ask, suppress, inverted, ...(rule.to && { to: cidrOf(rule.to) }), ...(rule.from && { from: cidrOf(rule.from) }) }
}

/** Too many rules do not cost the pod the kernel's own ones, which mostly come last. */
function withinLimit(rules: readonly Rule[]): Rule[] {
  const initials = new Map(rules.filter(isInitial).map((rule) => [rule.priority, rule])) // netlink lets one be added twice
  const taken = new Set([...initials.values(), ...rules.filter((rule) => !isInitial(rule)).slice(0, MOST)])
  return rules.filter((rule) => taken.has(rule))
}

/** In the kernel's order. */
export function lookupsOf(family: 4 | 6, rules: readonly Rule[]): readonly Lookup[] {
  const own = rules.filter((rule) => rule.family === family)
  return isUntouched(family, own) ? untouched[family] : withinLimit(effective(own)).map(lookupOf)
}

/**
 * Whether the rule is for destinations in `prefix`: a part of `prefix` for which it is not is a prefix of its own in the trie. Where the source is
 * still open, IPv4 compares 0.0.0.0, and IPv6 none.
 */
export function isFor({ to, from, inverted }: Lookup, prefix: Cidr, source?: Ip): boolean {
  const known = source ?? (prefix.family === 4 ? zero : undefined)
  const inTo = to === undefined || (to.length <= prefix.length && contains(to, prefix))
  const inFrom = from === undefined || (known !== undefined && contains(from, known))
  return (inTo && inFrom) !== inverted
}

/** An answer of a rule's own, as a route that covers everything. */
export const everything = (family: 4 | 6): Cidr => network({ family, words: zero.words }, 0)

export const isHost = ({ family, length }: Cidr): boolean => length === addressBits(family)

const nameOf = ({ family, priority }: Rule): string => `ip ${family === 4 ? '' : '-6 '}rule ${priority}`

/** The rules that the mirror of routes leaves out though they may match a connection of the pod, each as a sentence. */
export function unmirroredRules({ rules }: { readonly rules: readonly Rule[] }): string[] {
  const named = rules
    .filter(isUnknown)
    .map((rule) => `${nameOf(rule)} (${rule.others.join(', ')}): not mirrored; redirected connections get the routes of the other rules`)
  const tooMany = ([4, 6] as const).flatMap((family) => {
    const own = rules.filter((rule) => rule.family === family)
    const next = effective(own).filter((rule) => !isInitial(rule))[MOST]
    return next === undefined ? [] : [`${nameOf(next)} and those after it: not mirrored; only the kernel's own and ${MOST} others are`]
  })
  const unnamed = named.length - MOST_NAMED
  return [...named.slice(0, MOST_NAMED), ...(unnamed > 0 ? [`${unnamed} more rules of policy routing: not mirrored`] : []), ...tooMany]
}
