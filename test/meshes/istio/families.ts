/** What decides on IPv6 and DNS: what the environment says, what the options say, and what is known of the pod's name servers. */
import fc from 'fast-check'
import type { MeshOptions } from '../../lab/istio-options.ts'

export interface Families {
  readonly nameservers?: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly options: Pick<MeshOptions, 'dualStack' | 'captureDns' | 'nameservers'>
}

const manyServers: readonly (readonly string[])[] = [
  ['10.96.0.10'],
  ['10.96.0.10', 'fd00:96::10'],
  ['fd00:96::10'],
  ['127.0.0.53'],
  ['10.97.0.10', '::1'],
  ['::ffff:10.96.0.10'],
  [],
]
const servers = fc.constantFrom(...manyServers)

/** Not there at all with a small number in `there`. */
const maybe = <T>(arbitrary: fc.Arbitrary<T>, there: number): fc.Arbitrary<readonly T[]> =>
  fc.oneof({ arbitrary: fc.constant([]), weight: 10 - there }, { arbitrary: arbitrary.map((value) => [value]), weight: there })

const truth = fc.constantFrom('true', 'true', '1', 'false', 'perhaps')
const environment = fc
  .record({
    ISTIO_DUAL_STACK: maybe(truth, 4),
    DUAL_STACK: maybe(truth, 1),
    ISTIO_META_DNS_CAPTURE: maybe(truth, 4),
    REDIRECT_DNS: maybe(truth, 1),
    CAPTURE_ALL_DNS: maybe(truth, 2),
  })
  .map((all) => Object.fromEntries(Object.entries(all).flatMap(([name, [text]]) => (text === undefined ? [] : [[name, text]]))))

const options = fc
  .record({ dualStack: maybe(fc.boolean(), 3), captureDns: maybe(fc.constantFrom('none', 'servers', 'all'), 5), nameservers: maybe(servers, 5) })
  .map((all): Families['options'] =>
    Object.fromEntries(Object.entries(all).flatMap(([name, [value]]) => (value === undefined ? [] : [[name, value]]))),
  )

export const anyFamilies: fc.Arbitrary<Families> = fc
  .record({ nameservers: maybe(servers, 6), env: environment, options })
  .map(({ nameservers: [list], ...rest }) => ({ ...rest, ...(list === undefined ? {} : { nameservers: list }) }))
