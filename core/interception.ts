/** Checks what a plugin returned: shapes, values, and that every name means something. */
import { z } from 'zod'
import { isSpare, parseAddress } from './address.ts'
import { asList, factNames, ruleTitle } from './compile/rules.ts'
import { firstOf, meantBy, shapeProblems } from './interception-issues.ts'
import { cidrSpec, idSpec, portSpec } from './kit.ts'
import type { Interception, Match, Rule, SetSpec } from './plugin.ts'

const uint32 = z.int().min(0).max(0xffffffff)

const set = z.strictObject({
  ports: z.array(portSpec).optional(),
  cidrs: z.array(cidrSpec).optional(),
  uid: z.array(idSpec).optional(),
  gid: z.array(idSpec).optional(),
  mark: z
    .array(
      z
        .strictObject({ value: uint32, mask: uint32 })
        .refine(({ value, mask }) => (value & mask) >>> 0 === value, 'the value has bits outside its mask, so it can never match'),
    )
    .optional(),
  cgroup: z.array(z.bigint().min(0n).max(0xffffffffffffffffn)).optional(),
  interfaces: z
    .array(z.string().regex(/^[^\s/]{1,15}$/, 'expected the name of a network interface: 1 to 15 characters, no space, no "/"'))
    .optional(),
})

const name = z.string().min(1, 'the name is empty').max(200, 'the name has more than 200 characters')
const names = z.union([name, z.array(name).min(1)], { error: 'expected a name or a list of names' }).optional()

const match = z.strictObject({
  proto: z.enum(['tcp', 'udp']).optional(),
  family: z.enum(['ipv4', 'ipv6']).optional(),
  port: names,
  to: names,
  from: names,
})

const rule = z.strictObject({ name, when: match.optional(), unless: match.optional(), then: name })

const addressOf = (family: 4 | 6) =>
  z.union([z.literal(false), z.string().refine((text) => parseAddress(text)?.family === family, `expected an IPv${family} address or false`)], {
    error: `expected an IPv${family} address or false`,
  })

const target = z
  .strictObject({ port: z.int().min(1).max(65535).optional(), ipv4: addressOf(4).optional(), ipv6: addressOf(6).optional() })
  .refine(({ ipv4, ipv6 }) => ipv4 !== false || ipv6 !== false, 'it has no address: ipv4 and ipv6 are both false')

/** A plugin can take nobody's address. */
const loopbackAddress = z.string().refine((text) => {
  const address = parseAddress(text)
  return address !== undefined && isSpare(address)
}, "expected an IPv6 address in ::/96, such as '::6', other than '::' and '::1'")

const interception = z.strictObject({
  sets: z.record(name, set).optional(),
  targets: z.record(name, target).optional(),
  outbound: z.array(rule),
  inbound: z.array(rule),
  proxy: z.strictObject({ uid: uint32.optional(), gid: uint32.optional(), mark: uint32.optional() }).optional(),
  loopbackAddresses: z.array(loopbackAddress).max(4, 'expected at most 4 addresses').optional(),
})

type Direction = 'outbound' | 'inbound'
const directions = ['outbound', 'inbound'] as const

const reservedSets = [...Object.keys(factNames.to), ...Object.keys(factNames.from)]
const reservedTargets = ['pass', 'drop']

const maxListed = 20

/** What the name probably means, and which names there are. */
function among(kind: string, word: string, known: Readonly<Record<string, unknown>> = {}, besides: readonly string[] = []): string {
  const names = Object.keys(known)
  const shown = names.length > maxListed ? `${names.slice(0, maxListed).join(', ')}, ...` : names.join(', ') || 'none'
  return `${meantBy(word, [...names, ...besides])} (${kind}: ${shown})`
}

const ownerKinds = ['uid', 'gid', 'mark', 'cgroup'] as const

/** Where a set with interfaces may stand: the way out is known of connections that the pod makes, the way in of those that reach it. */
const interfaceUse = { outbound: 'to', inbound: 'from' } as const

/** Why the set does not fit where it is used; undefined: it fits. */
function misfit(use: 'port' | 'to' | 'from', spec: SetSpec, direction: Direction): string | undefined {
  if (use === 'port') return spec.ports === undefined ? 'has no ports' : undefined
  const fitsHere = interfaceUse[direction] === use
  if (spec.interfaces !== undefined && !fitsHere)
    return `has interfaces, which ${direction} rules match in '${interfaceUse[direction]}:' only; put them into a set of their own`
  const addressed = spec.cidrs !== undefined || spec.interfaces !== undefined
  if (use === 'to') return addressed ? undefined : `has no cidrs${fitsHere ? ' and no interfaces' : ''}`
  const owners = ownerKinds.filter((kind) => spec[kind] !== undefined)
  if (direction === 'inbound' && owners.length > 0)
    return `has ${owners.join(', ')}, which a connection from outside the pod does not have; use cidrs or interfaces`
  if (addressed || owners.length > 0) return undefined
  return direction === 'inbound' ? 'has none of cidrs, interfaces' : 'has none of cidrs, uid, gid, mark, cgroup'
}

