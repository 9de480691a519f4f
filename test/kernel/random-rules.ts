/** Rules by chance, for both families and protocols; the same seed gives the same rules. */
import fc from 'fast-check'
import type { Interception, Match, Rule, SetSpec } from '../../core/plugin.ts'

export interface Choice {
  /** Networks and addresses that sets are made of. */
  readonly networks: readonly string[]
  readonly ports: readonly number[]
  readonly uids: readonly number[]
  readonly targets: NonNullable<Interception['targets']>
}

const names = ['a', 'b', 'c'] as const
const name = fc.constantFrom(...names)

const parts: readonly (keyof Match)[] = ['proto', 'family', 'port', 'to', 'from']

/** Few conditions, so that rules match at times. Inbound rules see TCP only, and may not name UDP. */
function match(inbound: boolean, most: number): fc.Arbitrary<Match> {
  const whole = fc.record({
    proto: inbound ? fc.constant('tcp' as const) : fc.constantFrom('tcp' as const, 'udp' as const),
    family: fc.constantFrom('ipv4' as const, 'ipv6' as const),
    port: name,
    to: fc.oneof(name, fc.constantFrom('pod', 'loopback')),
    from: inbound ? fc.constant('callers') : fc.oneof(name, fc.constantFrom('passthrough', 'loopback')),
  })
  return fc.tuple(whole, fc.subarray([...parts], { maxLength: most })).map(([all, some]) => Object.fromEntries(some.map((part) => [part, all[part]])))
}

/** What stands in `when` and in `unless` would never match, and is refused. */
const contradicts = ({ when = {}, unless = {} }: Rule): boolean =>
  (Object.keys(unless) as (keyof Match)[]).some((key) => key === 'family' || unless[key] === when[key])

/** The last one takes what the others leave. */
function rules(inbound: boolean, targets: readonly string[]): fc.Arbitrary<Rule[]> {
  const then = fc.constantFrom('pass', 'pass', 'pass', 'drop', ...targets)
  const some = fc.array(
    fc.record({ when: match(inbound, 2), unless: match(inbound, 1).filter(({ proto }) => !inbound || proto === undefined), then }),
    { minLength: 2, maxLength: 7 },
  )
  return fc.tuple(some, fc.constantFrom('pass', 'pass', ...targets)).map(([first, last]) => {
    const named = first.map((each, index): Rule => ({ name: `rule ${index}`, ...each }))
    return [...named.filter((each) => !contradicts(each)), { name: 'the rest', then: last }]
  })
}

/** Members of its own for each set: equal sets would share a bit, which makes further contradictions. */
const own = (index: number): SetSpec => ({ ports: [60_000 + index], cidrs: [`198.51.100.${index}`, `3fff::${index}`], uid: [60_000 + index] })

export function randomInterceptions({ networks, ports, uids, targets }: Choice, numRuns: number, seed: number): Interception[] {
  const set = fc.record({
    ports: fc.subarray([...ports]),
    cidrs: fc.subarray([...networks], { maxLength: 4 }),
    uid: fc.subarray([...uids]),
  })
  const named = fc.tuple(set, set, set).map((sets) =>
    Object.fromEntries(
      sets.map(({ ports, cidrs, uid }, index) => {
        const { ports: p = [], cidrs: c = [], uid: u = [] } = own(index)
        return [names[index] ?? '', { ports: [...ports, ...p], cidrs: [...cidrs, ...c], uid: [...uid, ...u] }]
      }),
    ),
  )
  const keys = Object.keys(targets)
  const callers = fc.subarray([...networks]).map((cidrs) => ({ callers: { cidrs: [...cidrs, '198.51.100.9'] } }))
  const sets = fc.tuple(named, callers).map(([a, b]) => ({ ...a, ...b }))
  const arbitrary = fc.record({ sets, targets: fc.constant(targets), outbound: rules(false, keys), inbound: rules(true, keys) })
  return fc.sample(arbitrary, { numRuns, seed })
}
