/** What a plugin for IPv4 and TCP forgets: IPv6 beside IPv4, UDP beside TCP. */
import { isLoopback, parseAddress } from '../address.ts'
import type { Interception, Rule } from '../plugin.ts'
import { type Connection, decide } from './decide.ts'
import { isFull, membersOf } from './members.ts'

export interface Subject {
  readonly interception: Interception
  /** Addresses of the pod. */
  readonly own: readonly string[]
}

type Family = 'ipv4' | 'ipv6'
const names: Readonly<Record<Family, string>> = { ipv4: 'IPv4', ipv6: 'IPv6' }
const other = (family: Family): Family => (family === 'ipv4' ? 'ipv6' : 'ipv4')
const families: readonly Family[] = ['ipv4', 'ipv6']

/** What was looked at -> what is wrong with it; undefined: nothing. */
type Findings = readonly (readonly [what: string, problem: string | undefined])[]

/** Problems of what is never right: what only an annotation brings about may be meant so. */
function always(subjects: readonly Subject[], look: (subject: Subject) => Findings): string[] {
  const found = new Map<string, string | undefined>()
  for (const [what, problem] of subjects.flatMap(look)) found.set(what, found.has(what) ? problem && found.get(what) : problem)
  return [...new Set([...found.values()].flatMap((problem) => problem ?? []))]
}

/** Sets that have one family whole, and the other one not. */
function halfSets({ interception: { sets = {} } }: Subject): Findings {
  return Object.entries(sets).flatMap(([name, spec]) => {
    const members = membersOf('to', spec)
    return families
      .filter((family) => isFull(members, family))
      .map((family) => {
        const text = `set '${name}' has every ${names[family]} address and not every ${names[other(family)]} address: write '*' for both`
        return [`${name} ${family}`, isFull(members, other(family)) ? undefined : text] as const
      })
  })
}

const isElsewhere = (text: string | false | undefined): boolean => {
  const address = typeof text === 'string' ? parseAddress(text) : undefined
  return address !== undefined && !isLoopback(address)
}

const familyOf = ({ when, unless }: Rule): Family | undefined => when?.family ?? (unless?.family && other(unless.family))

/** Targets outside of loopback for one family, where the other one goes to loopback because nothing was said of it. */
function halfTargets({ interception: { targets = {}, outbound } }: Subject): Findings {
  return Object.entries(targets).flatMap(([name, target]) =>
    families.map((family) => {
      const [here, there] = [names[family], other(family)]
      const forgotten = isElsewhere(target[family]) && target[there] === undefined
      const used = outbound.some((rule) => rule.then === name && familyOf(rule) !== family)
      const text = `target '${name}' sends ${here} to ${target[family]}, and ${names[there]} to loopback, because it has no ${there}: give an address, or false to refuse`
      return [`${name} ${family}`, forgotten && used ? text : undefined] as const
    }),
  )
}

interface Twins {
  readonly what: string
  readonly four: Partial<Connection> & { readonly to: string }
  readonly six: Partial<Connection> & { readonly to: string }
}

const firstOf = (own: readonly string[], family: 4 | 6) => own.find((text) => parseAddress(text)?.family === family)

/** The same connection in both families. */
function twinsOf(own: readonly string[]): Twins[] {
  const [four, six] = [firstOf(own, 4), firstOf(own, 6)]
  return [
    { what: 'to 127.0.0.1 or ::1', four: { to: '127.0.0.1' }, six: { to: '::1' } },
    { what: 'outside, bound to 127.0.0.6 or ::6', four: { to: '192.0.2.77', from: '127.0.0.6' }, six: { to: '2001:db8::77', from: '::6' } },
    { what: 'outside', four: { to: '192.0.2.77' }, six: { to: '2001:db8::77' } },
    ...(four === undefined || six === undefined ? [] : [{ what: "to the pod's own address", four: { to: four }, six: { to: six } }]),
  ]
}

/** The rules up to the one that decides say nothing of families, so a difference is none that they name. */
function isSilent(rules: readonly Rule[], decisive: readonly (string | undefined)[]): boolean {
  const last = Math.max(...decisive.map((name) => (name === undefined ? rules.length : rules.findIndex((rule) => rule.name === name))))
  return rules.slice(0, last + 1).every((rule) => familyOf(rule) === undefined)
}

const anApp = { who: 'an app', ids: { uid: 65_533, gid: 65_533 } }
const callersOf = ({ proxy }: Interception) => [anApp, ...(proxy === undefined ? [] : [{ who: 'the proxy', ids: proxy }])]

/** Connections that are the same but for the family, and get different verdicts. */
function unequalTwins({ interception, own }: Subject): Findings {
  const compare = (title: string, more: Partial<Connection> & { readonly port: number }, { four, six }: Twins) => {
    const [a, b] = [decide(interception, { ...more, ...four }, own), decide(interception, { ...more, ...six }, own)]
    const text = `${title}: IPv4 gets '${a.then}', IPv6 gets '${b.then}', and no rule names a family`
    return [title, a.then !== b.then && isSilent(interception.outbound, [a.rule, b.rule]) ? text : undefined] as const
  }
  return (['tcp', 'udp'] as const).flatMap((proto) =>
    callersOf(interception).flatMap(({ who, ids }) =>
      twinsOf(own).flatMap((twins) =>
        [80, 53].map((port) => compare(`${proto.toUpperCase()} of ${who} ${twins.what}, port ${port}`, { proto, port, ...ids }, twins)),
      ),
    ),
  )
}

export const familyProblems = (subjects: readonly Subject[]): string[] =>
  [halfSets, halfTargets, unequalTwins].flatMap((look) => always(subjects, look))
