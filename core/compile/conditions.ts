/** What each rule of a policy wants, condition by condition, in words: for `explain` and `plan`. Pure. */
import type { SetSpec } from '../plugin.ts'
import type { LocalInterception } from './localize.ts'
import { factNames, type Literal, wantedBy } from './rules.ts'
import type { SetTable } from './sets.ts'

/** One fact that a rule wants on or off. */
export interface Condition {
  /** Bit number in the fact word. */
  readonly bit: number
  readonly wanted: boolean
  readonly use: Literal['use']
  /** "sidecar", "pod", "tcp" */
  readonly name: string
  /** Of a named set, all of them: "uid 1337, gid 1337". */
  readonly members?: string
  /** The kinds of members that a `from` set has, which are what of the connection is compared. */
  readonly kinds: readonly (keyof SetSpec)[]
}

const listed: Readonly<Record<keyof SetSpec, (spec: SetSpec) => readonly string[]>> = {
  ports: ({ ports = [] }) => ports.map(String),
  cidrs: ({ cidrs = [] }) => cidrs,
  uid: ({ uid = [] }) => uid.map((id) => `uid ${id}`),
  gid: ({ gid = [] }) => gid.map((id) => `gid ${id}`),
  mark: ({ mark = [] }) => mark.map(({ value, mask }) => `mark 0x${value.toString(16)}/0x${mask.toString(16)}`),
  cgroup: ({ cgroup = [] }) => cgroup.map((id) => `cgroup ${id}`),
  interfaces: ({ interfaces = [] }) => interfaces.map((name) => `interface ${name}`),
}

/** The kinds of members that count where a rule uses a set. */
const kindsOf: Readonly<Record<'port' | 'to' | 'from', readonly (keyof SetSpec)[]>> = {
  port: ['ports'],
  to: ['cidrs', 'interfaces'],
  from: ['uid', 'gid', 'mark', 'cgroup', 'cidrs', 'interfaces'],
}

function conditionOf({ bit, on, use, name }: Literal, sets: LocalInterception['sets']): Condition {
  const base = { bit: bit.toString(2).length - 1, wanted: on, use, name }
  const isSet = use === 'port' || ((use === 'to' || use === 'from') && !Object.hasOwn(factNames[use], name))
  if (!isSet) return { ...base, kinds: [] }
  const { written, interfaces: _, ...local } = sets[name] ?? {}
  const spec: SetSpec = { ...local, ...written } // as the mesh has it
  const kinds = kindsOf[use].filter((kind) => spec[kind] !== undefined)
  return { ...base, members: kinds.flatMap((kind) => listed[kind](spec)).join(', ') || 'empty', kinds }
}

/** As rules are written elsewhere. */
const order: readonly Literal['use'][] = ['proto', 'family', 'from', 'to', 'port']

/** What must hold first, then what must not. */
const sorted = (conditions: readonly Condition[]): Condition[] =>
  [...conditions].sort((a, b) => Number(negated(a)) - Number(negated(b)) || order.indexOf(a.use) - order.indexOf(b.use))

/** One list for each rule, in the order of describeRules. Every set of the rules must have its bit already. */
export const conditionsOf = (interception: LocalInterception, sets: SetTable): Condition[][] =>
  [...interception.outbound, ...interception.inbound].map((rule) => sorted(wantedBy(rule, sets).map((each) => conditionOf(each, interception.sets))))

// A family is one bit: what is wanted off is the other family, and is said so.
const negated = ({ use, name, wanted }: Condition): boolean => wanted !== (use !== 'family' || name === 'ipv6')

const mostShown = 100

/** "from sidecar (uid 1337, gid 1337)", "not to loopback"; long lists of members are cut. */
export function conditionText(condition: Condition): string {
  const { use, name, members } = condition
  const shown = members !== undefined && members.length > mostShown ? `${members.slice(0, mostShown)}...` : members
  return `${negated(condition) ? 'not ' : ''}${use} ${name}${shown === undefined ? '' : ` (${shown})`}`
}
