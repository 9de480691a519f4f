/** Checks what a plugin returned: shapes, values, and that every name means something. */
import { z } from 'zod'
import { parseAddress } from './address.ts'
import { asList, factNames, ruleTitle } from './compile/rules.ts'
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

const name = z.string().min(1, 'the name is empty')
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

const interception = z.strictObject({
  sets: z.record(name, set).optional(),
  targets: z.record(name, target).optional(),
  outbound: z.array(rule),
  inbound: z.array(rule),
  proxy: z.strictObject({ uid: uint32.optional(), gid: uint32.optional(), mark: uint32.optional() }).optional(),
})

type Direction = 'outbound' | 'inbound'
const directions = ['outbound', 'inbound'] as const

/** "outbound rule 3 'x', when.port" from the path of a schema issue. */
function placeOf(path: readonly PropertyKey[], value: unknown): string {
  const [first, index, ...rest] = path
  if ((first !== 'outbound' && first !== 'inbound') || typeof index !== 'number') return path.map(String).join('.')
  const found = (value as { readonly [key in Direction]?: readonly { readonly name?: unknown }[] })[first]?.[index]?.name
  const title = ruleTitle(first, index, typeof found === 'string' ? found : '')
  return rest.length === 0 ? title : `${title}, ${rest.map(String).join('.')}`
}

const listed = (kind: string, known: Readonly<Record<string, unknown>> | undefined) => `(${kind}: ${Object.keys(known ?? {}).join(', ') || 'none'})`

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

function problemsOfMatch(checked: Match, direction: Direction, sets: Interception['sets']): string[] {
  return (['port', 'to', 'from'] as const).flatMap((use) =>
    asList(checked[use]).flatMap((wanted) => {
      if (use !== 'port' && Object.hasOwn(factNames[use], wanted)) return []
      if (sets === undefined || !Object.hasOwn(sets, wanted)) return [`unknown set '${wanted}' ${listed('sets', sets)}`]
      const reason = misfit(use, sets[wanted] ?? {}, direction)
      return reason === undefined ? [] : [`${use}: set '${wanted}' ${reason}`]
    }),
  )
}

function problemsOfRule(checked: Rule, direction: Direction, { sets, targets }: Interception): string[] {
  const inMatches = [checked.when, checked.unless].flatMap((part) => problemsOfMatch(part ?? {}, direction, sets))
  if (checked.then === 'pass' || checked.then === 'drop') return inMatches
  if (targets === undefined || !Object.hasOwn(targets, checked.then))
    return [...inMatches, `unknown target '${checked.then}' ${listed('targets', targets)}`]
  const portless = direction === 'inbound' && targets[checked.then]?.port === undefined
  return portless
    ? [...inMatches, `target '${checked.then}' has no port; an inbound target's port says which listener takes the connection`]
    : inMatches
}

const reservedSets = [...Object.keys(factNames.to), ...Object.keys(factNames.from)]
const reservedTargets = ['pass', 'drop']

function problemsOfNames(checked: Interception): string[] {
  const reserved = (kind: string, known: Readonly<Record<string, unknown>> = {}, taken: readonly string[]) =>
    taken.filter((word) => Object.hasOwn(known, word)).map((word) => `${kind} '${word}': the name is reserved`)
  const repeated = directions.flatMap((direction) => {
    const all = checked[direction].map((entry) => entry.name)
    return all.flatMap((entry, index) =>
      all.indexOf(entry) < index ? [`${ruleTitle(direction, index, entry)}: another rule has the same name`] : [],
    )
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
  const parsed = interception.safeParse(value)
  if (!parsed.success) {
    return { problems: parsed.error.issues.map(({ path, message }) => (path.length === 0 ? message : `${placeOf(path, value)}: ${message}`)) }
  }
  const checked = parsed.data as Interception
  const inRules = directions.flatMap((direction) =>
    checked[direction].flatMap((entry, index) =>
      problemsOfRule(entry, direction, checked).map((problem) => `${ruleTitle(direction, index, entry.name)}: ${problem}`),
    ),
  )
  const problems = [...problemsOfNames(checked), ...inRules]
  return problems.length === 0 ? { interception: checked } : { problems }
}