function problemsOfMatch(part: 'when' | 'unless', checked: Match, direction: Direction, sets: Interception['sets']): string[] {
  return (['port', 'to', 'from'] as const).flatMap((use) =>
    asList(checked[use]).flatMap((wanted) => {
      if (use !== 'port' && Object.hasOwn(factNames[use], wanted)) return []
      if (sets === undefined || !Object.hasOwn(sets, wanted))
        return [`${part}.${use}: unknown set '${wanted}'${among('sets', wanted, sets, use === 'port' ? [] : Object.keys(factNames[use]))}`]
      const reason = misfit(use, sets[wanted] ?? {}, direction)
      return reason === undefined ? [] : [`${part}.${use}: set '${wanted}' ${reason}`]
    }),
  )
}

/** Inbound rules see TCP; one for UDP alone would never decide, and its author should know. */
function problemsOfProtocol({ when, unless }: Rule, direction: Direction): string[] {
  if (direction === 'outbound') return []
  if (when?.proto === 'udp') return ["when.proto: inbound rules see TCP only, so 'udp' never matches; leave the rule out"]
  return unless?.proto === 'tcp' ? ["unless.proto: inbound rules see TCP only, so all but 'tcp' never matches; leave the rule out"] : []
}

function problemsOfRule(checked: Rule, direction: Direction, { sets, targets }: Interception): string[] {
  const ofMatches = (['when', 'unless'] as const).flatMap((part) => problemsOfMatch(part, checked[part] ?? {}, direction, sets))
  const inMatches = [...problemsOfProtocol(checked, direction), ...ofMatches]
  if (checked.then === 'pass' || checked.then === 'drop') return inMatches
  if (targets === undefined || !Object.hasOwn(targets, checked.then))
    return [...inMatches, `then: unknown target '${checked.then}'${among('targets', checked.then, targets, reservedTargets)}`]
  const portless = direction === 'inbound' && targets[checked.then]?.port === undefined
  return portless
    ? [...inMatches, `then: target '${checked.then}' has no port; an inbound target's port says which listener takes the connection`]
    : inMatches
}

function problemsOfNames(checked: Interception): string[] {
  const reserved = (kind: string, known: Readonly<Record<string, unknown>> = {}, taken: readonly string[]) =>
    taken.filter((word) => Object.hasOwn(known, word)).map((word) => `${kind} '${word}': the name is reserved`)
  const repeated = directions.flatMap((direction) => {
    const first = new Map<string, number>()
    return checked[direction].flatMap((entry, index) => {
      const before = first.get(entry.name)
      if (before === undefined) first.set(entry.name, index)
      return before === undefined ? [] : [`${ruleTitle(direction, index, entry.name)}: rule ${before} has the same name`]
    })
  })
  return [...reserved('set', checked.sets, reservedSets), ...reserved('target', checked.targets, reservedTargets), ...repeated]
}

/** Some inbound rule asks by which interface a connection came in. */
export function asksForArrival({ sets = {}, inbound }: Interception): boolean {
  const names = inbound.flatMap(({ when, unless }) => [...asList(when?.from), ...asList(unless?.from)])
  return names.some((wanted) => Object.hasOwn(sets, wanted) && sets[wanted]?.interfaces !== undefined)
}

/** The checked value, or everything that is wrong with it, one sentence each. */
export function checkInterception(value: unknown): { readonly interception: Interception } | { readonly problems: readonly string[] } {
  const parsed = interception.safeParse(value, { error: () => '', reportInput: false })
  if (!parsed.success) return { problems: firstOf(shapeProblems(parsed.error.issues, value)) }
  const checked = parsed.data as Interception
  const inRules = directions.flatMap((direction) =>
    checked[direction].flatMap((entry, index) =>
      problemsOfRule(entry, direction, checked).map((problem) => `${ruleTitle(direction, index, entry.name)}: ${problem}`),
    ),
  )
  const problems = [...problemsOfNames(checked), ...inRules]
  return problems.length === 0 ? { interception: checked } : { problems: firstOf(problems) }
}
